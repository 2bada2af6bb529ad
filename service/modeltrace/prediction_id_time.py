"""Read the time in a prediction ID without its key. The format is that of `modeltrace.inference.prediction_ids`."""

import binascii
import struct
from base64 import urlsafe_b64decode
from typing import Final

FORMAT_VERSION: Final = 1
# version, trace ID, span ID, row, time in ms
HEADER: Final = struct.Struct(">B16s8sIQ")
# The length in base64 of a multiple of three bytes that contains the header.
_HEADER_CHARACTERS: Final = -(-HEADER.size // 3) * 4


def prediction_id_time(text: str) -> int | None:
    """Return the time in nanoseconds since the epoch, to the millisecond; `None` if the text is no prediction ID."""
    try:
        raw = urlsafe_b64decode(text[:_HEADER_CHARACTERS].encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        return None
    if len(raw) < HEADER.size or raw[0] != FORMAT_VERSION:
        return None
    return int(HEADER.unpack_from(raw)[-1]) * 1_000_000
