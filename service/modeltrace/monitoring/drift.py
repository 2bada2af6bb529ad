"""Drift statistics: the distance of a window of traffic from the training data, and its critical value.

All statistics are computed from counts in the bins of the training data, so the counts of several workers can be added.
Prometheus' rules (deploy/prometheus/rules/drift.yml) and the hub's SQL do the same; docs/monitoring.md explains it.

Drift is reported when a statistic exceeds two limits. The first is a minimum effect: smaller changes need no action.
The second is a critical value: random sampling without drift rarely exceeds it. All statistics of all features share
the false alarm rate of a window (Bonferroni correction). `level` is the false alarm rate of one statistic. `n` is the
number of rows of the window, and `training` is the number of rows of the training data.
"""

import math
from statistics import NormalDist
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainccinv, ndtri

PSI: Final = "psi"
JENSEN_SHANNON: Final = "jensen_shannon"
KS: Final = "ks"
LOCATION: Final = "location"
SPREAD: Final = "spread"
SHARE_CHANGE: Final = "share_change"
NEW_CATEGORIES: Final = "new_categories"
MISSING_VALUES: Final = "missing"
LOW_CONFIDENCE: Final = "low_confidence"

# Minimum effects. Smaller changes need no action.
MIN_EFFECT: Final = {
    PSI: 0.1,
    JENSEN_SHANNON: 0.02,
    KS: 0.1,
    LOCATION: 0.1,
    SPREAD: 0.1,
    SHARE_CHANGE: 0.02,
    NEW_CATEGORIES: 0.005,
    MISSING_VALUES: 0.01,
    LOW_CONFIDENCE: 0.03,
}
# The share of windows without drift that may raise an alarm. Prometheus evaluates a window of an hour every minute, so
# a model has about one false alert in a month.
FALSE_ALARM_RATE: Final = 0.0005
# Minimum number of rows of a window.
MIN_ROWS: Final = 200
# With fewer rows of training data, even large windows can only show a large change.
MIN_TRAINING_ROWS: Final = 250
# Rows added to the count of each bin, so that the logarithm of an empty bin is finite.
PSEUDOCOUNT: Final = 0.5
# No score is below the normal score of this quantile, or above that of 1 minus this quantile. Only a few rows would
# determine such a score.
OUTER_QUANTILE: Final = 0.025
# Scores are unreliable if the square of a score exceeds this value: the score then depends on only a few rows.
MAX_SQUARED_SCORE: Final = 20.0
# If the variance of the squares of scores is smaller, as for two values with equal shares, there is no spread.
MIN_SPREAD_VARIANCE: Final = 0.01
# Rows added to the share of the training data, and to the count of the window, so that the threshold of a share is
# valid for small counts.
TRAINING_CORRECTION: Final = 1.5
WINDOW_CORRECTION: Final = 1.0

# Rows repeat if the number of distinct rows is below this share of the number expected for independent rows.
MIN_DISTINCT_RATIO: Final = 0.5
# Minimum probability that an independent row is new. Below it, repetition cannot be detected in the smallest window.
MIN_NEW_PROBABILITY: Final = 0.1

DriftState = Literal[
    "drift", "ok", "not enough data", "reference too small", "rows repeat", "no held-out reference"
]  # fmt: skip
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


def normal_scores(training: ArrayLike) -> Floats:
    """Return a score for each of the ordered bins of numbers, with mean 0 and variance 1 in the training data.

    A score is the normal quantile of the middle of the bin, standardized. Outer bins without training data have the
    score of the next bin. The scores of equal numbers are 0. Statistics of scores detect a change of location or spread
    of normal values nearly as well as mean and variance, and extreme values do not affect them (B. L. van der Waerden,
    "Order tests for the two-sample problem", 1952).
    """
    q = np.asarray(training, dtype=np.float64)
    if np.count_nonzero(q) < 2:
        return np.zeros_like(q)
    q = q / q.sum()
    middle = q.cumsum() - q / 2
    low, high = max(middle[q > 0].min(), OUTER_QUANTILE), min(middle[q > 0].max(), 1 - OUTER_QUANTILE)
    scores: Floats = ndtri(middle.clip(low, high))
    scores -= q @ scores
    return scores / math.sqrt(float(q @ scores**2))


def spread_scores(scores: Floats, training: ArrayLike) -> Floats:
    """Return the squares of normal scores, with mean 0 and variance 1 in the training data; 0 if there is no spread."""
    q = np.asarray(training, dtype=np.float64)
    squares = scores**2 - 1
    variance = float(q @ squares**2 / q.sum()) if scores.any() else 0.0
    return squares / math.sqrt(variance) if variance > MIN_SPREAD_VARIANCE else np.zeros_like(scores)


