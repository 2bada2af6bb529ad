"""The reference distribution of a feature: its training data in bins, into which later traffic is counted."""

import math
import sys
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.bin_names import MISSING, OTHER, UNSEEN, numeric_bin_name
from modeltrace.inference.schema import Reference

# Number of bins with about the same share of the training data.
N_QUANTILE_BINS = 10
# A value with at least this share of the training data has a bin of its own.
FREQUENT_SHARE = 0.1
# Float32 columns and clients that round change a number by less than this share of it.
ROUNDING = 1e-6
MAX_CATEGORIES = 20
# If more categories than this occur once, further rows are expected to have new ones.
MAX_SINGLE_CATEGORIES = 2
# A category has a bin if it occurs at least this often in the rows that select the bins.
MIN_CATEGORY_ROWS = 5
# For larger absolute values, the difference of two numbers, or the sum of many, may overflow.
OVERFLOW_LIMIT = 2.0**900


def numeric_reference(values: NDArray[np.float64], *, n: int) -> Reference:
    """Build bins from the training values.

    About ten bins have equal shares. A frequent value and zero, which often replaces a lost value, have bins of their
    own. The first and the last bin are for numbers outside the training range, so their shares are 0. Edges are
    between two distinct training values, so a rounded number stays in its bin. There are at most 24 bins.

    Args:
        values: the values that are not missing, shape (n_values,).
        n: the number of rows, with missing values.
    """
    edges = _bin_edges(*np.unique(values + 0.0, return_counts=True))  # -0.0 becomes 0.0
    return Reference(n=n, edges=tuple(edges.tolist()), shares=numeric_shares(values, edges, n=n), **_moments(values))


def numeric_shares(values: NDArray[np.float64], edges: NDArray[np.float64], *, n: int) -> dict[str, float]:
    """Return the share of each bin among `n` rows, of which `values` are not missing."""
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    shares = {numeric_bin_name(index): count / n for index, count in enumerate(counts.tolist())}
    return {**shares, MISSING: (n - len(values)) / n, OTHER: 0.0}


def _bin_edges(distinct: NDArray[np.float64], counts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the edges of the bins of sorted distinct values, each of which occurs `counts` times."""
    outer = _outer_edges(distinct)
    if distinct[0] < 0 < distinct[-1] and 0 not in distinct:
        zero = int(np.searchsorted(distinct, 0))
        distinct, counts = np.insert(distinct, zero, 0), np.insert(counts, zero, 0)
    has_own_bin = (counts >= FREQUENT_SHARE * counts.sum()) | (distinct == 0)
    # Boundary i separates the distinct values i and i + 1. `cumulative[i]` values are below it.
    cumulative = counts.cumsum()[:-1]
    targets = np.linspace(0, counts.sum(), N_QUANTILE_BINS + 1)[1:-1]
    boundaries = {int(np.abs(cumulative - target).argmin()) for target in targets if len(cumulative)}
    for index in np.flatnonzero(has_own_bin).tolist():
        boundaries |= {index - 1, index} & set(range(len(cumulative)))
    low, high = (distinct[[index + side for index in sorted(boundaries)]] for side in (0, 1))
    middle = low / 2 + high / 2
    return np.unique([*outer, *np.where(middle < high, middle, low)])


def _outer_edges(distinct: NDArray[np.float64]) -> list[float]:
    """Return an edge below the smallest and one above the largest value, half way to where a next value could be.

    Zero is outside, unless it is within the range. Every edge is finite: a double that has no smaller or larger
    neighbour is an edge itself.
    """
    low, high = float(distinct[0]), float(distinct[-1])
    below, above = (0.0, 0.0) if low == high else (float(distinct[1] / 2 - low / 2), float(high / 2 - distinct[-2] / 2))
    if low > 0:
        below = min(below, low / 2)
    if high < 0:
        above = min(above, -high / 2)
    return [
        max(low - max(below, abs(low) * ROUNDING, math.ulp(low)), -sys.float_info.max),
        min(high + max(above, abs(high) * ROUNDING, math.ulp(high)), sys.float_info.max),
    ]


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


def categorical_reference(texts: "pd.Series", *, n: int, lists_all: bool = True) -> Reference:
    """Build one bin for each of the most frequent values; `other` contains the rest, `unseen` all unknown values.

    If there are more values than bins, or several values occur once, some values are frequent by chance, and their
    shares are too large. Therefore, one half of the rows selects the bins, and the other half determines the shares. In
    this case, further rows have new values, too; see `_share_of_new_values`. `n` of the result is the number of rows
    that would determine the least certain share as well.

    Args:
        texts: the values that are not missing. `missing`, `other` and `unseen` count in the bin of that name.
        n: the number of rows, with missing values.
        lists_all: whether the schema lists all values. Otherwise new values are unknown, and there is no bin `unseen`.
    """
    special = {name: int((texts == name).sum()) / n for name in (MISSING, OTHER, UNSEEN)}
    named = texts[~texts.isin([*special])].reset_index(drop=True)
    counts = named.value_counts()
    frequent, counted, unseen, rows = counts.index, named, 0.0, float(n)
    if len(counts) > MAX_CATEGORIES or (counts == 1).sum() > MAX_SINGLE_CATEGORIES:
        selecting = named.sample(frac=0.5, random_state=0)
        selected = selecting.value_counts()
        frequent = selected.index[selected >= MIN_CATEGORY_ROWS][:MAX_CATEGORIES]
        counted = named.drop(selecting.index)
        rows *= len(counted) / len(named)
        if lists_all:
            unseen, rows = _share_of_new_values(counts.to_numpy(), n=n, rows=rows)
    present = len(named) / n
    bin_counts = counted.value_counts().reindex(frequent, fill_value=0)
    shares = {str(name): present * count / len(counted) for name, count in bin_counts.items()}
    rest = max(present - math.fsum(shares.values()), 0.0)
    unseen = min(unseen, rest)
    shares |= {MISSING: (n - len(texts)) / n + special[MISSING], OTHER: rest - unseen + special[OTHER]}
    if lists_all:
        shares[UNSEEN] = unseen + special[UNSEEN]
    else:
        shares[OTHER] += special[UNSEEN]
    return Reference(n=max(round(rows), 1), shares=shares)


def _share_of_new_values(counts: NDArray[Any], *, n: int, rows: float) -> tuple[float, float]:
    """Return the expected share of new values in further rows, and the number of rows that determine it.

    The share is about that of the values that occur once, f1 / n. Its variance is (f1 + 2 f2) / n², where f2 values
    occur twice (I. J. Good, "The population frequencies of species and the estimation of population parameters",
    Biometrika 40, 1953). `rows` rows of a binomial distribution have a smaller variance, so fewer rows are returned.
    """
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    share = once / n
    return share, min(rows, share * (1 - share) * n * n / (once + 2 * twice)) if 0 < share < 1 else rows
