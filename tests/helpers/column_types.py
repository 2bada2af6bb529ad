"""A regressor whose value depends on every column of its table, whatever the types, and columns of each type."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

ROWS: Final = 60


class SumOfColumns(RegressorMixin, BaseEstimator):
    """A regressor that adds one number per column; a time adds its day, hour and second in its own time zone."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> "SumOfColumns":  # noqa: N803, ARG002  scikit-learn's names
        """Store the names of the columns and the types of times."""
        self.feature_names_in_ = X.columns.to_numpy()
        self.n_features_in_ = X.shape[1]
        self.times_ = {name: str(X[name].dtype) for name in X if X[name].dtype.kind in "mM"}
        return self

    def predict(self, X: pd.DataFrame) -> NDArray[np.float64]:  # noqa: N803  scikit-learn's name
        """Return a number for each row."""
        if self.times_ != {name: str(X[name].dtype) for name in X if X[name].dtype.kind in "mM"}:
            raise TypeError("the columns of times have other types than in training")
        total: NDArray[np.float64] = np.sum([_numbers(X[name]) for name in self.feature_names_in_], axis=0)
        return total


def _numbers(column: Any) -> NDArray[np.float64]:
    missing = column.isna().to_numpy(dtype=bool)
    if column.dtype.kind == "m":
        numbers = column.dt.total_seconds().to_numpy() / 1000
    elif column.dtype.kind == "M":
        numbers = (
            column.dt.day_of_year + column.dt.hour / 7 + column.dt.second / 11 + column.dt.microsecond / 13
        ).to_numpy()
    elif isinstance(column.dtype, pd.CategoricalDtype):
        numbers = column.cat.codes.to_numpy(dtype=np.float64)
    elif pd.api.types.is_numeric_dtype(column.dtype):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan) / 3
    else:
        numbers = np.array(
            [0.0 if pd.isna(value) else float(value is True) + sum(map(ord, str(value))) for value in column]
        )
    return np.where(missing, -5.0, np.nan_to_num(np.asarray(numbers, dtype=np.float64)))


def _with_missing(values: "pd.Series", rng: np.random.Generator) -> "pd.Series":
    return values.mask(pd.Series(rng.random(len(values)) < 0.1))


def _times(unit: str, rng: np.random.Generator) -> "pd.Series":
    seconds = pd.Series(rng.integers(-(10**9), 2 * 10**9, ROWS) * 1_000_000 + rng.integers(0, 10**6, ROWS))
    return pd.to_datetime(seconds, unit="us").astype(f"datetime64[{unit}]")


COLUMNS: Final[dict[str, Callable[[np.random.Generator], "pd.Series"]]] = {
    "Decimal": lambda rng: pd.Series([Decimal(int(n)) / 100 for n in rng.integers(-(10**6), 10**6, ROWS)]),
    "datetime64[s]": lambda rng: _times("s", rng),
    "datetime64[us]": lambda rng: _with_missing(_times("us", rng), rng),
    "datetime64[ns]": lambda rng: _times("ns", rng),
    "datetime64[us, UTC]": lambda rng: _times("us", rng).dt.tz_localize("UTC"),
    "datetime64[ms, Europe/Berlin]": lambda rng: (
        _with_missing(_times("ms", rng), rng).dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    ),
    "timedelta64[us]": lambda rng: _with_missing(pd.to_timedelta(_times("us", rng).astype("int64"), unit="us"), rng),
    "timedelta64[s]": lambda rng: pd.Series(rng.integers(-(10**7), 10**7, ROWS)).astype("timedelta64[s]"),
    "Int64": lambda rng: _with_missing(pd.Series(rng.integers(-(2**40), 2**40, ROWS), dtype="Int64"), rng),
    "Float64": lambda rng: _with_missing(pd.Series(rng.normal(size=ROWS), dtype="Float64"), rng),
    "boolean": lambda rng: _with_missing(pd.Series(rng.random(ROWS) < 0.5, dtype="boolean"), rng),
    "string": lambda rng: _with_missing(pd.Series(rng.choice(["é", "日本", "a b", "𝄞"], ROWS), dtype="string"), rng),
    "category": lambda rng: pd.Series(
        pd.Categorical.from_codes(rng.integers(0, 5_000, ROWS), [f"level {number:04}" for number in range(5_000)])
    ),
    "float32": lambda rng: pd.Series(rng.normal(size=ROWS).astype("float32")),
}
