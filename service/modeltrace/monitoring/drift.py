"""Drift, defined: how far a window of traffic is from the training data, and how far undrifted samples come by chance.

Everything is computed from counts in the bins of the training data, so any number of workers adds up. Prometheus' rules
(deploy/prometheus/rules/drift.yml) and the hub's SQL compute the same; docs/monitoring.md explains it.

An alarm takes two things: an effect above a floor, below which nobody would act, and one above what undrifted windows
of this size reach. The chance of an alarm by chance alone is 1 % a window over all statistics of all features together
(Bonferroni): `level` is what one of them gets of it. `n` is always the rows of the window, `training` those of the
training data.
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

# Effects that somebody would act on.
MIN_EFFECT: Final = {
    PSI: 0.1,
    JENSEN_SHANNON: 0.02,
    KS: 0.1,
    NEW_CATEGORIES: 0.02,
    MEAN_CHANGE: 0.1,
    MISSING_VALUES: 0.02,
    LOW_CONFIDENCE: 0.05,
}
# Of undrifted windows, so many may raise an alarm.
FALSE_ALARM_RATE: Final = 0.01
# Rows below which nothing is said.
MIN_ROWS: Final = 200
# What each bin is given beside what it counted: half a row, so that an empty one has a logarithm.
PSEUDOCOUNT: Final = 0.5
# A mean is compared with itself, or with the deviation where it is nearly nothing beside that.
SMALL_MEAN_RATIO: Final = 0.1
# As many rows, farthest out, must make a deviation at least.
MIN_TAIL_ROWS: Final = 5

# Where fewer than this share of the rows that independent rows would have are new, they repeat.
MIN_DISTINCT_RATIO: Final = 0.5
# The least share of new rows from which a lack of them can be told in the smallest window.
MIN_NEW_PROBABILITY: Final = 0.1

DriftState = Literal["drift", "ok", "not enough data", "rows repeat"]
Floats = NDArray[np.float64]


def smooth(counts: ArrayLike) -> Floats:
    """Shares of counts in k bins, shape (…, k): (count + ½) / (n + ½k)."""
    raised = np.asarray(counts, dtype=np.float64) + PSEUDOCOUNT
    shares: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def psi(counts: ArrayLike, training: ArrayLike) -> Any:  # noqa: ANN401  one number, or one a window
    """Population stability index of counts, shape (…, k): Σ (p - q) ln(p / q), of smoothed shares."""
    p, q = smooth(counts), smooth(training)
    return ((p - q) * np.log(p / q)).sum(axis=-1)


def jensen_shannon(counts: ArrayLike, training: ArrayLike) -> Any:  # noqa: ANN401  as above
    """Jensen-Shannon divergence in bits, from 0 to 1, of smoothed shares; its square root is the distance."""
    p, q = smooth(counts), smooth(training)
    middle = (p + q) / 2
    return (p * np.log2(p / middle) + q * np.log2(q / middle)).sum(axis=-1) / 2


def ks(counts: ArrayLike, training: ArrayLike) -> Any:  # noqa: ANN401  as above
    """Kolmogorov and Smirnov's distance between the bins of numbers, in their order, without `missing` and `other`.

    Of the shares as they are, so it is exactly that of the values, each taken for its bin. NaN for no values.
    """
    p, q = np.asarray(counts, dtype=np.float64), np.asarray(training, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        apart = p / p.sum(axis=-1, keepdims=True) - q / q.sum(axis=-1, keepdims=True)
    return np.abs(apart.cumsum(axis=-1)).max(axis=-1)


def mean_scale(mean: float, deviation: float | None) -> float:
    """What a change of mean is a share of: the mean of the training data, or its deviation where that says more."""
    if deviation is None or abs(mean) >= SMALL_MEAN_RATIO * deviation:
        return abs(mean)
    return deviation


def chi_square_quantile(freedom: int, level: float) -> float:
    """What chi-square of so many degrees of freedom exceeds with the probability `level`; 0 of none, a single bin."""
    if freedom < 1:
        return 0.0
    return float(2 * gammainccinv(freedom / 2, level))


def critical_psi(bins: int, training: int, level: float) -> float:
    """PSI of two samples is (1/n + 1/training) chi-square, of one degree of freedom less than there are bins.

    Yurdakul (2018), "Statistical properties of the population stability index". Bins that the training data left empty
    count, too: what smoothing puts there is of the size of one degree each. That holds for small differences r of p
    relative to q, for which PSI is about r²; r⁴/3 comes on top, which few rows of training data make large.
    """
    quantile = chi_square_quantile(bins - 1, level)
    return quantile * (1 + quantile / (3 * training))


def critical_jensen_shannon(bins: int, level: float) -> float:
    """Jensen-Shannon's divergence in bits is PSI / (8 ln 2) for small differences, and less for large ones."""
    return chi_square_quantile(bins - 1, level) / (8 * math.log(2))


def critical_ks(level: float) -> float:
    """Kolmogorov's limit distribution, by its first term: 2 exp(-2 x²). Values in bins only make it smaller."""
    return math.sqrt(math.log(2 / level) / 2)


