"""Make the files that skops writes reproducible: the same estimator always gives the same bytes.

The SHA-256 of its file identifies a model, so equal estimators must give equal files. Three things prevent this: skops
uses memory addresses as numbers of objects and names of files, a ZIP archive stores the time of each entry, and the
nodes of a tree contain uninitialized padding bytes.
"""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, Final
from zipfile import ZipFile, ZipInfo

import numpy as np

SCHEMA_FILE: Final = "schema.json"


def canonicalize(raw: bytes) -> bytes:
    """Return an equivalent skops archive whose objects and files are numbered in the order of the schema."""
    numbers = dict[int, int]()
    names = dict[str, str]()
    sink = io.BytesIO()
    with ZipFile(io.BytesIO(raw)) as archive, ZipFile(sink, "w") as written:
        state = json.loads(archive.read(SCHEMA_FILE))
        files = {*archive.namelist()} - {SCHEMA_FILE}
        for node in _walk_objects(state):
            # A dict of the estimator may also contain these keys. Their values are then nodes, not numbers or names.
            if isinstance(number := node.get("__id__"), int):
                node["__id__"] = numbers.setdefault(number, len(numbers) + 1)
            if isinstance(name := node.get("file"), str) and name in files:
                node["file"] = names.setdefault(name, f"{len(names) + 1}{PurePath(name).suffix}")
        for name, new in names.items():
            content = archive.read(name)
            written.writestr(ZipInfo(new), _zero_padding(content) if new.endswith(".npy") else content)
        written.writestr(ZipInfo(SCHEMA_FILE), json.dumps(state, indent=2))
    return sink.getvalue()


def rename_modules(raw: bytes, rename: Callable[[str], str]) -> bytes:
    """Return the same archive with other names of modules."""
    sink = io.BytesIO()
    with ZipFile(io.BytesIO(raw)) as archive, ZipFile(sink, "w") as written:
        state = json.loads(archive.read(SCHEMA_FILE))
        for node in _walk_objects(state):
            if isinstance(module := node.get("__module__"), str):
                node["__module__"] = rename(module)
        for name in archive.namelist():
            written.writestr(ZipInfo(name), json.dumps(state) if name == SCHEMA_FILE else archive.read(name))
    return sink.getvalue()


def set_comment(raw: bytes, comment: bytes) -> bytes:
    """Return the same archive with a comment, which ends the file."""
    sink = io.BytesIO(raw)
    with ZipFile(sink, "a") as archive:
        archive.comment = comment
    return sink.getvalue()


def _zero_padding(raw: bytes) -> bytes:
    """Set the padding bytes of a structured array in a .npy file to zero."""
    array = np.load(io.BytesIO(raw))
    if array.dtype.names is None:
        return raw
    clean = np.zeros(array.shape, array.dtype, order="F" if np.isfortran(array) else "C")
    for name in array.dtype.names:
        clean[name] = array[name]
    # Do not use np.save(): it copies the array, and the padding of the copy is uninitialized again.
    return raw[: -array.nbytes] + clean.tobytes("A") if array.nbytes else raw


def _walk_objects(state: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  any JSON
    """Yield all objects of a JSON document in document order."""
    stack = [state]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack += reversed(value.values())
        elif isinstance(value, list):
            stack += reversed(value)
