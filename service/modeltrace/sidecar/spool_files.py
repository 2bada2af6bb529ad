"""The files of the spool: names, atomic writes, reads with a checksum, and a lock of the folder."""

import fcntl
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from modeltrace.otel_env.table import SIGNALS

FOLDER_NAME: Final = re.compile(r"[0-9]+-[0-9a-f]{16}")
_FILE_NAME: Final = re.compile(
    rf"(?P<timestamp>[0-9]{{1,30}})\.((?P<signal>{'|'.join(SIGNALS)})\.(?P<items>[0-9]{{1,15}})|damaged|part)"
)
MAGIC: Final = b"MTS1"
HEADER_BYTES: Final = len(MAGIC) + 4


def file_name(timestamp: int, suffix: str) -> str:
    """Return the name of a file. Names sort by timestamp."""
    return f"{timestamp:020d}.{suffix}"


def files_in(folder: Path) -> Iterator[tuple[int, Path, re.Match[str]]]:
    """Yield timestamp, path and parts of the name of each spool file in a folder; foreign files are ignored."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if name := _FILE_NAME.fullmatch(entry.name):
                yield int(name["timestamp"]), Path(entry.path), name


def write(path: Path, temporary_path: Path, content: bytes, *, durable: bool) -> int:
    """Write a temporary file, rename it to `path` once it is complete, and return its size.

    With `durable`, the file is synchronized with the disk, so that it survives a crash of the machine.

    Raises:
        OSError: The file could not be written; no part of it remains.
    """
    try:
        with os.fdopen(os.open(temporary_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            size = file.write(header(content)) + file.write(content)
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
    return size


def read(path: Path, max_bytes: int) -> bytes | None:
    """Return the content of a file, or `None` if it is damaged.

    A pipe, or a file larger than `max_bytes`, counts as damaged.

    Raises:
        OSError: The file cannot be read, or is a link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            stored_header, content = file.read(HEADER_BYTES), file.read()
    finally:
        os.close(descriptor)
    return content if stored_header == header(content) else None


def discard(path: Path) -> None:
    """Remove a file if possible."""
    with suppress(OSError):
        path.unlink()


def header(content: bytes) -> bytes:
    """Return the header of a file: a magic number and the checksum of its content."""
    return MAGIC + zlib.crc32(content).to_bytes(4, "big")


def lock(folder: Path) -> int:
    """Lock a folder; the lock is released when the process ends, even by a crash.

    Returns:
        The descriptor of the lock file.

    Raises:
        OSError: Another process holds the lock, or the lock file cannot be opened.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def unlock(folder: Path, descriptor: int, *, empty: bool) -> None:
    """Release a lock; if `empty`, remove the folder unless it contains foreign files."""
    if empty:
        with suppress(OSError):
            (folder / "lock").unlink()
            folder.rmdir()
    os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Synchronize the names in a folder with the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
