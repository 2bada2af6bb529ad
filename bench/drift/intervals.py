"""Confidence intervals of shares of windows."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z95 = 1.959964


class Share(NamedTuple):
    """A share with its 95 % interval."""

    share: float
    low: float
    high: float


def clustered_share(clusters: Sequence[Sequence[bool]]) -> Share:
    """Return the share of true values in clusters of equal size, with its 95 % interval.

    The windows that are compared with the same training data are a cluster: they are not independent. Wilson's interval
    is computed for the effective number of windows, which is the number of windows divided by the design effect.
    """
    table = np.array(clusters, dtype=np.float64)
    share, (number, size) = float(table.mean()), table.shape
    effective = float(table.size)
    binomial = share * (1 - share) / size
    if binomial and number > 1:
        effective /= max(1.0, float(table.mean(axis=1).var(ddof=1)) / binomial)
    return wilson(share, effective)


def wilson(share: float, n: float) -> Share:
    """Return Wilson's 95 % interval of a share of `n` windows."""
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return Share(share, max(0.0, middle - half), min(1.0, middle + half))
