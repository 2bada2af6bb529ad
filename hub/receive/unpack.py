"""Content encodings, uncompressed within a limit: the sender does not decide what a small body can grow to."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from hub.errors import MalformedError, TooLargeError

Packing = Literal["identity", "gzip", "deflate", "zstd"]

_GZIP: Final = 16 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS

# RFC 8878, 3.1.1.1.2, recommends to support windows of 8 MiB, and RFC 9659 limits Content-Encoding to that.
_ZSTD_WINDOW_LOG: Final = 23


class _Decompressor(Protocol):
    """What zlib's and zstd's decompressors have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def unpack(body: bytes, packing: Packing, limit: int) -> bytes:
    """Uncompress all members or frames of a body.

    Raises:
        TooLargeError: it has more than `limit` bytes; no more than that are ever held.
        MalformedError: it is not what Content-Encoding says, is cut off, or has something else after its end.
    """
    if packing == "identity":
        return body
    parts: list[bytes] = []
    room = limit
    while body:
        member = _OPEN[packing](body)
        try:
            part = member.decompress(body, room + 1)
        except (zlib.error, zstd.ZstdError) as error:
            raise MalformedError(f"The body is not {packing}, as Content-Encoding says: {error}") from None
        room -= len(part)
        if room < 0:
            raise TooLargeError(f"The body unpacks to more than {limit} bytes. Send smaller batches.")
        if not member.eof:
            raise MalformedError(f"The {packing} body is cut off.")
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)


def _gzip(_: bytes) -> _Decompressor:
    return zlib.decompressobj(_GZIP)


def _deflate(body: bytes) -> _Decompressor:
    """HTTP means zlib by deflate (RFC 9110, 8.4.1.2); some senders leave zlib's header out."""
    has_header = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if has_header else _RAW)


def _zstd(_: bytes) -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


_OPEN: Final[Mapping[str, Callable[[bytes], _Decompressor]]] = {"gzip": _gzip, "deflate": _deflate, "zstd": _zstd}
