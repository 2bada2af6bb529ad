"""From validated rows to what the estimator takes."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.inference.schema import Feature, Schema

Matrix: TypeAlias = "NDArray[np.float64] | NDArray[np.object_] | pd.DataFrame"


def to_matrix(rows: Sequence[Mapping[str, object]], schema: Schema, *, as_frame: bool) -> Matrix:
    """Build the input of shape (n_rows, n_features): an array, or a frame for an estimator fitted with column names.

    Columns have the dtypes of training. A missing value becomes NaN; in a column of objects it becomes what stood for
    one in training. The rows must have passed `validate_row`.
    """
    if not as_frame:
        if schema.numeric:
            return _floats(rows, schema)
        return np.array(list(zip(*(_values(rows, feature) for feature in schema.features), strict=True)), dtype=object)
    if schema.uniform:
        return pd.DataFrame(_floats(rows, schema), columns=schema.names)
    return pd.DataFrame({feature.name: _column(rows, feature) for feature in schema.features})


def _floats(rows: Sequence[Mapping[str, object]], schema: Schema) -> NDArray[np.float64]:
    return np.array([[row.get(name) for name in schema.names] for row in rows], dtype=np.float64)


def _values(rows: Sequence[Mapping[str, object]], feature: Feature) -> list[object]:
    values = [row.get(feature.name) for row in rows]
    if feature.nullable and feature.missing_as == "nan":
        return [np.nan if value is None else value for value in values]
    return values


def _column(rows: Sequence[Mapping[str, object]], feature: Feature) -> "NDArray[np.generic] | pd.Series":
    values = _values(rows, feature)
    match feature.dtype:
        case "float64" | "int64" | "bool":
            return np.array(values, dtype=feature.dtype)
        case "category":
            known = pd.CategoricalDtype(list(feature.categories or ()))
            # A category that training did not have is as good as missing to an estimator of this kind.
            return pd.Series(values, dtype=object).where(lambda column: column.isin(known.categories)).astype(known)
        case _:
            return pd.Series(values, dtype=feature.dtype)
