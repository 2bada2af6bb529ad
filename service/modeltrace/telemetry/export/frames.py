"""Frames on a pipe: four bytes of length, then one tuple of plain values as `marshal` writes it.

Both ends are the same Python and the same code, and nobody else can write to the pipe: that is what marshal is safe
for, and it is several times faster than JSON or pickle.
"""

import marshal
import os
import struct
from collections.abc import Iterator
from typing import Any, Final

_LENGTH: Final = struct.Struct("<I")
# Version 2 has no references: to look for them costs more than to repeat a short string.
_VERSION: Final = 2
Frame = tuple[Any, ...]


def write_frame(descriptor: int, frame: Frame) -> None:
    """Write a frame whole; blocks while the pipe is full.

    Raises:
        OSError: nobody reads any more.
    """
    content = marshal.dumps(frame, _VERSION)
    rest = memoryview(_LENGTH.pack(len(content)) + content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class FrameReader:
    """Takes frames out of what has been read so far."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that are complete with this chunk."""
        self._buffer += chunk
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            yield marshal.loads(memoryview(self._buffer)[start + _LENGTH.size : end])  # noqa: S302  see the module's docstring
            start = end
        del self._buffer[:start]


def read_frames(descriptor: int) -> Iterator[Frame]:
    """Every frame until the other end closes; one that was cut off is dropped."""
    reader = FrameReader()
    while chunk := os.read(descriptor, 2**20):
        yield from reader.feed(chunk)
