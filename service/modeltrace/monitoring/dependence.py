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

# A correlation of at most this number of standard errors is regarded as chance. The standard error is 1 / √pairs. With
# P processes, the limit is divided by √P, because the correlation of the undistributed requests is higher.
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


def estimate_independent_share(difference: float, pairs: float, variance: float, processes: float = 1.0) -> float:
    """Return how many independent rows one row is worth, from 0 to 1.

    If the correlation of rows at a distance of d rows is r^d, n rows are worth n (1 - r) / (1 + r) independent rows for
    an estimate of a mean (M. S. Bartlett, "Some aspects of the time-correlation problem in regard to tests of
    significance", 1935). The correlation c of the consecutive requests of a process is 1 - difference / (pairs ·
    variance). If a load balancer distributes requests to P processes at random, the next request of a process is G
    requests later, with the probability (1 - 1/P)^(G-1) / P. Then c is the mean of r^G, r / (P - (P - 1) r), and
    (1 - r) / (1 + r) = (1 - c) / (1 + (2P - 1) c).

    Args:
        difference: the sum of half the squared differences between consecutive requests of a process.
        pairs: the number of differences.
        variance: see `bin_variance`.
        processes: see `count_processes`.
    """
    if pairs <= 0 or variance <= 0:
        return 1.0
    correlation = min(1 - difference / (pairs * variance), MAX_CORRELATION)
    if correlation <= STANDARD_ERRORS / (pairs * processes) ** 0.5:
        return 1.0
    return (1 - correlation) / (1 + (2 * processes - 1) * correlation)


def count_processes(pairs: Sequence[float]) -> float:
    """Return to how many processes requests are distributed, from the number of pairs of each; 1 without pairs.

    It is the inverse of the probability that two requests are in the same process. A process with few requests counts
    little.
    """
    squares = sum(number**2 for number in pairs)
    return sum(pairs) ** 2 / squares if squares else 1.0
