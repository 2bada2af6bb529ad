"""Content codings of request bodies (RFC 9110, section 8.4), uncompressed within a limit."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP: Final = 16 + zlib.MAX_WBITS
# RFC 9659 limits the window of this content coding to 8 MiB.
_ZSTD_WINDOW_LOG: Final = 23
# Members or frames of one body. An empty one takes 20 bytes or less, and each costs a decompressor.
MAX_MEMBERS: Final = 1024
# Bytes that are uncompressed at a time: what is left of them behind the end of a member is copied.
_SLICE: Final = 64 * 1024


class UnsupportedEncodingError(Exception):
    """A coding that is not known."""


class DecompressionError(Exception):
    """A body is not what its coding says."""


class DecompressedTooLargeError(Exception):
    """A body expands to more than it may."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: memoryview, max_length: int, /) -> bytes: ...


def decompress(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """Uncompress all members or frames of a body.

    Args:
        body: the body as it was sent.
        content_encoding: the value of `Content-Encoding`.
        max_bytes: the bytes that it may expand to. No more than that are ever held.

    Raises:
        UnsupportedCodingError: the coding is none of `SUPPORTED_ENCODINGS`, or there are several.
        CodingError: the body is not what the coding says, is cut off, has something else after its end, or has more
            than `MAX_MEMBERS` members.
        ExpandedTooLargeError: it expands to more than `limit` bytes.
    """
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _OPEN:
        raise UnsupportedEncodingError(name)
    parts: list[bytes] = []
    room, place, members = max_bytes, 0, 0
    view = memoryview(body)
    while place < len(body) or not members:
        members += 1
        if members > MAX_MEMBERS:
            raise DecompressionError(f"it has more than {MAX_MEMBERS} members")
        member = _OPEN[name](view[place:])
        while not member.eof:
            piece = view[place : place + _SLICE]
            if not piece:
                raise DecompressionError("it is cut off")
            try:
                part = member.decompress(piece, room + 1)
            except (zlib.error, zstd.ZstdError) as error:
                raise DecompressionError(str(error)) from None
            room -= len(part)
            if room < 0:
                raise DecompressedTooLargeError
            parts.append(part)
            place += len(piece) - len(member.unused_data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _gzip(_: memoryview) -> _Decompressor:
    return zlib.decompressobj(_GZIP)


def _deflate(body: memoryview) -> _Decompressor:
    """Uncompress zlib's format, which this coding means, or the same without its header, which some clients send."""
    has_header = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _zstd(_: memoryview) -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


_OPEN: Final[Mapping[str, Callable[[memoryview], _Decompressor]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
# What an answer of 415 names in `Accept-Encoding`.
SUPPORTED_ENCODINGS: Final = "gzip, deflate, zstd, identity"
