"""What `up` has to know of a bundle without loading it."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modeltrace.bundles.file_names import GENERATOR_FILE
from modeltrace.client.service import FEATURES_ADAPTER
from modeltrace.local.plan import UpError
from modeltrace.regular_files import MAX_MANIFEST_BYTES, read_regular


def read_raw_manifest(path: Path) -> Mapping[str, Any]:
    """Read a bundle's `model.json`; whether it can be served is for the service to find out.

    Raises:
        UpError: there is none.
    """
    try:
        manifest = json.loads(read_regular(path / "model.json", max_bytes=MAX_MANIFEST_BYTES))
    except OSError as error:
        raise _no_bundle(path, os.strerror(error.errno) if error.errno else str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _no_bundle(path, f"no JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise _no_bundle(path, "not an object")
    return manifest


def _no_bundle(path: Path, reason: str) -> UpError:
    return UpError(f"no bundle at {path}: model.json: {reason} (`modeltrace pack` makes one)")


def build_example(path: Path) -> None:
    """Build the example's bundle, in place of one that may be there."""
    # Imported when it is needed: scikit-learn takes seconds.
    from modeltrace.bundles import example  # noqa: PLC0415  see above

    example.build_example(path, force=True)


def example_is_current(path: Path) -> bool:
    """Whether the example is there, made with exactly the libraries installed here, described as this version does."""
    try:
        manifest = read_raw_manifest(path)
        FEATURES_ADAPTER.validate_python(manifest["features"])
        installed = all(_installed(name) == recorded for name, recorded in manifest["libraries"].items())
        return installed and (path / GENERATOR_FILE).is_file()
    except (UpError, KeyError, AttributeError, ValidationError):
        return False


def _installed(name: str) -> str | None:
    if name == "python":
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return None
