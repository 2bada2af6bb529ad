"""Decompress request bodies within the hub's size limit."""

from modeltrace_http import content_coding
from modeltrace_http.content_coding import SUPPORTED_ENCODINGS, DecompressedTooLargeError, DecompressionError
from modeltrace_hub.errors import MalformedError, TooLargeError, UnsupportedEncodingError


def decompress(body: bytes, content_encoding: str, limit: int) -> bytes:
    """Decompress a body to at most `limit` bytes.

    Raises:
        UnsupportedEncodingError: the hub does not support this coding.
        TooLargeError: the result has more than `limit` bytes.
        MalformedError: the body is not in this coding, is truncated, or has trailing bytes.
    """
    try:
        return content_coding.decompress(body, content_encoding, limit)
    except content_coding.UnsupportedEncodingError:
        raise UnsupportedEncodingError(
            f"Content-Encoding is {content_encoding[:64]!r}; send one of {SUPPORTED_ENCODINGS}."
        ) from None
    except DecompressedTooLargeError:
        raise TooLargeError(f"The decompressed body has more than {limit} bytes. Send smaller batches.") from None
    except DecompressionError as error:
        raise MalformedError(f"The body is not valid {content_encoding} (Content-Encoding): {error}") from None
