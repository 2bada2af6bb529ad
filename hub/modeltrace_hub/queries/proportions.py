"""Compare shares of two samples: confidence intervals, an exact test, and a correction for many tests."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

CONFIDENCE_LEVEL: Final = 0.95
_Z: Final = NormalDist().inv_cdf((1 + CONFIDENCE_LEVEL) / 2)
# The sum of a tail ends with the first term that is this small compared with the sum.
_NEGLIGIBLE: Final = 1e-17

Interval = tuple[float, float]


def wilson_interval(count: int, size: int) -> Interval:
    """Return the 95 % confidence interval of a share by Wilson's score method.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927).

    Args:
        count: the items that have the property.
        size: all items, at least one.
    """
    share, square = count / size, _Z**2 / size
    middle = share + square / 2
    half = _Z * math.sqrt((share * (1 - share) + square / 4) / size)
    return max((middle - half) / (1 + square), 0.0), min((middle + half) / (1 + square), 1.0)


def newcombe_interval(count: int, size: int, other_count: int, other_size: int) -> Interval:
    """Return the 95 % confidence interval of the difference of two shares, the first minus the second.

    Source: R. G. Newcombe, "Interval estimation for the difference between independent proportions: comparison of
    eleven methods", Statistics in Medicine 17 (1998), method 10.

    Args:
        count: the items of the first sample that have the property.
        size: all items of the first sample, at least one.
        other_count: the items of the second sample that have the property.
        other_size: all items of the second sample, at least one.
    """
    share, other_share = count / size, other_count / other_size
    low, high = wilson_interval(count, size)
    other_low, other_high = wilson_interval(other_count, other_size)
    difference = share - other_share
    return (
        max(difference - math.hypot(share - low, other_high - other_share), -1.0),
        min(difference + math.hypot(high - share, other_share - other_low), 1.0),
    )


def fisher_greater(count: int, size: int, other_count: int, other_size: int) -> float:
    """Return the p-value of Fisher's exact test that the share of the first sample is not greater.

    It is the probability of `count` or more items with the property in the first sample, if all items that have the
    property are drawn at random from both samples: the upper tail of the hypergeometric distribution.

    Args:
        count: the items of the first sample that have the property.
        size: all items of the first sample.
        other_count: the items of the second sample that have the property.
        other_size: all items of the second sample.
    """
    drawn = count + other_count
    lowest, highest = max(0, drawn - other_size), min(size, drawn)
    # The shorter tail is summed, from its largest term outward.
    is_upper = count * (size + other_size) > size * drawn
    number, step = (count, 1) if is_upper else (count - 1, -1)
    total = term = _probability(number, size, drawn, other_size) if lowest <= number <= highest else 0.0
    while term > total * _NEGLIGIBLE:
        if step > 0:
            term *= (size - number) * (drawn - number) / ((number + 1) * (other_size - drawn + number + 1))
        else:
            term *= number * (other_size - drawn + number) / ((size - number + 1) * (drawn - number + 1))
        total += term
        number += step
    return min(total if is_upper else 1 - total, 1.0)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that are corrected for the number of tests.

    If a result counts as significant when its corrected p-value is at most 0.05, then among tests of equal shares the
    probability that any of them is significant is at most 0.05, however the tests depend on each other.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979).
    """
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(p_values[index] * (len(p_values) - rank), 1.0))
        adjusted[index] = highest
    return adjusted


def _probability(number: int, size: int, drawn: int, other_size: int) -> float:
    """Return the probability of `number` items of the first sample among `drawn` items of both samples."""
    log = _log_choose(size, number) + _log_choose(other_size, drawn - number) - _log_choose(size + other_size, drawn)
    return math.exp(log)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
