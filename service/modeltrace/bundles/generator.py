"""Sample any number of synthetic rows that resemble a small labelled data set.

The generator is a Gaussian copula per class (Nelsen, "An Introduction to Copulas", 2.3). It samples a class with the
probability of its share, then a row of that class. Each column has the marginal distribution of the data, interpolated
linearly between its values and within its range. The columns have the rank correlations of the data. The rows are
independent and identically distributed. A bootstrap is not suitable, because it repeats the few rows of the data.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
# Significant digits of the generated values, about the precision of measurements.
SIGNIFICANT_DIGITS: Final = 4


class _ClassDistribution(NamedTuple):
    """One class: its share, its values of shape (rows, columns), each column sorted, and a root of the correlations."""

    share: float
    sorted_values: Floats
    correlation_root: Floats


class GaussianCopula:
    """Sample labelled rows from a distribution that was fitted on data; create it with `fit`."""

    def __init__(self, classes: Sequence[object], models: Sequence[_ClassDistribution]) -> None:
        """Store the fitted distributions; see `fit`."""
        self._classes = tuple(classes)
        self._models = tuple(models)

    @classmethod
    def fit(cls, values: Floats, labels: Sequence[object]) -> Self:
        """Fit the generator to labelled rows.

        Args:
            values: finite numbers, shape (rows, columns).
            labels: the class of each row.
        """
        classes = sorted(set(labels), key=str)
        code_of = {label: code for code, label in enumerate(classes)}
        codes = np.array([code_of[label] for label in labels])
        return cls(classes, [_fit_class(values[codes == code], len(values)) for code in range(len(classes))])

    def sample(self, rows: int, rng: np.random.Generator) -> tuple[Floats, list[object]]:
        """Sample independent rows.

        Returns:
            The values, shape (rows, columns), and the label of each row.
        """
        codes = rng.choice(len(self._models), size=rows, p=[model.share for model in self._models])
        values = np.empty((rows, self._models[0].sorted_values.shape[1]))
        for code, model in enumerate(self._models):
            chosen = codes == code
            values[chosen] = _sample_class(model, int(chosen.sum()), rng)
        return _round_significant(values), [self._classes[code] for code in codes]


def _fit_class(values: Floats, total: int) -> _ClassDistribution:
    """Fit one class from the normal scores of its ranks, scaled to variance 1.

    The correlation matrix R of the copula is the matrix of second moments of the scores. A root of R is computed from
    the singular values and right singular vectors of the scores. This works even if R is singular.
    """
    scores = ndtri((values.argsort(axis=0).argsort(axis=0) + 0.5) / len(values))
    deviation = np.sqrt((scores**2).mean(axis=0))
    _, singular, right = np.linalg.svd(scores / np.where(deviation > 0, deviation, 1.0), full_matrices=False)
    root = singular[:, np.newaxis] * right / np.sqrt(len(values))
    return _ClassDistribution(len(values) / total, np.sort(values, axis=0), root)


def _sample_class(model: _ClassDistribution, rows: int, rng: np.random.Generator) -> Floats:
    n_values = len(model.sorted_values)
    normal = rng.standard_normal((rows, len(model.correlation_root))) @ model.correlation_root
    position = ndtr(normal) * (n_values - 1)
    lower = np.minimum(position.astype(np.intp), max(n_values - 2, 0))
    upper = np.minimum(lower + 1, n_values - 1)
    below, above = np.take_along_axis(model.sorted_values, lower, 0), np.take_along_axis(model.sorted_values, upper, 0)
    sampled: Floats = below + (position - lower) * (above - below)
    return sampled


def _round_significant(values: Floats) -> Floats:
    """Round to `SIGNIFICANT_DIGITS` significant digits."""
    size = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
    unit = 10.0 ** (SIGNIFICANT_DIGITS - 1 - size)
    rounded: Floats = np.rint(values * unit) / unit
    return rounded
