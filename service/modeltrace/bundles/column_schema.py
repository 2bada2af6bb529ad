"""Derive the schema of a feature from its training column: type, range, categories, binned distribution."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.bundles.reference_distribution import categorical_reference, numeric_reference
from modeltrace.bundles.time_columns import ValidRange, describe_times, is_time_dtype
from modeltrace.bundles.training_frame import DATE_ADVICE
from modeltrace.errors import PackError
from modeltrace.inference.category_levels import Level, LevelKind, infer_level_kind, level_name
from modeltrace.inference.model import to_json_label
from modeltrace.inference.schema import Dtype, Feature, FeatureType, Value
from modeltrace.inference.validate import MAX_FLOAT, MAX_INTEGER

# Maximum number of categories that the schema lists for a text column: its most frequent texts.
MAX_LISTED_CATEGORIES = 10_000
NUMERIC_TYPES = ("number", "integer")
TIME_TYPES = ("datetime", "timedelta")
# Minimum of a `max_length` that is derived from the training data, in characters.
MIN_TEXT_LIMIT = 256


def describe_column(
    column: "pd.Series",
    *,
    valid_range: ValidRange | None = None,
    strict_categories: bool = False,
    max_length: int | None = None,
) -> Feature:
    """Derive the schema of a feature from its training column.

    Args:
        column: the values of the feature in the training data.
        valid_range: the lowest and highest number, time or duration that a request may send.
        strict_categories: reject categories that the training data does not contain.
        max_length: the maximum number of characters of a text in a request; by default it is derived from the data.

    Raises:
        PackError: the column is neither numeric, boolean nor text, contains a value that a request cannot send, or an
            argument does not apply to its type.
    """
    kind = _feature_type(column)
    present = column.dropna()
    if present.empty:
        raise PackError(f"column {column.name}: every value is missing. Remove the column and fit again")
    if max_length is not None and kind != "category":
        raise PackError(f"--max-length: column {column.name} has the type {kind}, not text")
    if valid_range and kind not in (*NUMERIC_TYPES, *TIME_TYPES):
        raise PackError(f"--range: column {column.name} has the type {kind}, not a number, a time or a duration")
    common = {"name": str(column.name), "type": kind, "nullable": len(present) < len(column)}
    if kind in TIME_TYPES:
        return Feature.model_validate({**common, **describe_times(column, valid_range)})
    if kind in NUMERIC_TYPES:
        limits = None if valid_range is None else _numeric_range(column.name, valid_range)
        values = present.to_numpy(dtype=np.float64)
        _check_numbers(present, values, kind)
        return Feature(
            **common,
            dtype="int64" if kind == "integer" and not common["nullable"] else "float64",
            valid_range=limits,
            training_range=(float(values.min()), float(values.max())),
            example=_example(column.name, values, kind, limits),
            reference=numeric_reference(values, n=len(column)),
        )
    if kind == "boolean":
        texts = present.map({True: "true", False: "false"})
        return Feature(
            **common,
            dtype=_dtype(column),
            missing_as=_missing_as(column),
            example=texts.value_counts().index[0] == "true",
            reference=categorical_reference(texts, n=len(column)),
        )
    levels = _column_levels(column, present, strict=strict_categories)
    level_kind = infer_level_kind(levels) or "text"
    if max_length is not None and level_kind != "text":
        raise PackError(f"--max-length: the categories of column {column.name} are not text")
    texts = present.map(lambda level: level_name(to_json_label(level), level_kind)).astype(str)
    frequent = str(texts.value_counts().index[0])
    return Feature(
        **common,
        dtype=_dtype(column),
        missing_as=_missing_as(column),
        categories=levels,
        ordered=isinstance(column.dtype, pd.CategoricalDtype) and bool(column.dtype.ordered),
        enforce_categories=strict_categories,
        max_length=_text_limit(levels, texts, max_length) if level_kind == "text" else None,
        example=next(level for level in levels if level_name(level, level_kind) == frequent),
        reference=categorical_reference(texts, n=len(column), lists_all=present.nunique() <= len(levels)),
    )


def _check_numbers(
    present: "pd.Series", values: NDArray[np.float64], kind: FeatureType | LevelKind, *, by_level: bool = False
) -> None:
    """Check that a request can send every value."""
    largest = MAX_INTEGER if kind == "integer" else MAX_FLOAT
    beyond = np.flatnonzero(~(np.abs(values) <= largest))
    if not len(beyond):
        return
    infinite = beyond[~np.isfinite(values[beyond])]
    index = int((infinite if len(infinite) else beyond)[0])
    where = f"column {present.name}, row {present.index[index]} of the {'categories' if by_level else 'training data'}"
    if len(infinite):
        raise PackError(f"{where}: the value is infinite. Remove infinite values and fit again")
    if kind == "integer":
        value = f"{present.iloc[index]}, beyond ±2^63"
        remedy = "If these are identifiers, remove the column; otherwise convert it to floats"
    else:
        value, remedy = f"{values[index]:g}, beyond ±{largest:.2g}", "Scale or clip the column"
    raise PackError(f"{where}: the value is {value}, which a request cannot send. {remedy} and fit again")


def _column_levels(column: "pd.Series", present: "pd.Series", *, strict: bool) -> tuple[Level, ...]:
    """Return all levels of a column of dtype `category`, in its order, or the most frequent texts, sorted."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = tuple(_dtype_levels(column.dtype))
        kind = infer_level_kind(levels)
        if kind in NUMERIC_TYPES:
            numbers = pd.Series(levels, name=column.name)
            _check_numbers(numbers, numbers.to_numpy(dtype=np.float64), kind, by_level=True)
    else:
        counted = present.astype(str).value_counts().index
        if strict and len(counted) > MAX_LISTED_CATEGORIES:
            raise PackError(
                f"--strict-categories: column {column.name} has {len(counted):,} categories, more than "
                f"{MAX_LISTED_CATEGORIES:,}. Pack without --strict-categories"
            )
        levels = tuple(sorted(map(str, counted[:MAX_LISTED_CATEGORIES])))
    for text in levels if isinstance(column.dtype, pd.CategoricalDtype) else counted:
        try:
            str(text).encode()
        except UnicodeEncodeError:
            raise PackError(
                f"column {column.name}: the text {str(text)[:60]!r} is not valid Unicode. Correct it and fit again"
            ) from None
    return levels


