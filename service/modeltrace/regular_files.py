"""Read files of untrusted folders: only regular files inside the folder are opened.

A device or a pipe may never end, and a symbolic link may point to any file of this machine.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

# Limit of a bundle's model.json, which contains the category levels.
MAX_MANIFEST_BYTES: Final = 64 * 2**20


class NotRegularError(OSError):
    """The path is not a regular file inside its folder, or the file is too large; the message says which."""


def stat_regular(path: Path) -> os.stat_result:
    """Return the status of a regular file. A symbolic link must point to a file inside the folder of the link.

    Raises:
        NotRegularError: the path is not a regular file inside its folder.
        OSError: the file does not exist or is not accessible.
    """
    return _resolve(path)[1]


def open_regular(path: Path, *, max_bytes: int | None = None) -> BufferedReader:
    """Open a regular file of at most `max_bytes` bytes for reading.

    Raises:
        NotRegularError: the path is not a regular file inside its folder, or the file is larger.
        OSError: the file cannot be opened.
    """
    real, _ = _resolve(path)
    # The file may have been replaced since: a link is not followed, and a pipe does not block.
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _check_regular(path, status)
        if max_bytes is not None and status.st_size > max_bytes:
            raise NotRegularError(f"{path} has {status.st_size:,} bytes, the limit is {max_bytes:,}: not read")
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, *, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes` bytes.

    Raises:
        NotRegularError: the path is not a regular file inside its folder, or the file is larger.
        OSError: the file cannot be read.
    """
    with open_regular(path, max_bytes=max_bytes) as file:
        return file.read(max_bytes + 1)


def _resolve(path: Path) -> tuple[Path, os.stat_result]:
    try:
        real, folder = path.resolve(strict=True), path.parent.resolve(strict=True)
    except RuntimeError:  # circular links, in Python 3.11 and 3.12
        raise NotRegularError(f"{path} is a circular link") from None
    if not real.is_relative_to(folder):
        raise NotRegularError(f"{path} is a link to {real}, outside of its folder: not read. Put the file itself there")
    status = real.lstat()
    _check_regular(path, status)
    return real, status


def _check_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFLNK: "a link",
    }
    kind = kinds.get(stat.S_IFMT(status.st_mode), "a special file")
    raise NotRegularError(f"{path} is {kind}, not a regular file: not read")
