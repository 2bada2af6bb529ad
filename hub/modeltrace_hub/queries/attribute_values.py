"""Read stored attributes as values of known types.

The store accepts everything that the protocol allows: an attribute may have any type, and a number may be infinite or
NaN. Pages and API calls read attributes only through these functions, so all values have the expected type.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

_INT64: Final = range(-(2**63), 2**63)


def to_text(value: object) -> str | None:
    """Return a string as it is, None for null, and anything else as JSON, like `->>` in SQL."""
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def text_attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return all attributes as text, without null values."""
    return {name: text for name, value in attributes.items() if (text := to_text(value)) is not None}


def finite_number(value: object) -> float | None:
    """Return a finite number unchanged; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def int_attribute(attributes: Mapping[str, Any], name: str) -> int | None:
    """Return an attribute that is a 64-bit integer; None for anything else."""
    value = attributes.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INT64 else None


def counter_increase(value: float | None, previous: float | None) -> float | None:
    """Return the increase of a counter since its previous value. A smaller value is a reset: the whole value is new."""
    return value if value is None or previous is None or value < previous else value - previous
