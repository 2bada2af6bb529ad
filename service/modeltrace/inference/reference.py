"""The distribution of training data in bins, which later traffic is counted into."""

import math
import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.inference.schema import MISSING, OTHER, Reference

N_BINS = 10
MAX_CATEGORIES = 20
# The difference of two numbers beyond this may be infinite; so may the sum of many.
OVERFLOW_LIMIT = 2.0**900


def numeric_reference(values: NDArray[np.float64], *, n: int) -> Reference:
    """Bins at the deciles of the training values; `n` counts the missing ones, too.

    An edge equal to another, or to the maximum, would leave a bin that nothing can fall into: merged. What was always
    the same has a bin by itself, between what is less and what is more.
    """
    lowest, highest = values.min(), values.max()
    if lowest == highest:
        below = math.nextafter(highest, -math.inf)
        edges = np.array([below, highest] if math.isfinite(below) else [highest])
    else:
        # Halves, since the difference of two numbers can be more than a double holds; halving is exact but for
        # subnormal numbers.
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
    """Mean and standard deviation, finite for every finite input, and exact where all values are equal.

    The mean of n equal numbers in floating point is not always that number, and their deviation not always 0, so equal
    values are found by comparing. Squares of the other values neither overflow nor vanish, because the deviation is
    computed from the values' places between the lowest (0) and the highest (1).
    """
    lowest, highest = float(values.min()), float(values.max())
    if lowest == highest:
        return {"mean": lowest, "deviation": 0.0}
    half = 0.5 if max(-lowest, highest) > OVERFLOW_LIMIT else 1.0
    span = highest * half - lowest * half
    places = (values * half - lowest * half) / span
    mean = math.fsum((values / len(values)).tolist()) if half < 1 else math.fsum(values.tolist()) / len(values)
    return {
        "mean": min(max(mean, lowest), highest),
        "deviation": min(float(places.std()) * span / half, sys.float_info.max),
    }


def categorical_reference(texts: "pd.Series", *, n: int) -> Reference:
    """One bin for each of the most frequent values; what is rarer counts as `other`.

    A category that is itself called `missing` or `other` counts in the bin of that name.
    """
    counts = {str(name): int(count) for name, count in texts.value_counts().items()}
    missing = n - len(texts) + counts.pop(MISSING, 0)
    other = counts.pop(OTHER, 0) + sum(list(counts.values())[MAX_CATEGORIES:])
    top = dict(list(counts.items())[:MAX_CATEGORIES])
    bins = {**top, MISSING: missing, OTHER: other}
    return Reference(n=n, shares={name: count / n for name, count in bins.items()})
