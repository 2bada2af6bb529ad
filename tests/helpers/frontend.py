"""The tools of the hub's frontend: its npm packages, installed once and cached, and a build in a temporary folder."""

import hashlib
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import platformdirs
import pytest

FRONTEND: Final = Path(__file__).parent.parent.parent / "hub" / "frontend"
STEP_SECONDS: Final = 600


def node_modules() -> Path:
    """Return the folder of the npm packages that hub/frontend/package-lock.json pins.

    Raises:
        pytest.skip.Exception: Node.js is missing, or the packages cannot be downloaded.
    """
    folder = _install()
    if isinstance(folder, str):
        pytest.skip(folder)
    return folder


def run_npm(script: str, folder: Path, *arguments: str) -> None:
    """Copy the sources to a folder and run a script of package.json there.

    Raises:
        AssertionError: the script fails; the message is its output.
        pytest.skip.Exception: Node.js is missing, or the packages cannot be downloaded.
    """
    packages = node_modules()
    if not folder.exists():
        shutil.copytree(FRONTEND, folder, ignore=shutil.ignore_patterns("node_modules"))
        (folder / "node_modules").symlink_to(packages)
    run = _run(["npm", "run", "--silent", script, "--", *arguments], folder)
    assert run.returncode == 0, run.stdout + run.stderr


@cache
def _install() -> Path | str:
    """Return the folder of the packages, or the reason why there is none."""
    if absent := [tool for tool in ("node", "npm") if shutil.which(tool) is None]:
        return f"{', '.join(absent)} on PATH, to build the scripts of the hub's pages"
    files = [FRONTEND / name for name in ("package.json", "package-lock.json", ".npmrc")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    target = platformdirs.user_cache_path("modeltrace") / "frontend" / digest
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent) as work:
            for file in files:
                shutil.copy(file, work)
            run = _run(["npm", "ci"], Path(work))
            if run.returncode:
                return f"the npm packages of hub/frontend, whose download failed: {run.stderr.strip()[:300]}"
            if not target.exists():  # another process may have installed them meanwhile
                target.mkdir()
                Path(work, "node_modules").rename(target / "node_modules")
    return target / "node_modules"


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=STEP_SECONDS, check=False)
