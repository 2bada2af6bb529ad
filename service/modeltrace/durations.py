"""Parse durations such as `500ms`, `30s`, `5m`, `1.5h` or `7d`."""

import re
from typing import Final

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_duration(text: str) -> float:
    """Return a duration in seconds. A number without a unit is in seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text} is not a duration like 30s, 500ms, 5m, 1h or 7d")
    return float(match[1]) * _UNITS[match[2]]
