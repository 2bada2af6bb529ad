"""Shapley values of the features of one prediction: how much each feature changes the output of the model.

The value of a set of features is the mean output for the rows of a background, in which the values of these features
are replaced by those of the explained row (interventional SHAP values: Lundberg and Lee, NeurIPS 2017).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Row = tuple[Any, ...]
# Returns the output for each row, shape (n_rows,).
PredictRows = Callable[[list[Row]], Floats]

# All sets of so many features are evaluated. With more features, sets are drawn at random.
MAX_EXACT_FEATURES: Final = 10
# The number of rows that the model predicts for one explanation, about.
MAX_PREDICTED_ROWS: Final = 100_000
# Rows per call of the model.
BATCH_ROWS: Final = 10_000
MIN_PERMUTATION_PAIRS: Final = 2
_SEED: Final = 20_240_607


@dataclass(frozen=True, slots=True)
class ShapleyValues:
    """The contributions of features. `base` plus their sum is `output`."""

    base: float  # mean output for the background
    output: float
    values: Floats  # shape (n_features,)
    standard_errors: Floats  # of random sets of features; 0 if all sets were evaluated; shape (n_features,)


class _Coalitions:
    """The values of sets of features, each computed once. A set is a tuple of booleans."""

    def __init__(self, predict: PredictRows, row: Row, background: Sequence[Row]) -> None:
        self._predict = predict
        self._row = row
        self._background = background
        self._known: dict[tuple[bool, ...], float] = {}

    def evaluate(self, coalitions: Sequence[tuple[bool, ...]]) -> list[float]:
        """Return the value of each set."""
        missing = [coalition for coalition in dict.fromkeys(coalitions) if coalition not in self._known]
        size = max(BATCH_ROWS // len(self._background), 1)
        for start in range(0, len(missing), size):
            part = missing[start : start + size]
            rows = [
                tuple(
                    own if included else other for own, other, included in zip(self._row, row, coalition, strict=True)
                )
                for coalition in part
                for row in self._background
            ]
            means = self._predict(rows).reshape(len(part), len(self._background)).mean(axis=1)
            self._known.update(zip(part, means.tolist(), strict=True))
        return [self._known[coalition] for coalition in coalitions]


def shapley_values(predict: PredictRows, row: Row, background: Sequence[Row]) -> ShapleyValues:
    """Return the Shapley values of the features of a row.

    With at most `MAX_EXACT_FEATURES` features they are exact. With more, they are means over random permutations of the
    features and their reversals (Castro, Gómez and Tejada: Comput. Oper. Res. 36, 2009). The result does not change
    from run to run.

    Args:
        predict: returns the output to explain for each row.
        row: the values of the features.
        background: the rows that the row is compared with; at least one.
    """
    coalitions = _Coalitions(predict, row, background)
    number = len(row)
    base, output = coalitions.evaluate([(False,) * number, (True,) * number])
    compute = _exact if number <= MAX_EXACT_FEATURES else _sampled
    values, standard_errors = compute(coalitions, number, len(background))
    return ShapleyValues(base, output, values, standard_errors)


def _exact(coalitions: _Coalitions, number: int, _: int) -> tuple[Floats, Floats]:
    every = [tuple(bool(index >> bit & 1) for bit in range(number)) for index in range(2**number)]
    value = np.array(coalitions.evaluate(every))
    sizes = np.array([sum(coalition) for coalition in every])
    weights = np.array([1 / (number * comb(number - 1, size)) if size < number else 0.0 for size in sizes.tolist()])
    result = np.empty(number)
    for bit in range(number):
        without = np.flatnonzero((np.arange(2**number) >> bit & 1) == 0)
        result[bit] = (weights[without] * (value[without | 1 << bit] - value[without])).sum()
    return result, np.zeros(number)


def _sampled(coalitions: _Coalitions, number: int, background_rows: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(_SEED)
    pairs = max(MAX_PREDICTED_ROWS // (2 * number * background_rows), MIN_PERMUTATION_PAIRS)
    means = np.empty((pairs, number))
    for pair in range(pairs):
        order = rng.permutation(number)
        means[pair] = (_marginal(coalitions, order) + _marginal(coalitions, order[::-1])) / 2
    return means.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(pairs)


def _marginal(coalitions: _Coalitions, order: NDArray[np.intp]) -> Floats:
    """Return by how much each feature changes the value of the set of the features before it."""
    included = np.zeros((len(order) + 1, len(order)), dtype=bool)
    for position, feature in enumerate(order.tolist()):
        included[position + 1 :, feature] = True
    values = coalitions.evaluate([tuple(part) for part in included.tolist()])
    result = np.empty(len(order))
    result[order] = np.diff(values)
    return result
