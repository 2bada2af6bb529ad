"""Times and durations on the command line."""

import time
from datetime import UTC, datetime
from typing import Final

import typer

from modeltrace.durations import parse_duration

# Nanoseconds since the epoch that a store can hold: up to the year 2262.
_MAX_TIME: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_seconds(text: str) -> float:
    """Parse a duration above 0 and return it in seconds."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not seconds:
        raise typer.BadParameter("write a duration above 0 like 30s, 500ms, 5m or 1h")
    return seconds


def parse_time(text: str) -> int:
    """Parse a date, a date and time, or how long ago, and return nanoseconds since the epoch.

    A time before 1970 or after 2262 is replaced by that limit.
    """
    text = text.strip()
    try:
        if text.endswith(("s", "m", "h", "d")):
            ago = min(parse_duration(text), float(_MAX_TIME))
            return max(time.time_ns() - int(ago * 1e9), 0)
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            "write 2026-11-01, 2026-11-01T12:00:00+01:00 (UTC without an offset), or how long ago: 7d, 12h, 30m"
        ) from None
    since = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) - _EPOCH
    nanoseconds = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    return min(max(nanoseconds, 0), _MAX_TIME)
