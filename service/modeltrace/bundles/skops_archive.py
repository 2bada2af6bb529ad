"""What skops writes, without what differs each time that it does.

skops numbers objects and names files by their addresses in memory, a ZIP archive has the time of each entry, and the
nodes of a tree have bytes between their fields that nobody sets. A model is known by the SHA-256 of its file, so one
that is packed again must become the same file.
"""

import io
import json
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final
from zipfile import ZipFile, ZipInfo

import numpy as np

SCHEMA_FILE: Final = "schema.json"


def canonicalize(raw: bytes) -> bytes:
    """Return an archive of skops that says the same, whenever and wherever it was written.

    Objects and files are numbered in the order of the schema.
    """
    numbers = dict[int, int]()
    names = dict[str, str]()
    sink = io.BytesIO()
    with ZipFile(io.BytesIO(raw)) as archive, ZipFile(sink, "w") as written:
        state = json.loads(archive.read(SCHEMA_FILE))
        files = {*archive.namelist()} - {SCHEMA_FILE}
        for node in _walk_objects(state):
            # A dict of the estimator may have these keys, too; what it has there is a node.
            if isinstance(number := node.get("__id__"), int):
                node["__id__"] = numbers.setdefault(number, len(numbers) + 1)
            if isinstance(name := node.get("file"), str) and name in files:
                node["file"] = names.setdefault(name, f"{len(names) + 1}{PurePath(name).suffix}")
        for name, new in names.items():
            content = archive.read(name)
            written.writestr(ZipInfo(new), _zero_padding(content) if new.endswith(".npy") else content)
        written.writestr(ZipInfo(SCHEMA_FILE), json.dumps(state, indent=2))
    return sink.getvalue()


def _zero_padding(raw: bytes) -> bytes:
    """Return an array's file with zeros between the fields of its elements; other arrays have no such bytes."""
    array = np.load(io.BytesIO(raw))
    if array.dtype.names is None:
        return raw
    clean = np.zeros(array.shape, array.dtype, order="F" if np.isfortran(array) else "C")
    for name in array.dtype.names:
        clean[name] = array[name]
    # np.save() writes elements one by one, and so such bytes again.
    return raw[: -array.nbytes] + clean.tobytes("A") if array.nbytes else raw


def _walk_objects(state: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  any JSON
    """All objects of a JSON document, in the order in which they are written."""
    left = [state]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left += reversed(value.values())
        elif isinstance(value, list):
            left += reversed(value)
