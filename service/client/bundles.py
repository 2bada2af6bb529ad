"""What `up` has to know of a bundle without loading it."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from service.client.local import UpError


def check_bundle(path: Path) -> Mapping[str, Any]:
    """Read a bundle's `model.json`; whether it can be served is for the service to find out.

    Raises:
        UpError: there is none.
    """
    try:
        manifest = json.loads((path / "model.json").read_bytes())
    except (OSError, ValueError) as error:
        raise UpError(f"{path} is not a bundle ({error}); make one: modeltrace pack --help") from None
    if not isinstance(manifest, dict):
        raise UpError(f"{path} is not a bundle (its model.json is no object); make one: modeltrace pack --help")
    return manifest


def example_bundle(path: Path) -> Path:
    """The example's bundle, built at first use and again when the libraries have changed since."""
    if not _is_current(path):
        # Imported when it is needed: scikit-learn takes a second.
        from service.inference.example import build_example  # noqa: PLC0415  see above

        build_example(path, force=True)
    return path


def _is_current(path: Path) -> bool:
    try:
        libraries = check_bundle(path)["libraries"]
        return all(_installed(name) == recorded for name, recorded in libraries.items())
    except (UpError, KeyError, AttributeError):
        return False


def _installed(name: str) -> str | None:
    if name == "python":
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return None
