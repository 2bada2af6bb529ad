"""Constants that JSON does not have and that clients send all the same: what they are, where, and what to send.

Python's `json.dumps` writes a missing value of pandas as `NaN`.
"""

import json
import re
from typing import Any, Final

import orjson

# Where no JSON value begins: constants of Python and JavaScript, and numbers that are too large for a float.
_CONSTANT: Final = re.compile(r"-?(?:NaN|Infinity|nan|inf|None|True|False|undefined)\b|-?\d[\d.eE+-]*")
_INSTEAD: Final = {"None": "null", "undefined": "null", "True": "true", "False": "false"}
# A larger document is not parsed a second time for the name of the value.
_MAX_SEARCHED: Final = 8 * 2**20
_MAX_NAME: Final = 64


class _Found:
    """Stands for the constant in the parsed document."""


def explain_constant(error: orjson.JSONDecodeError) -> str | None:
    """Explain a parser's error.

    Returns:
        The constant, its line, column and place in the document, and what to send instead; None if the parser has
        stopped at something else.
    """
    # The parser stops behind a sign.
    start = error.pos - 1 if error.doc[error.pos - 1 : error.pos] == "-" else error.pos
    match = _CONSTANT.match(error.doc, start)
    if match is None or (match[0][-1].isdigit() and "infinity" not in error.msg):
        return None
    constant = match[0][:_MAX_NAME]
    place = _find(error.doc) if constant.lstrip("-") in ("NaN", "Infinity") else None
    column = error.colno - (error.pos - start)
    where = f"line {error.lineno}, column {column}"
    if place:
        where = f"{place} ({where})"
    instead = _INSTEAD.get(constant, "a finite number, or null where the value is missing")
    return f"{constant} at {where}; JSON has no {constant}: send {instead}"


def _find(document: str) -> str | None:
    """Return the place of the first constant, like `rows[3].age`; None if it cannot be told."""
    if len(document) > _MAX_SEARCHED:
        return None
    try:
        parsed = json.loads(document, parse_constant=lambda _: _Found())
    except (ValueError, RecursionError):
        return None
    return _place(parsed, "")


def _place(value: Any, path: str) -> str | None:  # noqa: ANN401  any JSON
    """Return the place of the constant in a value that is not nested deeper than the calls take."""
    if isinstance(value, _Found):
        return path.removeprefix(".")
    if path.count(".") + path.count("[") > 8:
        return None
    items = (
        ((f".{name[:_MAX_NAME]}", item) for name, item in value.items())
        if isinstance(value, dict)
        else ((f"[{index}]", item) for index, item in enumerate(value))
        if isinstance(value, list)
        else ()
    )
    return next((place for step, item in items if (place := _place(item, path + step)) is not None), None)
