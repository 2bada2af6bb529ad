"""Proxies for the series, frames and indexes of pandas that estimators contain, as plain values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from modeltrace.bundles.proxies.plain import is_plain
from modeltrace.errors import BundleError


@dataclass
class PandasArray:
    """A one-dimensional array: its values, and its dtype as pandas prints it."""

    values: Any
    dtype: str

    def restore(self) -> pd.Index:
        """Return an index of these values."""
        index: pd.Index = pd.Index(self.values, dtype=self.dtype)
        return index


@dataclass
class PandasData:
    """A series, frame or index. `axes` and `arrays` are `PandasArray`s; an index has only one array."""

    kind: str
    arrays: list[PandasArray]
    axes: list[PandasArray]
    names: list[Any]

    def restore(self) -> object:
        """Build the object.

        Raises:
            BundleError: the proxy contains something else than plain values.
        """
        plain = [[part.values, part.dtype] for part in (*self.arrays, *self.axes)]
        if not is_plain([plain, self.names]):
            raise BundleError("the model contains an invalid table")
        axes = [axis.restore().rename(name) for axis, name in zip(self.axes, self.names[1:], strict=True)]
        columns = [array.restore().array for array in self.arrays]
        if self.kind == "index":
            return pd.Index(columns[0], name=self.names[0])
        if self.kind == "series":
            return pd.Series(columns[0], index=axes[0], name=self.names[0])
        frame = pd.DataFrame(dict(enumerate(columns)), index=axes[0])
        return frame.set_axis(axes[1], axis="columns")


def is_pandas(part: object) -> bool:
    """Return whether `pandas_data` has a proxy for an object: a series, frame or index without levels of categories."""
    if isinstance(part, pd.Index):
        return not isinstance(part, pd.MultiIndex) and not isinstance(part.dtype, pd.CategoricalDtype)
    if isinstance(part, pd.Series):
        return not isinstance(part.dtype, pd.CategoricalDtype) and is_pandas(part.index)
    if isinstance(part, pd.DataFrame):
        plain = not any(isinstance(dtype, pd.CategoricalDtype) for dtype in part.dtypes)
        return plain and is_pandas(part.index) and is_pandas(part.columns)
    return False


def pandas_data(part: Any) -> PandasData:  # noqa: ANN401  a series, frame or index
    """Return the proxy of a series, frame or index."""
    if isinstance(part, pd.Index):
        return PandasData("index", [_array(part)], [], [part.name])
    axes = [_array(axis) for axis in part.axes]
    axis_names = [axis.name for axis in part.axes]
    if isinstance(part, pd.Series):
        return PandasData("series", [_array(part)], axes, [part.name, *axis_names])
    columns = [_array(part.iloc[:, position]) for position in range(part.shape[1])]
    return PandasData("frame", columns, axes, [None, *axis_names])


def _array(values: Any) -> PandasArray:  # noqa: ANN401  a series or index
    if isinstance(values.dtype, np.dtype):
        return PandasArray(values.tolist() if values.dtype == object else values.to_numpy(), str(values.dtype))
    missing = values.isna()
    return PandasArray(
        [None if none else value for value, none in zip(values, missing, strict=True)], str(values.dtype)
    )
