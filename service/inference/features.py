"""From validated rows to what the estimator takes."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.inference.schema import Feature, Schema

Matrix: TypeAlias = "NDArray[np.float64] | pd.DataFrame"


def to_matrix(rows: Sequence[Mapping[str, object]], schema: Schema, *, as_frame: bool) -> Matrix:
    """Build the input of shape (n_rows, n_features): an array, or a frame for an estimator fitted with column names.

    A missing value becomes NaN (None in a column of categories). The rows must have passed `validate_row`.
    """
    if not as_frame:
        return np.array([[row.get(name) for name in schema.names] for row in rows], dtype=np.float64)
    return pd.DataFrame({feature.name: _column(rows, feature) for feature in schema.features})


def _column(rows: Sequence[Mapping[str, object]], feature: Feature) -> "pd.Series":
    values = [row.get(feature.name) for row in rows]
    if feature.type == "category" or (feature.type == "boolean" and feature.nullable):
        return pd.Series(values, dtype=object)
    if feature.type == "boolean":
        return pd.Series(values, dtype=bool)
    if feature.type == "integer" and not feature.nullable:
        return pd.Series(values, dtype=np.int64)
    return pd.Series(values, dtype=np.float64)
