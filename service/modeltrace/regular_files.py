"""Files of a folder that somebody else may have made: regular ones below it are read, and nothing else.

A device or a pipe can be read without end, and a link can lead to anything on this machine.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

# Bytes that a bundle's model.json may have: the levels of categories are in it.
MAX_MANIFEST_BYTES: Final = 64 * 2**20


class NotRegularError(OSError):
    """It is no regular file below its folder, or larger than it may be; the message says what it is."""


def stat_regular(path: Path) -> os.stat_result:
    """What the system says of a regular file; a link must lead to one below the folder that the link is in.

    Raises:
        NotRegularError: it is something else.
        OSError: it is not there, or cannot be looked at.
    """
    return _real(path)[1]


def open_regular(path: Path, *, max_bytes: int | None = None) -> BufferedReader:
    """Open a regular file for reading, if it has at most `limit` bytes.

    Raises:
        NotRegularError: it is something else, or larger.
        OSError: it cannot be opened.
    """
    real, _ = _real(path)
    # What is put there meanwhile is not followed, and not waited for.
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        _check(path, found)
        if max_bytes is not None and found.st_size > max_bytes:
            raise NotRegularError(f"{path} has {found.st_size:,} bytes, {max_bytes:,} at most can be right: not read")
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, *, max_bytes: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        NotRegularError: it is something else, or larger.
        OSError: it cannot be read.
    """
    with open_regular(path, max_bytes=max_bytes) as file:
        return file.read(max_bytes + 1)


def _real(path: Path) -> tuple[Path, os.stat_result]:
    try:
        real, folder = path.resolve(strict=True), path.parent.resolve(strict=True)
    except RuntimeError:  # links in a circle, in Python 3.11 and 3.12
        raise NotRegularError(f"{path} is a link that leads nowhere") from None
    if not real.is_relative_to(folder):
        raise NotRegularError(f"{path} is a link to {real}, outside of its folder: not read. Put the file itself there")
    found = real.lstat()
    _check(path, found)
    return real, found


def _check(path: Path, found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFLNK: "a link",
    }
    kind = kinds.get(stat.S_IFMT(found.st_mode), "something else")
    raise NotRegularError(f"{path} is {kind} and no regular file: not read")
