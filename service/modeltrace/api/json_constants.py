"""Explain constants in request bodies that are not valid JSON, such as `NaN`.

For example, Python's `json.dumps` writes a missing value of pandas as `NaN`.
"""

import json
import re
from typing import Any, Final

import orjson

# Constants of Python and JavaScript, and numbers that may be too large for a float.
_CONSTANT: Final = re.compile(r"-?(?:NaN|Infinity|nan|inf|None|True|False|undefined)\b|-?\d[\d.eE+-]*")
_REPLACEMENTS: Final = {"None": "null", "undefined": "null", "True": "true", "False": "false"}
# Larger documents are not parsed a second time to find the path of the value.
_MAX_SEARCHED: Final = 8 * 2**20
_MAX_NAME: Final = 64


class _Constant:
    """Replaces the constant in the parsed document."""


def explain_constant(error: orjson.JSONDecodeError) -> str | None:
    """Explain a parser error.

    Returns:
        The constant, its line, column and path in the document, and what to send instead; None if the error has
        another reason.
    """
    # The parser stops after a sign.
    start = error.pos - 1 if error.doc[error.pos - 1 : error.pos] == "-" else error.pos
    match = _CONSTANT.match(error.doc, start)
    if match is None or (match[0][-1].isdigit() and "infinity" not in error.msg):
        return None
    constant = match[0][:_MAX_NAME]
    path = _find_path(error.doc) if constant.lstrip("-") in ("NaN", "Infinity") else None
    position = f"line {error.lineno}, column {error.colno - (error.pos - start)}"
    if path:
        position = f"{path} ({position})"
    replacement = _REPLACEMENTS.get(constant, "a finite number, or null where the value is missing")
    return f"{constant} at {position}; JSON has no {constant}: send {replacement}"


def _find_path(document: str) -> str | None:
    """Return the path of the first constant, such as `rows[3].age`; None if it is unknown."""
    if len(document) > _MAX_SEARCHED:
        return None
    try:
        parsed = json.loads(document, parse_constant=lambda _: _Constant())
    except (ValueError, RecursionError):
        return None
    return _search(parsed, "")


def _search(value: Any, path: str) -> str | None:  # noqa: ANN401  any JSON
    """Return the path of the constant in a value. Values nested deeper than in valid bodies are not searched."""
    if isinstance(value, _Constant):
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
    return next((found for key, item in items if (found := _search(item, path + key)) is not None), None)
