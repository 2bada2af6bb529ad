"""Content codings of requests, uncompressed within the hub's limit and with the hub's errors."""

from modeltrace_http import content_coding
from modeltrace_http.content_coding import (
    SUPPORTED_ENCODINGS,
    DecompressedTooLargeError,
    DecompressionError,
    decompress,
)
from modeltrace_hub.errors import MalformedError, TooLargeError, UnsupportedCodingError


def unpack(body: bytes, coding: str, limit: int) -> bytes:
    """Uncompress a body.

    Args:
        body: the body as it was sent.
        coding: the value of `Content-Encoding`.
        limit: the bytes that it may expand to.

    Raises:
        UnsupportedCodingError: the hub does not read this coding.
        TooLargeError: the body has more than `limit` bytes.
        MalformedError: it is not what the coding says, is cut off, or has something else after its end.
    """
    try:
        return decompress(body, coding, limit)
    except content_coding.UnsupportedEncodingError:
        raise UnsupportedCodingError(
            f"Content-Encoding is {coding[:64]!r}; send one of {SUPPORTED_ENCODINGS}."
        ) from None
    except DecompressedTooLargeError:
        raise TooLargeError(f"The body unpacks to more than {limit} bytes. Send smaller batches.") from None
    except DecompressionError as error:
        raise MalformedError(f"The body is not {coding}, as Content-Encoding says: {error}") from None
