"""Compare the errors of labelled predictions with those for rows that the model was not fitted on.

The baseline is the error for N held-out rows: the error rate q of a classifier, the mean absolute error of a regressor.
The state is WORSE if the error of n predictions is larger by more than a threshold, which is a minimum effect or what
chance explains, whichever is larger. Both errors are estimates, so the threshold contains the sampling error of both:

    classifier: score test of two shares, z standard errors of the pooled share, plus z² (1 - 2q) / 6n for skewness
    regressor: z √(s² / n + S² / N), where s and S are standard deviations of the absolute errors

z is larger than for one test, because a model is evaluated every minute: docs/evaluation.md has the false alarm rates.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from modeltrace.telemetry.metrics.model_catalog import Baseline

WORSE: Final = "worse"
OK: Final = "ok"
NOT_ENOUGH_LABELS: Final = "not enough labels"
BASELINE_TOO_SMALL: Final = "baseline too small"
# The value of the gauge `ml.evaluation.baseline.state`.
STATE_NUMBERS: Final = {WORSE: 1, OK: 0, NOT_ENOUGH_LABELS: -1, BASELINE_TOO_SMALL: -2}

CRITICAL_VALUE: Final = 3.5  # standard errors
MIN_LABELS: Final = 50
# The smallest increase that matters, and the threshold above which "ok" would say nothing.
MIN_SHARE: Final = 0.02
MAX_SHARE: Final = 0.1
# The same for a mean absolute error, as a part of the baseline.
MIN_RATIO: Final = 0.1
MAX_RATIO: Final = 0.5


@dataclass(frozen=True, slots=True)
class BaselineComparison:
    """The error of labelled predictions and that of held-out rows: error rates, or mean absolute errors."""

    state: str  # WORSE, OK, NOT_ENOUGH_LABELS or BASELINE_TOO_SMALL
    error: float
    baseline_error: float
    increase: float  # error - baseline_error
    threshold: float  # the increase above which the state is WORSE
    standard_error: float  # of `error`
    baseline_standard_error: float
    labels: int
    baseline_rows: int

    @property
    def increase_standard_error(self) -> float:
        """The standard error of `increase`."""
        return math.hypot(self.standard_error, self.baseline_standard_error)


def compare_error_rates(error: float, labels: int, baseline: Baseline) -> BaselineComparison:
    """Compare the error rate of a classifier with its baseline."""
    deviation, baseline_deviation = (math.sqrt(share * (1 - share)) for share in (error, baseline.error))
    chance, smallest = (share_threshold(baseline.error, baseline.rows, n) for n in (labels, math.inf))
    errors = _StandardErrors(deviation / math.sqrt(labels), baseline_deviation / math.sqrt(baseline.rows))
    return _compare(error, labels, baseline, errors, _Limits(max(MIN_SHARE, chance), smallest, MAX_SHARE))


def compare_absolute_errors(error: float, deviation: float, labels: int, baseline: Baseline) -> BaselineComparison:
    """Compare the mean absolute error of a regressor, and the deviation of its absolute errors, with its baseline."""
    errors = _StandardErrors(deviation / math.sqrt(labels), (baseline.deviation or 0.0) / math.sqrt(baseline.rows))
    smallest = CRITICAL_VALUE * errors.baseline
    threshold = max(MIN_RATIO * baseline.error, CRITICAL_VALUE * math.hypot(*errors))
    return _compare(error, labels, baseline, errors, _Limits(threshold, smallest, MAX_RATIO * baseline.error))


def share_threshold(baseline: float, rows: int, labels: float) -> float:
    """Return the increase of a share that chance explains, for a baseline of `rows` rows.

    It solves d² = z² p (1 - p) (1/n + 1/N) for d, where p is the pooled share of both samples.
    """
    z2, n_inverse = CRITICAL_VALUE**2, 1 / labels
    skewness = 1 - 2 * baseline
    scale = 1 + z2 / (rows * (1 + rows * n_inverse))
    half = z2 * skewness / (2 * rows)
    root = math.sqrt(half**2 + scale * z2 * baseline * (1 - baseline) * (n_inverse + 1 / rows))
    return (half + root) / scale + z2 * max(skewness, 0) * n_inverse / 6


class _StandardErrors(NamedTuple):
    current: float
    baseline: float


class _Limits(NamedTuple):
    threshold: float
    smallest: float  # the threshold for any number of labels
    maximum: float  # the largest threshold with which the state can be OK


def _compare(
    error: float, labels: int, baseline: Baseline, errors: _StandardErrors, limits: _Limits
) -> BaselineComparison:
    increase = error - baseline.error
    state = NOT_ENOUGH_LABELS
    if labels >= MIN_LABELS:
        if increase > limits.threshold:
            state = WORSE
        elif limits.threshold <= limits.maximum:
            state = OK
        elif limits.smallest > limits.maximum:
            state = BASELINE_TOO_SMALL
    return BaselineComparison(
        state,
        error,
        baseline.error,
        increase,
        limits.threshold,
        errors.current,
        errors.baseline,
        labels,
        baseline.rows,
    )
