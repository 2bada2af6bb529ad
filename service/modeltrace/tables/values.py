"""Convert the values of a table to the values that a request would send for a feature.

A value that does not fit is returned as it is: the feature schema rejects it with a reason.
"""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np

from modeltrace.inference.category_levels import coerce_level
from modeltrace.inference.schema import Feature
from modeltrace.inference.time_values import to_time_text
from modeltrace.tables.reader import TableFormat

# A text that is a missing value. The list is that of `pandas.read_csv`, so that a file is read as when it was packed.
MISSING_TEXTS: Final = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
})  # fmt: skip
BOOLEAN_TEXTS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_BINARY_TEXTS: Final = {**BOOLEAN_TEXTS, "1": True, "0": False}

Convert = Callable[[Any], object]


def converter(feature: Feature, file_format: TableFormat) -> Convert:
    """Return the function that converts the values of a column to those of a feature.

    Args:
        feature: the feature.
        file_format: `csv` and `tsv`: the values are text, and each is parsed as the type of the feature. `parquet`: a
            category is converted to the type of its levels, 0 and 1 of a boolean feature to booleans, and a decimal to
            a float. `jsonl`: the values are those of a request already. In all formats NaN is a missing value.
    """
    if file_format == "jsonl":
        return _nan_to_none
    if file_format == "parquet":
        return lambda value: _convert_value(value, feature)
    parse: Convert | None = {
        "boolean": lambda text: _BINARY_TEXTS.get(text, text),
        "integer": _parse_integer,
        "number": _parse_number,
    }.get(feature.level_kind or feature.type)
    if parse is None:  # text, times and durations
        return lambda text: None if text in MISSING_TEXTS else text
    return lambda text: None if text in MISSING_TEXTS else parse(text)


def to_json_value(value: Any) -> object:  # noqa: ANN401  any cell
    """Convert a value of a table to a JSON value: NaN to null, a decimal to a number, a date or a time to text.

    NumPy's scalars become Python's. Lists, mappings and bytes are returned unchanged.
    """
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Decimal):
        return None if value.is_nan() else float(value)
    if value is None or isinstance(value, str | int | bool | list | dict | bytes):
        return value
    if isinstance(value, datetime | timedelta):
        return to_time_text(value)
    return to_json_value(value.item()) if isinstance(value, np.generic) else str(value)


def infer_text(text: str) -> object:
    """Return the value of a text whose type is unknown: missing, an integer, a float, a boolean, or the text.

    A text with leading zeros stays text, because it is probably a code.
    """
    if text in MISSING_TEXTS:
        return None
    if text in BOOLEAN_TEXTS:
        return BOOLEAN_TEXTS[text]
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 19:
        return int(text) if digits == str(int(digits)) else text
    return _parse_number(text)


def _parse_number(text: str) -> object:
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _parse_integer(text: str) -> object:
    try:
        return text if "_" in text else int(text)
    except ValueError:
        number = _parse_number(text)
        return int(number) if isinstance(number, float) and number.is_integer() else number


def _nan_to_none(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _convert_value(value: object, feature: Feature) -> object:
    plain = to_json_value(value)
    if plain is None or isinstance(plain, list | dict | bytes):
        return plain
    if feature.type == "boolean" and plain in (0, 1):
        return bool(plain)
    return coerce_level(plain, feature.level_kind) if feature.level_kind else plain
