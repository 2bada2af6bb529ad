"""Stored attributes and values as objects of known types.

The store accepts whatever the protocol allows: an attribute may be of any type, a number may be no finite one. Pages
and calls read both through these functions only, so that what they compute with and render has the type they expect.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

_INTEGERS: Final = range(-(2**63), 2**63)


def text(value: object) -> str | None:
    """A value as text: a string as it is, anything else as JSON, as `->>` gives it in SQL; None for null."""
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def text_of(attributes: Mapping[str, Any], name: str) -> str | None:
    """An attribute as text; None if it is absent or null."""
    return text(attributes.get(name))


def texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    """All attributes as text, without those that are null."""
    return {name: said for name, value in attributes.items() if (said := text(value)) is not None}


def finite(value: object) -> float | None:
    """A number that is finite, as it is; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def number_of(attributes: Mapping[str, Any], name: str) -> float | None:
    """An attribute that is a finite number; None for anything else."""
    return finite(attributes.get(name))


def whole_of(attributes: Mapping[str, Any], name: str) -> int | None:
    """An attribute that is an integer; None for anything else."""
    value = attributes.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INTEGERS else None


def object_of(attributes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An attribute that is a key-value list; empty for anything else."""
    value = attributes.get(name)
    return value if isinstance(value, dict) else {}


def added(now: float | None, before: float | None) -> float | None:
    """What a total has added since it was `before`: all of it after a reset, which a total that falls shows."""
    return now if now is None or before is None or now < before else now - before
