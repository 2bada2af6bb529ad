"""An environment of its own for each library, below the user's cache folder: made once, by its lock, and kept."""

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
# The Python found is the one used, and the system's certificates are trusted, as pip does it.
_UV: Final = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true"}
_MAX_MESSAGE: Final = 400


class VenvError(ModeltraceError):
    """The environment of a library is not there and cannot be made."""


@dataclass(frozen=True, slots=True)
class Library:
    """A library of the field, and what it takes to run it.

    `latest` is the last minor version of Python 3 that has wheels of all that its lock names, `None` if any has.
    """

    name: str
    title: str
    size: str
    max_python_minor: int | None = None


EVIDENTLY: Final = Library("evidently", "Evidently", "700 MB")
ALIBI: Final = Library("alibi", "Alibi Detect", "2 GB", max_python_minor=12)
WHYLOGS: Final = Library("whylogs", "whylogs", "300 MB", max_python_minor=12)


def lock_file(library: Library) -> Path:
    """The file with every requirement and its hash: beside this module once installed, in `locks` in a checkout."""
    installed = Path(str(files("modeltrace.report"))) / "locks" / f"{library.name}.lock"
    return installed if installed.exists() else REPOSITORY / "locks" / installed.name


def ensure_venv(library: Library, on_message: Callable[[str], None]) -> Path:
    """The Python of an environment with exactly what the library's lock names; it is made unless it is there.

    Several may make it at the same time: each makes one of its own, and the first to be done gives it its name.

    Raises:
        EnvironmentMissingError: there is no fitting Python, or the installer failed.
    """
    lock = lock_file(library)
    python, version = _find_python(library)
    wanted = b"\n".join([lock.read_bytes(), version.encode(), platform.machine().encode()])
    folder = _cache_folder() / f"{library.name}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    if (folder / "bin" / "python").exists():
        return folder / "bin" / "python"
    on_message(f"installing {library.title}, this once: about {library.size} in {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(mkdtemp(prefix=f".{library.name}-", dir=folder.parent))
    except OSError as error:
        raise VenvError(f"{folder} cannot be made: {error.strerror or error}") from None
    try:
        for command in _install_commands(fresh, python, lock):
            done = subprocess.run(  # noqa: S603  an installer, on our own lock
                command, env={**_UV, **os.environ}, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise VenvError(_failure_message(library, done.stderr))
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.exists():  # another one was first otherwise
                raise
    except OSError as error:
        raise VenvError(_failure_message(library, str(error))) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder / "bin" / "python"


def _cache_folder() -> Path:
    return platformdirs.user_cache_path("modeltrace") / "reports"


def _find_python(library: Library) -> tuple[str, str]:
    """A Python that the library has wheels for, this one if it can be, and its version."""
    here = sys.version_info[:2]
    if library.max_python_minor is None or here[1] <= library.max_python_minor:
        return sys.executable, f"{here[0]}.{here[1]}"
    versions = [f"3.{minor}" for minor in range(library.max_python_minor, 10, -1)]
    for version in versions:
        if found := shutil.which(f"python{version}"):
            return found, version
    raise VenvError(
        f"{library.title} has no release for Python {here[0]}.{here[1]}, and no {' or '.join(versions)} is on PATH. "
        f"Install one, or name a Python that has {library.title} with --python"
    )


def _install_commands(folder: Path, python: str, lock: Path) -> Sequence[Sequence[str]]:
    """The commands that make an environment and fill it: uv's where there is one, else those that Python has."""
    inside = str(folder / "bin" / "python")
    beside = REPOSITORY / ".tools" / "uv" / "bin" / "uv"
    uv = os.environ.get("UV") or shutil.which("uv") or (str(beside) if beside.exists() else None)
    if uv is None:
        pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        return [[python, "-m", "venv", "--clear", str(folder)], [*pip, "--no-deps", "--requirement", str(lock)]]
    return [
        [uv, "venv", "--quiet", "--clear", "--no-project", "--python", python, str(folder)],
        [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", inside, str(lock)],
    ]


def _failure_message(library: Library, said: str) -> str:
    gist = " ".join(said.split())[:_MAX_MESSAGE] or "the installer says nothing"
    return (
        f"cannot install {library.title}: {gist}. It is installed once, from PyPI: try again with a network, or name a "
        f"Python that has {library.title} with --python"
    )