def has_reliable_deviation(mean: float, deviation: float, low: float, high: float, training: int) -> bool:
    """Whether more than a few rows make the deviation: that of a feature which hardly ever varies is a guess."""
    farthest = max(high - mean, mean - low) / deviation
    return training >= MIN_TAIL_ROWS * farthest * farthest


def critical_mean_change(mean: float, deviation: float, low: float, high: float, training: int, level: float) -> float:
    """What the change of a mean exceeds with at most `level`, as a share of `mean_scale`, times √(1/n + 1/training).

    The normal quantile z, corrected for skewness at the smallest window, where it matters most: by Bennett's bound on
    the cumulant generating function of what has this deviation and lies between `low` and `high` (Boucheron, Lugosi,
    Massart, "Concentration Inequalities", 2.7), and Chernoff's way from there to a quantile. The deviation is taken as
    if z²/2 rows more lay farthest out: so many can be missing from the training data by chance.
    """
    quantile = NormalDist().inv_cdf(1 - level / 2)
    size = math.sqrt(1 / MIN_ROWS + 1 / training)
    tilts = np.geomspace(0.01, 100, 400) * quantile / size
    scale = mean_scale(mean, deviation)
    deviation = math.hypot(deviation, quantile * max(high - mean, mean - low) / math.sqrt(2 * training))
    above, below = (high - mean) / deviation, (mean - low) / deviation

    def reached(window_bound: float, training_bound: float) -> float:
        grown = MIN_ROWS * _bennett(tilts / MIN_ROWS, window_bound) + training * _bennett(
            tilts / training, training_bound
        )
        return float(((grown + quantile**2 / 2) / tilts).min())

    furthest = max(reached(above, below), reached(below, above))
    return furthest / size * deviation / scale


def _bennett(tilts: Floats, bound: float) -> Floats:
    """The greatest cumulant generating function of what has mean 0 and deviation 1 and does not exceed `bound`."""
    if bound <= 0:  # the limit: what has the mean 0 and never exceeds 0 is 0
        return np.zeros_like(tilts)
    rest = math.log1p(bound**2)
    grown: Floats = np.logaddexp(bound * tilts - rest, 2 * math.log(bound) - tilts / bound - rest)
    return grown


def critical_increase(level: float) -> float:
    """The normal quantile that `increase_threshold` is made of."""
    return NormalDist().inv_cdf(1 - level)


def threshold(statistic: str, critical: float, n: Any, training: Any) -> Any:  # noqa: ANN401  numbers or arrays
    """What psi, jensen_shannon, ks or mean_change must exceed, of `n` rows against `training` rows."""
    variance = 1 / n + 1 / training
    return np.maximum(
        MIN_EFFECT[statistic], critical * (variance if statistic in (PSI, JENSEN_SHANNON) else variance**0.5)
    )


def increase_threshold(statistic: str, critical: float, n: Any, training: Any, share: Any) -> Any:  # noqa: ANN401  as above
    """How much a share must rise above the `share` of the training data: of new categories, of missing values.

    The score test of two Poisson rates, solved for what is just significant, and its correction for skewness in small
    windows, z²/6n: a share of nothing has no deviation to go by.
    """
    half = critical**2 / (2 * training)
    by_chance = critical**2 / (6 * n) + half + np.sqrt(half**2 + critical**2 * share * (1 / n + 1 / training))
    return np.maximum(MIN_EFFECT[statistic], by_chance)


def low_confidence_threshold(critical: float, n: Any) -> Any:  # noqa: ANN401  as above
    """What the share of answers with low confidence must exceed: more than 5 %, and more than chance makes of 5 %."""
    floor = MIN_EFFECT[LOW_CONFIDENCE]
    return floor + critical**2 / (6 * n) + critical * np.sqrt(floor * (1 - floor) / n)


def min_distinct_rows(n: int, coincidence: float) -> float:
    """How many of `n` rows must be distinct; thresholds are those of independent rows, and repeated ones are not.

    Of `n` independent rows, each equal to any other one with the probability `coincidence`, about
    (1 - exp(-n coincidence)) / coincidence are distinct (as of balls in 1 / coincidence boxes), and more of unequal
    boxes. Data of few possible rows repeats by itself, and is not blamed for it.
    """
    expected = n if coincidence <= 0 else -math.expm1(-n * coincidence) / coincidence
    return MIN_DISTINCT_RATIO * expected


def max_repeated_share(coincidence: float, remembered: int) -> float:
    """The share of rows that may equal one of those `remembered`; above it, they repeat.

    An independent row equals none of them with a probability of exp(-remembered coincidence). Where that is less than
    `MIN_NEW_PROBABILITY`, hardly any row is new anyway: it cannot be told, and the limit is 1.
    """
    new = math.exp(-remembered * coincidence)
    return 1.0 if new < MIN_NEW_PROBABILITY else 1 - MIN_DISTINCT_RATIO * new


def drift_state(value: float, limit: float, n: int, *, rows_repeat: bool = False) -> DriftState:
    """What is to be said of a statistic; `repeat`: whether the rows are known not to be independent."""
    if n < MIN_ROWS or not math.isfinite(value):
        return "not enough data"
    if rows_repeat:
        return "rows repeat"
    return "drift" if value > limit else "ok"