def _dtype_levels(dtype: pd.CategoricalDtype) -> list[Any]:
    """Return the levels as Python values. Intervals, the result of `pd.cut`, become text."""
    return [str(level) if isinstance(level, pd.Interval) else level for level in dtype.categories.tolist()]


def _text_limit(levels: Sequence[Level], texts: "pd.Series", wanted: int | None) -> int:
    """Return the maximum length of texts in requests: `wanted`, or by default a multiple of the longest length.

    The default is four times the longest length, rounded up to a power of two. The rounding hides the exact length of
    private texts.
    """
    longest = max(int(texts.str.len().max()), *(len(str(level)) for level in levels))
    if wanted is None:
        return max(MIN_TEXT_LIMIT, 1 << (4 * longest - 1).bit_length())
    if wanted < longest:
        raise PackError(
            f"--max-length {texts.name}={wanted}: the column contains a text of {longest:,} characters. Set a limit of "
            "at least that"
        )
    return wanted


def _missing_as(column: "pd.Series") -> Literal["nan", "none"]:
    return "none" if column.dtype == object and any(value is None for value in column) else "nan"


def _feature_type(column: "pd.Series") -> FeatureType:
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = _dtype_levels(column.dtype)
        if column.notna().any() and infer_level_kind(levels) is None:
            raise _unsupported_column(column, levels)
        return "category"
    if is_time_dtype(column.dtype):
        return "timedelta" if column.dtype.kind == "m" else "datetime"
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "integer"
    if pd.api.types.is_float_dtype(column):
        return "number"
    if all(isinstance(value, str) for value in column.dropna()):
        return "category"
    if all(isinstance(value, bool | np.bool_) for value in column.dropna()):
        return "boolean"
    raise _unsupported_column(column, column.dropna().tolist())


def _unsupported_column(column: "pd.Series", values: Sequence[object]) -> PackError:
    """Return the error for a column that cannot be a feature; its message says how to convert the column."""
    kinds = sorted({type(value).__name__ for value in values})
    dtype = "category" if isinstance(column.dtype, pd.CategoricalDtype) else str(column.dtype)
    problem = f"column {column.name} ({dtype} of {', '.join(kinds[:4])}) contains neither numbers, booleans nor text"
    if any(isinstance(value, date | time | timedelta | pd.Period | np.datetime64 | np.timedelta64) for value in values):
        return PackError(f"{problem}: {DATE_ADVICE}")
    if len(kinds) > 1:
        return PackError(f"{problem}, but several types: convert all values to one type and fit again")
    remedies = {
        "Interval": "convert the intervals to text, .astype(str), or to their codes, .cat.codes",
        "bytes": "decode them",
        "int": "convert the column to the dtype int64, or to float64 if values are missing: .astype(float)",
        "float": "convert the column to the dtype float64: .astype(float)",
        "complex": "split them into two columns, the real and the imaginary parts,",
        "list": "create one column per element",
        "dict": "create one column per key",
    }
    remedy = remedies.get(kinds[0] if kinds else "", "convert it to one of them")
    return PackError(f"{problem}; {remedy} before fitting")


def _dtype(column: "pd.Series") -> Dtype:
    """Return the dtype of the column that the estimator receives: the training column's dtype, or `object`."""
    names: tuple[Dtype, ...] = ("bool", "boolean", "str", "string", "category")
    return next((name for name in names if column.dtype == name), "object")


def _numeric_range(name: object, valid_range: ValidRange) -> tuple[float, float]:
    """Return the bounds of a range of numbers.

    Raises:
        PackError: the bounds are no numbers, or not in order.
    """
    low, high = valid_range
    if isinstance(low, str | datetime | timedelta) or isinstance(high, str | datetime | timedelta):
        raise PackError(f"--range {name}={low}/{high}: the column contains numbers; write --range {name}=LOW:HIGH")
    if not low <= high:
        raise PackError(f"--range {name}={low:g}:{high:g}: the lowest value is greater than the highest")
    return float(low), float(high)


def _example(
    name: object, values: NDArray[np.float64], kind: FeatureType, valid_range: tuple[float, float] | None
) -> Value:
    """Return the median of the values that a request may send."""
    low, high = valid_range or (-np.inf, np.inf)
    valid = np.sort(values[(values >= low) & (values <= high)])
    if not len(valid):
        raise PackError(f"--range {name}={low:g}:{high:g}: no value of the training data is in that range")
    middle = float(valid[len(valid) // 2])
    return int(middle) if kind == "integer" else middle
