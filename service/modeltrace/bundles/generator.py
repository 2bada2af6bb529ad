"""Independent synthetic rows that resemble a small labelled data set, as many as are needed.

A Gaussian copula for each class: the class is drawn by its share, then a row of the class, whose columns have the
marginal distributions of the data (linear between its values, never outside its range) and its rank correlations
(Nelsen, "An Introduction to Copulas", 2.3). Rows that are drawn are independent of each other: nothing repeats, and the
distribution never changes. A bootstrap of the same data would repeat its few rows for ever.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
# Significant digits of a value, about as many as measurements have.
DIGITS: Final = 4


class _ClassModel(NamedTuple):
    """One class: its share, its values in order, shape (rows, columns), and a root of their correlations."""

    share: float
    ordered: Floats
    root: Floats


class GaussianCopula:
    """Draws labelled rows. Build it with `fit`."""

    def __init__(self, classes: Sequence[object], models: Sequence[_ClassModel]) -> None:
        """See `fit`."""
        self._classes = tuple(classes)
        self._models = tuple(models)

    @classmethod
    def fit(cls, values: Floats, labels: Sequence[object]) -> Self:
        """Fit the generator.

        Args:
            values: finite numbers, shape (rows, columns).
            labels: the class of each row.
        """
        classes = sorted(set(labels), key=str)
        place = {label: index for index, label in enumerate(classes)}
        codes = np.array([place[label] for label in labels])
        return cls(classes, [_fit(values[codes == code], len(values)) for code in range(len(classes))])

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[Floats, list[object]]:
        """Draw independent rows.

        Returns:
            The values, shape (rows, columns), and the label of each row.
        """
        codes = rng.choice(len(self._models), size=rows, p=[model.share for model in self._models])
        values = np.empty((rows, self._models[0].ordered.shape[1]))
        for code, model in enumerate(self._models):
            chosen = codes == code
            values[chosen] = _draw(model, int(chosen.sum()), rng)
        return _rounded(values), [self._classes[code] for code in codes]


def _fit(values: Floats, total: int) -> _ClassModel:
    """Normal scores of ranks, scaled to variance 1: their second moments R are the copula's correlations.

    The singular values and right vectors of the scores give a root of R, even where R is singular.
    """
    scores = ndtri((values.argsort(axis=0).argsort(axis=0) + 0.5) / len(values))
    deviation = np.sqrt((scores**2).mean(axis=0))
    _, singular, right = np.linalg.svd(scores / np.where(deviation > 0, deviation, 1.0), full_matrices=False)
    root = singular[:, np.newaxis] * right / np.sqrt(len(values))
    return _ClassModel(len(values) / total, np.sort(values, axis=0), root)


def _draw(model: _ClassModel, rows: int, rng: np.random.Generator) -> Floats:
    known = len(model.ordered)
    normal = rng.standard_normal((rows, len(model.root))) @ model.root
    position = ndtr(normal) * (known - 1)
    lower = np.minimum(position.astype(np.intp), max(known - 2, 0))
    upper = np.minimum(lower + 1, known - 1)
    below, above = np.take_along_axis(model.ordered, lower, 0), np.take_along_axis(model.ordered, upper, 0)
    drawn: Floats = below + (position - lower) * (above - below)
    return drawn


def _rounded(values: Floats) -> Floats:
    """Round to `DIGITS` significant digits."""
    size = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
    unit = 10.0 ** (DIGITS - 1 - size)
    rounded: Floats = np.rint(values * unit) / unit
    return rounded
