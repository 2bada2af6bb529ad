"""Read the manifest of a bundle without loading its model."""

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
    """Read a bundle's `model.json` without validating it; the service does that.

    Raises:
        UpError: there is no such file, or it is not a JSON object.
    """
    try:
        manifest = json.loads(read_regular(path / "model.json", max_bytes=MAX_MANIFEST_BYTES))
    except OSError as error:
        raise _no_bundle_error(path, os.strerror(error.errno) if error.errno else str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _no_bundle_error(path, f"not JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise _no_bundle_error(path, "not an object")
    return manifest


def _no_bundle_error(path: Path, reason: str) -> UpError:
    return UpError(f"no bundle at {path}: model.json: {reason} (`modeltrace pack` makes one)")


def build_example(path: Path) -> None:
    """Build the bundle of the example, replacing an existing one."""
    # Imported here: importing scikit-learn takes seconds.
    from modeltrace.bundles import example  # noqa: PLC0415  see above

    example.build_example(path, force=True)


def example_is_current(path: Path) -> bool:
    """Return whether the example exists and was built by this version with the installed libraries."""
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
