"""gzip, unpacked within a limit: what a small body can grow to is decided here, not by its sender."""

import zlib
from typing import Final

from hub.errors import MalformedError, TooLargeError

_GZIP: Final = 16 + zlib.MAX_WBITS


def gunzip(body: bytes, limit: int) -> bytes:
    """Unpack all members of a gzip body.

    Raises:
        TooLargeError: it has more than `limit` bytes; no more than that was ever held.
        MalformedError: it is not gzip, is cut off, or has something else behind it.
    """
    parts: list[bytes] = []
    room = limit
    while body:
        member = zlib.decompressobj(_GZIP)
        try:
            part = member.decompress(body, room + 1)
        except zlib.error as error:
            raise MalformedError(f"The body is not gzip, as Content-Encoding says: {error}") from None
        room -= len(part)
        if room < 0:
            raise TooLargeError(f"The body unpacks to more than {limit} bytes. Send smaller batches.")
        if not member.eof:
            raise MalformedError("The gzip body is cut off.")
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)
