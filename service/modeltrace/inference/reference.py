"""The reference distribution of a feature: its training data in bins, into which later traffic is counted."""

import math
import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.inference.schema import MISSING, OTHER, Reference

N_BINS = 10
MAX_CATEGORIES = 20
# For larger absolute values, the difference of two numbers, or the sum of many, may overflow.
OVERFLOW_LIMIT = 2.0**900


def numeric_reference(values: NDArray[np.float64], *, n: int) -> Reference:
    """Build bins at the deciles of the training values.

    An edge that equals another edge or the maximum would leave an empty bin, so it is removed. A constant feature has
    one bin for its value, one below and one above. `n` includes rows with a missing value, unlike `values`.
    """
    lowest, highest = values.min(), values.max()
    if lowest == highest:
        below = math.nextafter(highest, -math.inf)
        edges = np.array([below, highest] if math.isfinite(below) else [highest])
    else:
        # Values that may overflow are halved. Halving is exact except for subnormal numbers.
        half = 0.5 if max(-lowest, highest) > OVERFLOW_LIMIT else 1.0
        quantiles = np.quantile(values * half, np.linspace(0, 1, N_BINS + 1)[1:-1]) / half
        edges = np.unique(quantiles[quantiles < highest])
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    shares = {f"{index:02d}": count / n for index, count in enumerate(counts.tolist())}
    return Reference(
        n=n,
        edges=tuple(edges.tolist()),
        shares={**shares, MISSING: (n - len(values)) / n, OTHER: 0.0},
        **_moments(values),
    )


def _moments(values: NDArray[np.float64]) -> dict[str, float]:
    """Compute mean and standard deviation. Both are finite, and exact if all values are equal.

    In floating point, the mean of n equal numbers is not always that number, and their deviation not always 0;
    therefore, equal values are detected by comparison. Other values are scaled to the interval from 0 to 1 before they
    are squared, so that squares neither overflow nor underflow.
    """
    lowest, highest = float(values.min()), float(values.max())
    if lowest == highest:
        return {"mean": lowest, "deviation": 0.0}
    half = 0.5 if max(-lowest, highest) > OVERFLOW_LIMIT else 1.0
    span = highest * half - lowest * half
    scaled = (values * half - lowest * half) / span
    mean = math.fsum((values / len(values)).tolist()) if half < 1 else math.fsum(values.tolist()) / len(values)
    return {
        "mean": min(max(mean, lowest), highest),
        "deviation": min(float(scaled.std()) * span / half, sys.float_info.max),
    }


def categorical_reference(texts: "pd.Series", *, n: int) -> Reference:
    """Build one bin for each of the most frequent values; the rest counts as `other`.

    A category that is itself called `missing` or `other` counts in the bin of that name. `n` includes rows with a
    missing value, `texts` does not.
    """
    counts = {str(name): int(count) for name, count in texts.value_counts().items()}
    missing = n - len(texts) + counts.pop(MISSING, 0)
    other = counts.pop(OTHER, 0) + sum(list(counts.values())[MAX_CATEGORIES:])
    most_frequent = dict(list(counts.items())[:MAX_CATEGORIES])
    bins = {**most_frequent, MISSING: missing, OTHER: other}
    return Reference(n=n, shares={name: count / n for name, count in bins.items()})
