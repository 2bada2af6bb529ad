"""Drift statistics: the distance of a window of traffic from the training data, and its critical value.

All statistics are computed from counts in the bins of the training data, so the counts of several workers can be added.
Prometheus' rules (deploy/prometheus/rules/drift.yml) and the hub's SQL do the same; docs/monitoring.md explains it.

Drift is reported when a statistic exceeds two limits. The first is a minimum effect: smaller changes need no action.
The second is a critical value: random sampling without drift rarely exceeds it. The false alarm rate of a window is
1 % for all statistics of all features together (Bonferroni correction). `level` is the false alarm rate of one
statistic. `n` is the number of rows of the window, and `training` is the number of rows of the training data.
"""

import math
from statistics import NormalDist
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainccinv

PSI: Final = "psi"
JENSEN_SHANNON: Final = "jensen_shannon"
KS: Final = "ks"
NEW_CATEGORIES: Final = "new_categories"
MEAN_CHANGE: Final = "mean_change"
MISSING_VALUES: Final = "missing"
LOW_CONFIDENCE: Final = "low_confidence"

# Minimum effects. Smaller changes need no action.
MIN_EFFECT: Final = {
    PSI: 0.1,
    JENSEN_SHANNON: 0.02,
    KS: 0.1,
    NEW_CATEGORIES: 0.02,
    MEAN_CHANGE: 0.1,
    MISSING_VALUES: 0.02,
    LOW_CONFIDENCE: 0.05,
}
# The share of windows without drift that may raise an alarm.
FALSE_ALARM_RATE: Final = 0.01
# Minimum number of rows of a window.
MIN_ROWS: Final = 200
# Rows added to the count of each bin, so that the logarithm of an empty bin is finite.
PSEUDOCOUNT: Final = 0.5
# A change of mean is relative to the training mean. If the mean is below this share of the deviation, the change is
# relative to the deviation.
SMALL_MEAN_RATIO: Final = 0.1
# A deviation is unreliable if fewer rows than this at the most distant value could cause all of it.
MIN_TAIL_ROWS: Final = 5

# Rows repeat if the number of distinct rows is below this share of the number expected for independent rows.
MIN_DISTINCT_RATIO: Final = 0.5
# Minimum probability that an independent row is new. Below it, repetition cannot be detected in the smallest window.
MIN_NEW_PROBABILITY: Final = 0.1

DriftState = Literal["drift", "ok", "not enough data", "rows repeat"]
Floats = NDArray[np.float64]


def smooth(counts: ArrayLike) -> Floats:
    """Return smoothed shares of counts in k bins, shape (…, k): (count + ½) / (n + ½k)."""
    raised = np.asarray(counts, dtype=np.float64) + PSEUDOCOUNT
    shares: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def psi(counts: ArrayLike, training: ArrayLike) -> Any:  # noqa: ANN401  a number, or one per window
    """Return the population stability index of counts, shape (…, k): Σ (p - q) ln(p / q) of smoothed shares."""
    p, q = smooth(counts), smooth(training)
    return ((p - q) * np.log(p / q)).sum(axis=-1)


def jensen_shannon(counts: ArrayLike, training: ArrayLike) -> Any:  # noqa: ANN401  as above
    """Return the Jensen-Shannon divergence of smoothed shares in bits, from 0 to 1; its square root is the distance."""
    p, q = smooth(counts), smooth(training)
    middle = (p + q) / 2
    return (p * np.log2(p / middle) + q * np.log2(q / middle)).sum(axis=-1) / 2


