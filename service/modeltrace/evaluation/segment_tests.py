"""Confidence intervals of the error of a segment, and tests of whether it is larger than that of other predictions.

A classifier's error is 1 or 0, and a regressor's error is its absolute error. All functions take arrays of numbers
of predictions and of sums over them.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


class Sums(NamedTuple):
    """Number of predictions, sum of their errors, and sum of their squared errors."""

    rows: Floats
    errors: Floats
    squares: Floats

    def minus(self, part: "Sums") -> "Sums":
        """Return the sums of the predictions that are not in a part."""
        return Sums(self.rows - part.rows, self.errors - part.errors, self.squares - part.squares)

    def at(self, index: NDArray[Any]) -> "Sums":
        """Return the sums at indices."""
        return Sums(self.rows[index], self.errors[index], self.squares[index])

    def mean(self) -> Floats:
        """Return the mean errors."""
        return self.errors / self.rows

    def deviation(self) -> Floats:
        """Return the standard deviations of the errors, with `rows - 1` degrees of freedom."""
        squares = np.maximum(self.squares - self.errors**2 / self.rows, 0.0)
        return np.sqrt(squares / (self.rows - 1))


def error_intervals(sums: Sums, alpha: float, *, classifier: bool) -> tuple[Floats, Floats]:
    """Return the ends of two-sided intervals that contain the error with a probability of at least 1 - alpha.

    For an error rate: Clopper and Pearson (Biometrika 26, 1934). For a mean absolute error: Student's t, which holds
    approximately if errors are not normal.
    """
    if classifier:
        low = stats.beta.ppf(alpha / 2, sums.errors, sums.rows - sums.errors + 1)
        high = stats.beta.ppf(1 - alpha / 2, sums.errors + 1, sums.rows - sums.errors)
        return np.where(sums.errors > 0, low, 0.0), np.where(sums.errors < sums.rows, high, 1.0)
    margin = stats.t.ppf(1 - alpha / 2, sums.rows - 1) * sums.deviation() / np.sqrt(sums.rows)
    return np.maximum(sums.mean() - margin, 0.0), sums.mean() + margin


def p_values(segment: Sums, rest: Sums, *, classifier: bool) -> Floats:
    """Return one-sided p-values of the hypothesis that the error of the segment is not larger than that of the rest.

    For error rates: Fisher's exact test. For mean absolute errors: Welch's t-test.
    """
    if classifier:
        errors = segment.errors + rest.errors
        return np.asarray(stats.hypergeom.sf(segment.errors - 1, segment.rows + rest.rows, errors, segment.rows))
    difference = segment.mean() - rest.mean()
    variances = segment.deviation() ** 2 / segment.rows, rest.deviation() ** 2 / rest.rows
    total = variances[0] + variances[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # all errors of both are equal: the result is replaced below
        freedom = total**2 / (variances[0] ** 2 / (segment.rows - 1) + variances[1] ** 2 / (rest.rows - 1))
        p = stats.t.sf(difference / np.sqrt(total), freedom)
    return np.where(total > 0, p, np.where(difference > 0, 0.0, 1.0))
