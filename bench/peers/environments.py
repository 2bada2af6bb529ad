"""Create a virtual environment for each peer in the cache folder of the user. Existing ones are used again."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs

# Use the installed Python and trust the certificates of the system, as ./dev does.
UV_ENVIRONMENT = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true"}
PROJECT_UV = Path(__file__).parents[2] / ".tools" / "uv" / "bin" / "uv"


class InstallError(Exception):
    """A peer cannot be installed. The message is one line."""


def create_environment(name: str, requirements: Sequence[str], on_progress: Callable[[str], None]) -> Path:
    """Return the Python of an environment with these requirements. Create the environment if it does not exist.

    Raises:
        InstallError: the installer failed.
    """
    content = "\n".join([sys.version, *requirements])
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    folder = platformdirs.user_cache_path("modeltrace") / "bench" / "peers" / f"{name}-{digest}"
    python = folder / "bin" / "python"
    finished = folder / "requirements.txt"  # written last, so it is absent after an interrupted installation
    if finished.exists():
        return python
    on_progress(f"installing {name} …")
    shutil.rmtree(folder, ignore_errors=True)
    for command in _install_commands(folder, python, requirements):
        process = subprocess.run(
            command, env={**UV_ENVIRONMENT, **os.environ}, capture_output=True, text=True, check=False
        )
        if process.returncode:
            raise InstallError(f"cannot install {name}: {_shorten(process.stderr)}")
    finished.write_text(content + "\n")
    return python


def _install_commands(folder: Path, python: Path, requirements: Sequence[str]) -> list[list[str]]:
    """Return the commands that create an environment and install packages, with uv if available, else with pip."""
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
    """Shorten the output of an installer to one line."""
    return " ".join(text.split())[:300] or "the installer printed no message"
