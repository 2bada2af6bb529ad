"""Describe training columns of times and durations. Their distributions are in seconds."""

from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.bundles.reference_distribution import numeric_reference
from modeltrace.errors import PackError
from modeltrace.inference.time_values import TimeColumn, TimeKind, to_time_text

# The lowest and the highest value of a feature: numbers, or times and durations as objects or ISO 8601 texts.
ValidRange: TypeAlias = tuple[float, float] | tuple[str, str] | tuple[datetime, datetime] | tuple[timedelta, timedelta]
_MICROSECONDS: Final = 1_000_000


def is_time_dtype(dtype: Any) -> bool:  # noqa: ANN401  any dtype
    """Return whether a column contains times (with or without a time zone) or durations."""
    return isinstance(dtype, pd.DatetimeTZDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "mM")


def time_column(column: "pd.Series") -> TimeColumn:
    """Return how a column of times or durations is represented."""
    kind: TimeKind = "timedelta" if column.dtype.kind == "m" else "datetime"
    timezone = str(column.dtype.tz) if isinstance(column.dtype, pd.DatetimeTZDtype) else None
    return TimeColumn(kind, column.dt.unit, timezone)


def to_seconds(column: "pd.Series") -> NDArray[np.float64]:
    """Return the values of a column that are not missing, shape (n_values,), as a request would send them.

    Requests have a resolution of a microsecond.
    """
    seconds: NDArray[np.float64] = _to_microseconds(column) / _MICROSECONDS
    return seconds


def describe_times(column: "pd.Series", valid_range: ValidRange | None = None) -> dict[str, Any]:
    """Return the fields of the feature, without name, type and whether it may be missing. Ranges are in seconds.

    Raises:
        PackError: a request cannot send a value, a bound of the range is no value of this column, the bounds are not
            in order, or no value of the training data is in the range.
    """
    layout = time_column(column)
    _check_limits(column, layout)
    microseconds = np.sort(_to_microseconds(column))
    seconds = microseconds / _MICROSECONDS
    limits = None if valid_range is None else _to_limits(column.name, layout, valid_range)
    if limits is not None:
        microseconds = microseconds[(seconds >= limits[0]) & (seconds <= limits[1])]
        if not len(microseconds):
            low, high = valid_range or ("", "")
            raise PackError(f"--range {column.name}={low}/{high}: no value of the training data is in that range")
    return {
        "dtype": f"{layout.kind}64",
        "unit": layout.unit,
        "timezone": layout.timezone,
        "valid_range": limits,
        "training_range": (float(seconds[0]), float(seconds[-1])),
        "example": layout.to_text(int(microseconds[len(microseconds) // 2])),
        "reference": numeric_reference(seconds, n=len(column)),
    }


def _check_limits(column: "pd.Series", layout: TimeColumn) -> None:
    """Check that a request can send every value. With a unit of seconds, times reach billions of years."""
    present = _without_timezone(column.dropna())
    per_unit = pd.Timedelta(1, layout.unit) / pd.Timedelta(1, "us")  # microseconds
    numbers = present.to_numpy().astype(np.int64)
    low, high = (int(limit / per_unit) for limit in layout.limits)
    beyond = np.flatnonzero((numbers < low) | (numbers > high))
    if len(beyond):
        index = beyond[0]
        raise PackError(
            f"column {column.name}, row {present.index[index]} of the training data: the value is "
            f"{present.to_numpy()[index]}, but a request can send {layout.limits_text}. Correct such values, or remove "
            "them (NaT), and fit again"
        )


def _to_limits(name: object, layout: TimeColumn, valid_range: ValidRange) -> tuple[float, float]:
    bounds = [to_time_text(bound) for bound in valid_range]
    option = f"--range {name}={bounds[0]}/{bounds[1]}"
    try:
        low, high = (layout.to_seconds(bound) for bound in bounds)
    except (ValueError, TypeError):
        raise PackError(f"{option}: write LOW/HIGH, each {layout.expected}") from None
    if low > high:
        raise PackError(f"{option}: the lowest value is greater than the highest")
    return low, high


def _to_microseconds(column: "pd.Series") -> NDArray[np.int64]:
    present = _without_timezone(column.dropna())
    kind = "timedelta64" if present.dtype.kind == "m" else "datetime64"
    return present.to_numpy(dtype=f"{kind}[us]").astype(np.int64)


def _without_timezone(column: "pd.Series") -> "pd.Series":
    """Return the times in UTC, without their time zone."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return column
