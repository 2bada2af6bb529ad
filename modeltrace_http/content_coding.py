"""Decompress request bodies (content codings, RFC 9110, section 8.4.1) within a size limit."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP: Final = 16 + zlib.MAX_WBITS
# RFC 9659 limits the window of this coding to 8 MiB.
_ZSTD_WINDOW_LOG: Final = 23
# Limit of gzip members or zstd frames. An empty one has at most 20 bytes, and each needs a new decompressor.
MAX_MEMBERS: Final = 1024
# Bytes that are decompressed at a time. Decompressors copy the bytes after the end of a member.
_CHUNK_BYTES: Final = 64 * 1024


class UnsupportedEncodingError(Exception):
    """The content coding is not supported."""


class DecompressionError(Exception):
    """The body is not valid data of its content coding."""


class DecompressedTooLargeError(Exception):
    """The decompressed body is too large."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: memoryview, max_length: int, /) -> bytes: ...


def decompress(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """Decompress all members or frames of a body.

    Args:
        body: the body as it was sent.
        content_encoding: the value of `Content-Encoding`.
        max_bytes: limit of the decompressed body. Decompression stops one byte above it.

    Raises:
        UnsupportedEncodingError: the coding is not one of `SUPPORTED_ENCODINGS`, or there are several.
        DecompressionError: the body is invalid or incomplete, has other data after its end, or has more than
            `MAX_MEMBERS` members.
        DecompressedTooLargeError: the decompressed body has more than `max_bytes` bytes.
    """
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _DECOMPRESSORS:
        raise UnsupportedEncodingError(name)
    parts: list[bytes] = []
    remaining, position, members = max_bytes, 0, 0
    view = memoryview(body)
    while position < len(body) or not members:
        members += 1
        if members > MAX_MEMBERS:
            raise DecompressionError(f"it has more than {MAX_MEMBERS} members")
        member = _DECOMPRESSORS[name](view[position:])
        while not member.eof:
            chunk = view[position : position + _CHUNK_BYTES]
            if not chunk:
                raise DecompressionError("it is incomplete")
            try:
                part = member.decompress(chunk, remaining + 1)
            except (zlib.error, zstd.ZstdError) as error:
                raise DecompressionError(str(error)) from None
            remaining -= len(part)
            if remaining < 0:
                raise DecompressedTooLargeError
            parts.append(part)
            position += len(chunk) - len(member.unused_data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _gzip(_: memoryview) -> _Decompressor:
    return zlib.decompressobj(_GZIP)


def _deflate(body: memoryview) -> _Decompressor:
    """Return a decompressor for the zlib format, or for raw DEFLATE data, which some clients send instead."""
    has_header = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _zstd(_: memoryview) -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


_DECOMPRESSORS: Final[Mapping[str, Callable[[memoryview], _Decompressor]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
# The value of `Accept-Encoding` in responses with status 415.
SUPPORTED_ENCODINGS: Final = "gzip, deflate, zstd, identity"
