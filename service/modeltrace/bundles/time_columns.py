"""Describe training columns of times and durations. Their distributions are in seconds."""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.bundles.reference_distribution import numeric_reference
from modeltrace.inference.time_values import TimeColumn, TimeKind

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


def describe_times(column: "pd.Series") -> dict[str, Any]:
    """Return the fields of the feature, without name, type and whether it may be missing."""
    layout = time_column(column)
    microseconds = np.sort(_to_microseconds(column))
    seconds = microseconds / _MICROSECONDS
    return {
        "dtype": f"{layout.kind}64",
        "unit": layout.unit,
        "timezone": layout.timezone,
        "training_range": (float(seconds[0]), float(seconds[-1])),
        "example": layout.to_text(int(microseconds[len(microseconds) // 2])),
        "reference": numeric_reference(seconds, n=len(column)),
    }


def _to_microseconds(column: "pd.Series") -> NDArray[np.int64]:
    present = column.dropna()
    if isinstance(present.dtype, pd.DatetimeTZDtype):
        present = present.dt.tz_convert("UTC").dt.tz_localize(None)
    kind = "timedelta64" if present.dtype.kind == "m" else "datetime64"
    return present.to_numpy(dtype=f"{kind}[us]").astype(np.int64)
