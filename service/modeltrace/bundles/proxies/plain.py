"""Plain values: numbers, texts, and containers and arrays of them. They cannot refer to code."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def is_plain(value: Any) -> bool:  # noqa: ANN401  any value
    """Return whether a value consists of numbers, texts, `None`, and lists, dicts and arrays of them.

    Containers of other types, as an `OrderedDict`, are not plain.
    """
    if type(value) is dict:
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    if isinstance(value, np.ndarray):
        return value.dtype != object or is_plain(value.ravel().tolist())
    return value is None or isinstance(value, str | bool | int | float | np.number | np.bool_)


def plain_items(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries with plain values."""
    return {name: value for name, value in values.items() if is_plain(value)}
