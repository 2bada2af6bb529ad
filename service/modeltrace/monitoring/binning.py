"""Assign the values of rows to the bins of the training data. Drift is computed from the counts in these bins.

The service only counts and stores no window. The hub and Prometheus add the counts of all workers and replicas, and
compare them with the training data over any window.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from modeltrace.bin_names import MISSING, OTHER, UNSEEN
from modeltrace.inference.category_levels import LevelKind, level_name
from modeltrace.inference.schema import Feature, Schema, Value
from modeltrace.inference.time_values import seconds_fn
from modeltrace.monitoring.dependence import bin_scores

Row = Sequence[Value]  # in the order of the schema; None for a missing value


class FeatureBins:
    """The bins of all features of a schema in one sequence.

    Attributes:
        names: the names of the features.
        bin_names: feature and bin name of each bin. The index of a bin in this sequence is its bin number.
        scores: the score of each bin: of a number, its normal score; of a missing number, 0; of a category, NaN.
        exemplar_columns: the columns of `digitize` whose counts may have exemplars.
        sum_columns: the columns of `numeric_values` whose sums may be recorded.
    """

    def __init__(self, schema: Schema) -> None:
        self.names = schema.names
        self.bin_names = tuple((feature.name, name) for feature in schema.features for name in feature.reference.shares)
        scores = {feature.name: bin_scores(feature.reference) for feature in schema.features}
        self.scores = np.array([scores[name].get(bin_name, math.nan) for name, bin_name in self.bin_names])
        starts = np.cumsum([0, *(len(feature.reference.shares) for feature in schema.features)])[:-1]
        self._starts = starts.astype(np.intp)
        # Sums and exemplars can disclose private features: the difference of two sums can be a single value, and an
        # exemplar links a bin to a request.
        rules = np.array([feature.privacy for feature in schema.features])
        self.exemplar_columns = _column_index(np.isin(rules, ("plain", "bucket")))
        numeric = [index for index, feature in enumerate(schema.features) if feature.reference.edges is not None]
        self._numeric = np.array(numeric, dtype=np.intp)
        self.sum_columns = _column_index(rules[self._numeric] == "plain")
        self._times = [
            (index, seconds_fn(schema.features[index].time_column))
            for index in numeric
            if schema.features[index].is_time
        ]
        self._categorical = [
            (index, *_category_bins(feature), partial(_bin_name, kind=feature.level_kind or "boolean"))
            for index, feature in enumerate(schema.features)
            if feature.reference.edges is None
        ]
        edges = [schema.features[index].reference.edges or () for index in numeric]
        # Shorter rows are padded with infinity, which no value exceeds.
        self._edges = np.full((len(numeric), max(map(len, edges), default=0)), np.inf)
        for row, inner in enumerate(edges):
            self._edges[row, : len(inner)] = inner
        self._missing = np.array([len(inner) + 1 for inner in edges], dtype=np.intp)

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """The features that have a mean, in the order of `numeric_values[:, sum_columns]`."""
        return tuple(self.names[index] for index in self._numeric[self.sum_columns])

    def numeric_values(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return the numeric features of rows, shape (n_rows, n_numeric); NaN for a missing value.

        Times and durations are numbers of seconds.
        """
        if self._times:
            rows = [self._to_seconds(row) for row in rows]
        if len(self._numeric) == len(self.names):
            return np.array(rows, dtype=np.float64)
        return np.array([[row[index] for index in self._numeric] for row in rows], dtype=np.float64)

    def _to_seconds(self, row: Row) -> Row:
        values = list(row)
        for index, convert in self._times:
            values[index] = convert(values[index])
        return values

    def digitize(self, rows: Sequence[Row], numbers: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the bin number of each value (an index of `bin_names`), shape (n_rows, n_features).

        `numbers` is the result of `numeric_values` for the rows. The upper edge of a bin belongs to the bin.
        """
        bins = np.empty((len(rows), len(self.names)), dtype=np.intp)
        if len(self._numeric):
            exceeded = (numbers[:, :, np.newaxis] > self._edges).sum(axis=2)
            bins[:, self._numeric] = np.where(np.isnan(numbers), self._missing, exceeded)
        for index, bin_by_name, unseen, name in self._categorical:
            bins[:, index] = [bin_by_name.get(name(row[index]), unseen) for row in rows]
        bins += self._starts
        return bins


def _category_bins(feature: Feature) -> tuple[dict[str, int], int]:
    """Return the bin number of each listed value by its name, and the bin number of all other values."""
    numbers = {name: number for number, name in enumerate(feature.reference.shares)}
    kind = feature.level_kind or "boolean"
    listed = (level_name(level, kind) for level in feature.categories or ())
    return {**dict.fromkeys(listed, numbers[OTHER]), **numbers}, numbers.get(UNSEEN, numbers[OTHER])


def _column_index(selected: "NDArray[np.bool_]") -> "NDArray[np.intp] | slice":
    """Return an index of the selected columns; a slice if all are selected, which copies nothing."""
    return slice(None) if selected.all() else np.flatnonzero(selected)


def _bin_name(value: Value, kind: LevelKind) -> str:
    """Return the name of the bin of a category or boolean."""
    return MISSING if value is None else level_name(value, kind)
