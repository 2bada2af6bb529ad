"""Create a virtual environment for each library in the user's cache folder, from its lock file."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import platformdirs

from modeltrace.errors import ModeltraceError

REPOSITORY: Final = Path(__file__).parents[3]
# uv uses an installed Python, and trusts the system's certificates as pip does.
_UV_ENV: Final = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true"}
_MAX_MESSAGE: Final = 400


class VenvError(ModeltraceError):
    """The virtual environment of a library cannot be created."""


@dataclass(frozen=True, slots=True)
class Library:
    """A library that makes reports."""

    name: str  # the name of the lock file
    title: str  # the name for people
    size: str  # the size of the virtual environment
    # the last minor version of Python 3 with wheels of all locked packages; `None` for any
    max_python_minor: int | None = None


EVIDENTLY: Final = Library("evidently", "Evidently", "700 MB")
ALIBI: Final = Library("alibi", "Alibi Detect", "2 GB", max_python_minor=12)
WHYLOGS: Final = Library("whylogs", "whylogs", "300 MB", max_python_minor=12)


def lock_file(library: Library) -> Path:
    """Return the lock file of a library. It is next to an installed module, or in the folder `locks` of a checkout."""
    installed = Path(str(files("modeltrace.report"))) / "locks" / f"{library.name}.lock"
    return installed if installed.exists() else REPOSITORY / "locks" / installed.name


def ensure_venv(library: Library, on_message: Callable[[str], None]) -> Path:
    """Return the Python of the library's virtual environment. Create the environment if necessary.

    Several processes may create it at the same time. Each process creates a temporary folder, and the first one that
    finishes renames its folder.

    Raises:
        VenvError: there is no suitable Python, or the installer failed.
    """
    lock = lock_file(library)
    python, version = _find_python(library)
    key = b"\n".join([lock.read_bytes(), version.encode(), platform.machine().encode()])
    cache = platformdirs.user_cache_path("modeltrace") / "reports"
    folder = cache / f"{library.name}-{hashlib.sha256(key).hexdigest()[:12]}"
    if (folder / "bin" / "python").exists():
        return folder / "bin" / "python"
    on_message(f"installing {library.title} once: about {library.size} in {folder}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        fresh = Path(mkdtemp(prefix=f".{library.name}-", dir=cache))
    except OSError as error:
        raise VenvError(f"{folder} cannot be created: {error.strerror or error}") from None
    try:
        for command in _install_commands(fresh, python, lock):
            process = subprocess.run(  # noqa: S603  an installer with a lock file of this package
                command, env={**_UV_ENV, **os.environ}, capture_output=True, text=True, check=False
            )
            if process.returncode:
                raise VenvError(_failure_message(library, process.stderr))
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.exists():  # if it exists, another process was first
                raise
    except OSError as error:
        raise VenvError(_failure_message(library, str(error))) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder / "bin" / "python"


def _find_python(library: Library) -> tuple[str, str]:
    """Return a Python that the library supports, preferably the running one, and its version."""
    major, minor = sys.version_info[:2]
    if library.max_python_minor is None or minor <= library.max_python_minor:
        return sys.executable, f"{major}.{minor}"
    versions = [f"3.{older}" for older in range(library.max_python_minor, 10, -1)]
    for version in versions:
        if path := shutil.which(f"python{version}"):
            return path, version
    raise VenvError(
        f"{library.title} has no release for Python {major}.{minor}, and no {' or '.join(versions)} is on PATH. "
        f"Install one, or name a Python that has {library.title} with --python"
    )


def _install_commands(folder: Path, python: str, lock: Path) -> Sequence[Sequence[str]]:
    """Return the commands that create an environment: with uv if it is installed, otherwise with venv and pip."""
    venv_python = str(folder / "bin" / "python")
    bundled_uv = REPOSITORY / ".tools" / "uv" / "bin" / "uv"
    uv = os.environ.get("UV") or shutil.which("uv") or (str(bundled_uv) if bundled_uv.exists() else None)
    if uv is None:
        pip = [venv_python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        return [[python, "-m", "venv", "--clear", str(folder)], [*pip, "--no-deps", "--requirement", str(lock)]]
    return [
        [uv, "venv", "--quiet", "--clear", "--no-project", "--python", python, str(folder)],
        [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", venv_python, str(lock)],
    ]


def _failure_message(library: Library, output: str) -> str:
    reason = " ".join(output.split())[:_MAX_MESSAGE] or "the installer printed no message"
    return (
        f"cannot install {library.title}: {reason}. It is installed once, from PyPI: try again with a network, or name "
        f"a Python that has {library.title} with --python"
    )
