"""Spans of time on the command line."""

import re
from typing import Final

import typer

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


def parse_seconds(text: str) -> float:
    """Read a time like `30s`, `500ms`, `5m` or `1h`; a bare number is seconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not (value := float(match[1]) * _UNITS[match[2]]):
        raise typer.BadParameter("write a time above 0 like 30s, 500ms, 5m or 1h")
    return value
