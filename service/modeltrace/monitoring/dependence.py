"""How much the rows of a window depend on the rows before them, and how many independent rows they are worth.

Values of a sensor follow each other: an hour of them contains less information than the same number of independent
values, and differs from the training data by chance more often. The correlation of consecutive requests is computed
from `ml.feature.successive_difference`, or `ml.prediction.successive_difference`, and the counts in bins.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from modeltrace.inference.schema import Reference
from modeltrace.monitoring.drift import normal_scores

# A correlation of at most this number of standard errors is regarded as chance. The standard error is 1 / √pairs.
STANDARD_ERRORS: Final = 3.0
# The highest correlation that is distinguished. A row is then worth one two-thousandth of an independent row.
MAX_CORRELATION: Final = 0.999


def bin_scores(reference: Reference) -> dict[str, float]:
    """Return the score of each bin of numbers, and 0 for a missing number. It is empty for categories."""
    numbers = reference.number_shares
    if not numbers:
        return {}
    return dict.fromkeys(reference.shares, 0.0) | dict(
        zip(reference.shares, normal_scores(numbers).tolist(), strict=False)
    )


def bin_variance(reference: Reference, counts: Sequence[int]) -> float:
    """Return the variance of counts in the bins of a reference; 0 without rows.

    It is the variance of the scores. For categories, it is the probability that two independent values differ.
    """
    window = np.array(counts, dtype=np.float64)
    if not (n := window.sum()):
        return 0.0
    shares = window / n
    scores = np.array([*bin_scores(reference).values()])
    return float(shares @ scores**2 - (shares @ scores) ** 2 if len(scores) else 1 - shares @ shares)


def estimate_independent_share(difference: float, pairs: float, variance: float) -> float:
    """Return how many independent rows one row is worth, from 0 to 1.

    If the correlation of rows at a distance of d rows is r^d, n rows are worth n (1 - r) / (1 + r) independent rows for
    an estimate of a mean (M. S. Bartlett, "Some aspects of the time-correlation problem in regard to tests of
    significance", 1935). The correlation r of consecutive requests is 1 - difference / (pairs · variance).

    Args:
        difference: the sum of half the squared differences between consecutive requests.
        pairs: the number of differences.
        variance: see `bin_variance`.
    """
    if pairs <= 0 or variance <= 0:
        return 1.0
    correlation = min(1 - difference / (pairs * variance), MAX_CORRELATION)
    return 1.0 if correlation <= STANDARD_ERRORS / pairs**0.5 else (1 - correlation) / (1 + correlation)
