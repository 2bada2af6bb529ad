"""Parse durations such as `300ms`, `90s` or `7d`, in settings and in query parameters."""

import re
from typing import Final

# Times and durations are stored as signed 64-bit integers.
MAX_NS: Final = 2**63 - 1

_UNIT_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ns|us|µs|ms|s|m|h|d)")


def parse_duration_ns(text: str) -> int | None:
    """Return the nanoseconds of a duration; None if the text is not a duration.

    Raises:
        ValueError: the duration is over 292 years.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    ns = round(float(match[1]) * _UNIT_NS[match[2]])
    if ns > MAX_NS:
        raise ValueError("the time is out of range")
    return ns
