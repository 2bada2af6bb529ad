"""Rows into the bins of the training data: what drift is computed from.

Counting is all that the service does. Counts of any number of workers and replicas add up, so whoever has them (the
hub, Prometheus) compares them with the shares of the training data, over whatever window, without a state kept here.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from modeltrace.inference.levels import LevelKind, level_name
from modeltrace.inference.schema import MISSING, OTHER, Feature, Schema, Value

Row = Sequence[Value]  # in the order of the schema; None where there was none


class FeatureBins:
    """The bins of all features, one after the other: `series` names each, by feature and bin."""

    def __init__(self, schema: Schema) -> None:
        self.names = schema.names
        self.bin_names = tuple((feature.name, name) for feature in schema.features for name in feature.reference.shares)
        starts = np.cumsum([0, *(len(feature.reference.shares) for feature in schema.features)])[:-1]
        self._starts = starts.astype(np.intp)
        # One value more in a sum is that value, and an exemplar says who fell into a bin: not of what is private.
        rules = np.array([feature.privacy for feature in schema.features])
        self.exemplar_columns = _columns(np.isin(rules, ("plain", "bucket")))
        numeric = [place for place, feature in enumerate(schema.features) if feature.reference.edges is not None]
        self._numeric = np.array(numeric, dtype=np.intp)
        self.sum_columns = _columns(rules[self._numeric] == "plain")
        self._others = [
            (place, _places(feature), partial(_name, kind=feature.level_kind or "boolean"))
            for place, feature in enumerate(schema.features)
            if feature.reference.edges is None
        ]
        edges = [schema.features[place].reference.edges or () for place in numeric]
        # Shorter ones are filled up with what no value exceeds.
        self._edges = np.full((len(numeric), max(map(len, edges), default=0)), np.inf)
        for place, inner in enumerate(edges):
            self._edges[place, : len(inner)] = inner
        self._missing = np.array([len(inner) + 1 for inner in edges], dtype=np.intp)

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """The features that have a mean, in the order of the columns of `numbers`, taken by `summed`."""
        return tuple(self.names[place] for place in self._numeric[self.sum_columns])

    def numeric_values(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """The numeric features of rows, shape (n_rows, n_numeric); NaN where a value is missing."""
        if len(self._numeric) == len(self.names):
            return np.array(rows, dtype=np.float64)
        return np.array([[row[place] for place in self._numeric] for row in rows], dtype=np.float64)

    def digitize(self, rows: Sequence[Row], numbers: NDArray[np.float64]) -> NDArray[np.intp]:
        """Where in `series` each value of rows falls, shape (n_rows, n_features); `numbers` is what `numbers` says.

        A number belongs to the bin whose upper edge is the first that it does not exceed.
        """
        places = np.empty((len(rows), len(self.names)), dtype=np.intp)
        if len(self._numeric):
            found = (numbers[:, :, np.newaxis] > self._edges).sum(axis=2)
            places[:, self._numeric] = np.where(np.isnan(numbers), self._missing, found)
        for place, known, name in self._others:
            other = known[OTHER]
            places[:, place] = [known.get(name(row[place]), other) for row in rows]
        places += self._starts
        return places


def _columns(chosen: "NDArray[np.bool_]") -> "NDArray[np.intp] | slice":
    """What takes the chosen columns of an array: all of them at no cost."""
    return slice(None) if chosen.all() else np.flatnonzero(chosen)


def _places(feature: Feature) -> dict[str, int]:
    return {name: place for place, name in enumerate(feature.reference.shares)}


def _name(value: Value, kind: LevelKind) -> str:
    """A category or boolean as the bins name it."""
    return MISSING if value is None else level_name(value, kind)
