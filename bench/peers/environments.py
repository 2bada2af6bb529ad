"""An environment of its own for each peer, below the user's cache folder: made by the bench, once, and kept."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs

# The Python found is the one used, and the system's certificates are trusted, as ./dev does it.
UV_ENVIRONMENT = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true"}
PROJECT_UV = Path(__file__).parents[2] / ".tools" / "uv" / "bin" / "uv"


class InstallError(Exception):
    """A peer cannot be installed here; the message is one line."""


def create_environment(name: str, requirements: Sequence[str], on_progress: Callable[[str], None]) -> Path:
    """The Python of an environment with exactly these requirements; it is made unless it is there.

    Raises:
        InstallError: the installer failed.
    """
    content = "\n".join([sys.version, *requirements])
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    folder = platformdirs.user_cache_path("modeltrace") / "bench" / "peers" / f"{name}-{digest}"
    python = folder / "bin" / "python"
    finished = folder / "requirements.txt"  # written last: without it, an installation was broken off
    if finished.exists():
        return python
    on_progress(f"installing {name} …")
    shutil.rmtree(folder, ignore_errors=True)
    for command in _install_commands(folder, python, requirements):
        done = subprocess.run(
            command, env={**UV_ENVIRONMENT, **os.environ}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise InstallError(f"cannot install {name}: {_shorten(done.stderr)}")
    finished.write_text(content + "\n")
    return python


def _install_commands(folder: Path, python: Path, requirements: Sequence[str]) -> list[list[str]]:
    """The commands that make an environment and fill it: uv's where there is one, else those that Python has."""
    uv = os.environ.get("UV") or shutil.which("uv") or (str(PROJECT_UV) if PROJECT_UV.exists() else None)
    if uv is None:
        return [
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", *requirements],
        ]
    return [
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *requirements],
    ]


def _shorten(text: str) -> str:
    """What an installer says in many lines, in one."""
    return " ".join(text.split())[:300] or "the installer says nothing"
