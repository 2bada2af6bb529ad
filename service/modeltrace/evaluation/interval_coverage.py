"""The coverage of prediction intervals: the share of true labels that are inside of their intervals.

The confidence interval of the share is that of E. B. Wilson, "Probable inference, the law of succession, and
statistical inference", Journal of the American Statistical Association 22 (1927). This module has no database code.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

# The confidence level of the interval of a coverage.
CONFIDENCE_LEVEL: Final = 0.95


class IntervalSums(NamedTuple):
    """Sums over the labelled predictions of a regressor that have a prediction interval."""

    rows: int
    covered: int  # labels inside of their intervals; a label that equals a bound is inside
    width: float  # sum of the widths
    level: float  # sum of the levels


@dataclass(frozen=True, slots=True)
class IntervalCoverage:
    """How often prediction intervals enclose the true label.

    `low` and `high` enclose the coverage with a probability of 95 %. If `level` is not between them, the intervals are
    too narrow or too wide.
    """

    rows: int
    coverage: float
    low: float
    high: float
    level: float  # the share that the intervals should enclose; the mean if they have different levels
    mean_width: float  # in the unit of the output


def interval_coverage(sums: IntervalSums) -> IntervalCoverage | None:
    """Return the coverage; `None` without labelled predictions that have an interval."""
    rows = sums.rows
    if not rows:
        return None
    share = sums.covered / rows
    low, high = wilson_interval(sums.covered, rows)
    return IntervalCoverage(rows, share, low, high, sums.level / rows, sums.width / rows)


def wilson_interval(count: int, rows: int) -> tuple[float, float]:
    """Return the bounds of Wilson's interval of a share, at the confidence level `CONFIDENCE_LEVEL`.

    With p = `count` / n and the two-sided normal quantile z, they are
    (p + z² / 2n ± z √(p (1 - p) / n + z² / 4n²)) / (1 + z² / n).
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE_LEVEL) / 2)
    share, correction = count / rows, z * z / rows
    center = share + correction / 2
    half_width = z * math.sqrt(share * (1 - share) / rows + correction / (4 * rows))
    low, high = ((center + sign * half_width) / (1 + correction) for sign in (-1, 1))
    # Rounding must not exclude a share of 0 or 1.
    return 0.0 if not count else low, 1.0 if count == rows else high
