"""Install packages of a lock file into a folder of their own: programs that PyPI distributes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from stack.errors import BuildError


def install_locked(lock: Path, folder: Path) -> None:
    """Install the packages of a lock file, without their dependencies, with uv or with pip.

    `./dev` sets the variable UV to its uv.

    Raises:
        BuildError: a package could not be installed, or does not match its hash.
    """
    uv = os.environ.get("UV") or shutil.which("uv")
    installer = [uv, "pip", "install"] if uv else [sys.executable, "-m", "pip", "install"]
    done = subprocess.run(
        [*installer, "--quiet", "--no-deps", "--target", str(folder), "--require-hashes", "--requirement", str(lock)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"the packages of {lock} could not be installed: {done.stderr.strip()[-300:]}")
