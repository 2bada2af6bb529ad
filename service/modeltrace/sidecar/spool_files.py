"""The spool's files: written whole or not at all, read only when they are what was written, owned by a lock."""

import fcntl
import os
import stat
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

MAGIC: Final = b"MTS1"
HEADER_BYTES: Final = len(MAGIC) + 4


def write(path: Path, temporary_path: Path, content: bytes, *, durable: bool) -> None:
    """Write `part` and give it the name `path` when it is whole; with `durable` it survives a crash of the machine.

    Raises:
        OSError: it is not there, and nothing of it.
    """
    try:
        with os.fdopen(os.open(temporary_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(header(content))
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary_path.rename(path)
        if durable:
            _sync_folder(path.parent)
    except OSError:
        discard(temporary_path)
        discard(path)
        raise


def read(path: Path, max_bytes: int) -> bytes | None:
    """The content of a file, or None when it is not what was written.

    Under its name may be anything: a pipe that nobody writes to, a link, a file larger than `limit`.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            start, content = file.read(HEADER_BYTES), file.read()
    finally:
        os.close(descriptor)
    return content if start == header(content) else None


def discard(path: Path) -> None:
    """Remove a file; one that cannot be removed stays."""
    with suppress(OSError):
        path.unlink()


def header(content: bytes) -> bytes:
    """What stands before a content and tells whether it is whole."""
    return MAGIC + zlib.crc32(content).to_bytes(4, "big")


def lock(folder: Path) -> int:
    """Hold a folder's lock; it is free again when the process ends, however it ends.

    Raises:
        OSError: another process holds it, or it cannot be opened.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def unlock(folder: Path, descriptor: int, *, empty: bool) -> None:
    """Give a lock back, and remove a folder that is `empty` and in which nothing of somebody else's is."""
    if empty:
        with suppress(OSError):
            (folder / "lock").unlink()
            folder.rmdir()
    os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
