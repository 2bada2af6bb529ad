"""Convert validated rows to the input of an estimator."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.inference.schema import Feature, Schema
from modeltrace.inference.validate import Values

# The 64-bit integer that NumPy uses for a missing time or duration.
_NOT_A_TIME: Final = int(np.iinfo(np.int64).min)
Matrix: TypeAlias = "NDArray[np.float64] | NDArray[np.object_] | pd.DataFrame"


def to_matrix(rows: Sequence[Values], schema: Schema, *, as_frame: bool) -> Matrix:
    """Build the input of an estimator, with the dtypes of the training data.

    The result has the shape (n_rows, n_features). It is a frame for an estimator that was fitted with column names, and
    otherwise an array. A missing value becomes NaN, or `None` if the training data has `None` in an `object` column.
    The rows must come from `RowValidator`.
    """
    if not as_frame:
        if schema.is_numeric:
            return np.array(rows, dtype=np.float64)
        columns = (_fill_missing(column, feature) for column, feature in _columns(rows, schema))
        return np.array(list(zip(*columns, strict=True)), dtype=object)
    if schema.is_float64:
        return pd.DataFrame(np.array(rows, dtype=np.float64), columns=schema.names)
    return pd.DataFrame({feature.name: _to_column(column, feature) for column, feature in _columns(rows, schema)})


def _columns(rows: Sequence[Values], schema: Schema) -> Iterator[tuple[Values, Feature]]:
    return zip(zip(*rows, strict=True), schema.features, strict=True)


def _fill_missing(column: Values, feature: Feature) -> Values:
    if feature.accepts_missing and feature.missing_as == "nan":
        return tuple(np.nan if value is None else value for value in column)
    return column


def _to_column(column: Values, feature: Feature) -> "NDArray[np.generic] | pd.Series":
    values = _fill_missing(column, feature)
    match feature.dtype:
        case "float64" | "int64" | "bool":
            return np.array(values, dtype=feature.dtype)
        case "datetime64" | "timedelta64":
            return _to_time_column(column, feature)
        case "category":
            # A category that the training data does not have is a missing value in a pandas `category` column.
            codes = [feature.level_codes.get(value, -1) for value in column]  # type: ignore[call-overload]  # validated
            return pd.Series(pd.Categorical.from_codes(codes, dtype=feature.level_dtype))
        case _:
            return pd.Series(list(values), dtype=feature.dtype)


def _to_time_column(column: Values, feature: Feature) -> "pd.Series":
    """Parse the texts of a column of times or durations."""
    parse = feature.time_column.to_microseconds
    microseconds = [_NOT_A_TIME if value is None else parse(str(value)) for value in column]
    values = (
        np.array(microseconds, dtype=np.int64).view(f"{feature.dtype}[us]").astype(f"{feature.dtype}[{feature.unit}]")
    )
    if feature.timezone is None:
        return pd.Series(values)
    return pd.Series(pd.DatetimeIndex(values, tz="UTC").tz_convert(feature.timezone))