def bin_scores(statistic: str, training: ArrayLike) -> Floats:
    """Return the scores that `LOCATION` or `SPREAD` averages."""
    scores = normal_scores(training)
    return scores if statistic == LOCATION else spread_scores(scores, training)


def score_change(counts: ArrayLike, scores: Floats) -> Any:  # noqa: ANN401  as above
    """Return the absolute mean score of counts in bins, shape (…, k); NaN without values.

    The scores have mean 0 and variance 1 in the training data, so the unit is the standard deviation.
    """
    c = np.asarray(counts, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.abs(c @ scores / c.sum(axis=-1))


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
    for small relative differences r of p and q. The correction r⁴/3 matters for small windows and few training rows.
    """
    quantile = chi_square_quantile(bins - 1, level)
    return quantile * (1 + quantile / (3 * min(training, MIN_ROWS)))


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


def has_reliable_scores(scores: Floats, training: ArrayLike) -> bool:
    """Return whether score statistics can be computed: a score is not 0, and no score depends on only a few rows."""
    highest = float((scores**2).max(initial=0.0, where=np.asarray(training) > 0))
    return 0 < highest <= MAX_SQUARED_SCORE


def critical_score(scores: Floats, training: ArrayLike, level: float) -> float:
    """Return the critical value of a score statistic, to be multiplied by √(1/n + 1/training).

    It is the two-sided normal quantile z with the correction for skewness of Cornish and Fisher (1938). The correction
    depends on the size of the window; this is the largest one for windows of at least `MIN_ROWS` rows.
    """
    q = np.asarray(training, dtype=np.float64)
    rows = float(q.sum())
    z = NormalDist().inv_cdf(1 - level / 2)
    skewness = abs(float(q @ scores**3)) / rows
    size = max(abs(1 / MIN_ROWS - 1 / rows) / math.sqrt(1 / MIN_ROWS + 1 / rows), 1 / math.sqrt(rows))
    return z + (z * z - 1) / 6 * skewness * size


def critical_share(level: float) -> float:
    """Return the critical value of a share, which may increase or decrease: the two-sided normal quantile."""
    return NormalDist().inv_cdf(1 - level / 2)


def threshold(statistic: str, critical: float, n: Any, training: Any) -> Any:  # noqa: ANN401  numbers or arrays
    """Return the threshold of a statistic of several bins for `n` rows against `training` rows."""
    variance = 1 / n + 1 / training
    scale = variance if statistic in (PSI, JENSEN_SHANNON) else variance**0.5
    return np.maximum(MIN_EFFECT[statistic], critical * scale)


def share_threshold(statistic: str, critical: float, n: Any, training: Any, share: Any, change: Any) -> Any:  # noqa: ANN401  as above
    """Return the threshold of the change of a share, which was `share` in the training data.

    The arc sine of the root of a share has the variance 1/4n for every share (F. J. Anscombe, "The transformation of
    Poisson, binomial and negative-binomial data", Biometrika 35, 1948). The corrections make the threshold valid for
    small counts: a test compares the false alarm rate with exact binomial probabilities. The threshold of a decrease is
    that of an increase of the share of all other rows. Fewer new categories than expected are no drift: their expected
    share is estimated from values that occur once, which can be many although nearly no value is unknown.
    """
    before = np.where(np.asarray(change) < 0, 1 - share, share)
    known = (before * training + TRAINING_CORRECTION) / (training + TRAINING_CORRECTION)
    angle = np.arcsin(np.sqrt(known)) + critical / 2 * np.sqrt(1 / n + 1 / training)
    limit = np.sin(np.minimum(angle, math.pi / 2)) ** 2 + WINDOW_CORRECTION / n - before
    if statistic == NEW_CATEGORIES:
        limit = np.where(np.asarray(change) < 0, share, limit)
    return np.maximum(MIN_EFFECT[statistic], limit)


def low_confidence_threshold(critical: float, n: Any, held_out: Any, share: float) -> Any:  # noqa: ANN401  as above
    """Return the threshold of the share of predictions with low confidence, which was `share` of `held_out` rows."""
    return share + share_threshold(LOW_CONFIDENCE, critical, n, held_out, share, 1.0)


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


def drift_state(
    value: float, limit: float, n: float, training: float, *, rows_repeat: bool = False, has_reference: bool = True
) -> DriftState:
    """Compare a statistic with its threshold.

    If `rows_repeat`, the rows are not independent and the state says so. `has_reference` is false for a statistic of
    the model's outputs if only outputs for rows that the model was fitted on are known.
    """
    if not has_reference:
        return "no held-out reference"
    if n < MIN_ROWS or not math.isfinite(value):
        return "not enough data"
    if rows_repeat:
        return "rows repeat"
    if abs(value) > limit:
        return "drift"
    return "reference too small" if training < MIN_TRAINING_ROWS else "ok"