def ks(counts: ArrayLike, training: ArrayLike) -> Any:  # noqa: ANN401  as above
    """Return the Kolmogorov-Smirnov distance of the ordered bins of numbers, without `missing` and `other`.

    The shares are not smoothed, so the result is the exact distance of the binned values. It is NaN without values.
    """
    p, q = np.asarray(counts, dtype=np.float64), np.asarray(training, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        difference = p / p.sum(axis=-1, keepdims=True) - q / q.sum(axis=-1, keepdims=True)
    return np.abs(difference.cumsum(axis=-1)).max(axis=-1)


def mean_scale(mean: float, deviation: float | None) -> float:
    """Return the scale of a change of mean: the training mean, or the deviation if the mean is close to zero."""
    if deviation is None or abs(mean) >= SMALL_MEAN_RATIO * deviation:
        return abs(mean)
    return deviation


def chi_square_quantile(df: int, level: float) -> float:
    """Return the value that chi-square with `df` degrees of freedom exceeds with probability `level`; 0 for none."""
    if df < 1:
        return 0.0
    return float(2 * gammainccinv(df / 2, level))


def critical_psi(bins: int, training: int, level: float) -> float:
    """Return the critical value of PSI, to be multiplied by (1/n + 1/training).

    Without drift, PSI is distributed as (1/n + 1/training) times chi-square with `bins` - 1 degrees of freedom:
    Yurdakul (2018), "Statistical properties of the population stability index". Bins that are empty in the training
    data are counted, too, because smoothing adds about one degree of freedom for each. The approximation PSI ≈ r² holds
    for small relative differences r of p and q. The correction r⁴/3 matters if the training data has few rows.
    """
    quantile = chi_square_quantile(bins - 1, level)
    return quantile * (1 + quantile / (3 * training))


def critical_jensen_shannon(bins: int, level: float) -> float:
    """Return the critical value of the divergence, to be multiplied by (1/n + 1/training).

    The divergence is about PSI / (8 ln 2) for small differences of the shares, and smaller than that for large ones.
    """
    return chi_square_quantile(bins - 1, level) / (8 * math.log(2))


def critical_ks(level: float) -> float:
    """Return the critical value of the distance, to be multiplied by √(1/n + 1/training).

    It is a quantile of Kolmogorov's distribution, computed from the first term of its series, 2 exp(-2 x²). Binning
    makes the distance smaller, so the false alarm rate is at most `level`.
    """
    return math.sqrt(math.log(2 / level) / 2)


def has_reliable_deviation(mean: float, deviation: float, low: float, high: float, training: int) -> bool:
    """Return whether the deviation is reliable. If a feature hardly varies, few rows determine its deviation."""
    farthest = max(high - mean, mean - low) / deviation
    return training >= MIN_TAIL_ROWS * farthest * farthest


def critical_mean_change(mean: float, deviation: float, low: float, high: float, training: int, level: float) -> float:
    """Return the critical value of a change of mean relative to `mean_scale`, to be multiplied by √(1/n + 1/training).

    The value is the normal quantile z with a correction for skewness. The correction is computed for the smallest
    window, where skewness matters most. It applies Chernoff's method to Bennett's bound on the cumulant generating
    function of a variable with this deviation and values between `low` and `high` (Boucheron, Lugosi, Massart,
    "Concentration Inequalities", 2.7). The deviation is computed with z²/2 additional rows at the most distant value,
    because the training data may lack this number of such rows by chance.
    """
    quantile = NormalDist().inv_cdf(1 - level / 2)
    size = math.sqrt(1 / MIN_ROWS + 1 / training)
    tilts = np.geomspace(0.01, 100, 400) * quantile / size
    scale = mean_scale(mean, deviation)
    deviation = math.hypot(deviation, quantile * max(high - mean, mean - low) / math.sqrt(2 * training))
    above, below = (high - mean) / deviation, (mean - low) / deviation

    def quantile_bound(window_bound: float, training_bound: float) -> float:
        cumulants = MIN_ROWS * _bennett(tilts / MIN_ROWS, window_bound)
        cumulants += training * _bennett(tilts / training, training_bound)
        return float(((cumulants + quantile**2 / 2) / tilts).min())

    largest = max(quantile_bound(above, below), quantile_bound(below, above))
    return largest / size * deviation / scale


def _bennett(tilts: Floats, bound: float) -> Floats:
    """Return the largest cumulant generating function of variables with mean 0, deviation 1 and maximum `bound`."""
    if bound <= 0:  # a variable with mean 0 and maximum 0 is constant
        return np.zeros_like(tilts)
    rest = math.log1p(bound**2)
    bounds: Floats = np.logaddexp(bound * tilts - rest, 2 * math.log(bound) - tilts / bound - rest)
    return bounds


def critical_increase(level: float) -> float:
    """Return the normal quantile for `increase_threshold` and `low_confidence_threshold`."""
    return NormalDist().inv_cdf(1 - level)


def threshold(statistic: str, critical: float, n: Any, training: Any) -> Any:  # noqa: ANN401  numbers or arrays
    """Return the threshold of psi, jensen_shannon, ks or mean_change for `n` rows against `training` rows."""
    variance = 1 / n + 1 / training
    scale = variance if statistic in (PSI, JENSEN_SHANNON) else variance**0.5
    return np.maximum(MIN_EFFECT[statistic], critical * scale)


def increase_threshold(statistic: str, critical: float, n: Any, training: Any, share: Any) -> Any:  # noqa: ANN401  as above
    """Return the threshold of an increase above `share` in the training data, for new categories and missing values.

    The threshold is the smallest significant increase by the score test of two Poisson rates, plus a correction for
    skewness in small windows, z²/6n. The correction is needed because a share of zero has no deviation.
    """
    half = critical**2 / (2 * training)
    critical_value = critical**2 / (6 * n) + half + np.sqrt(half**2 + critical**2 * share * (1 / n + 1 / training))
    return np.maximum(MIN_EFFECT[statistic], critical_value)


def low_confidence_threshold(critical: float, n: Any) -> Any:  # noqa: ANN401  as above
    """Return the threshold of the share of predictions with low confidence: 5 % plus its random variation."""
    share = MIN_EFFECT[LOW_CONFIDENCE]
    return share + critical**2 / (6 * n) + critical * np.sqrt(share * (1 - share) / n)


def min_distinct_rows(n: int, duplicate_probability: float) -> float:
    """Return how many of `n` rows must be distinct. Thresholds assume independent rows.

    Let d be the probability that two independent rows are equal. About (1 - exp(-n d)) / d of `n` independent rows are
    distinct: the number of occupied boxes if n balls are thrown into 1/d equally likely boxes. If the boxes are not
    equally likely, more rows are distinct. The minimum is therefore low for data with few possible rows.
    """
    d = duplicate_probability
    expected = n if d <= 0 else -math.expm1(-n * d) / d
    return MIN_DISTINCT_RATIO * expected


def max_repeated_share(duplicate_probability: float, remembered: int) -> float:
    """Return the largest share of rows that may equal one of the last `remembered` distinct rows.

    An independent row is new (it equals none of them) with the probability exp(-remembered · duplicate_probability). If
    this probability is below `MIN_NEW_PROBABILITY`, repetition cannot be detected, and the limit is 1.
    """
    new = math.exp(-remembered * duplicate_probability)
    return 1.0 if new < MIN_NEW_PROBABILITY else 1 - MIN_DISTINCT_RATIO * new


def drift_state(value: float, limit: float, n: int, *, rows_repeat: bool = False) -> DriftState:
    """Compare a statistic with its threshold. If `rows_repeat`, the rows are not independent and the state says so."""
    if n < MIN_ROWS or not math.isfinite(value):
        return "not enough data"
    if rows_repeat:
        return "rows repeat"
    return "drift" if value > limit else "ok"
