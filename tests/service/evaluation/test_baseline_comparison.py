"""Errors are compared with those for held-out rows."""

import math

import numpy as np
import pytest
from scipy import stats

from modeltrace.evaluation.baseline_comparison import (
    BASELINE_TOO_SMALL,
    CRITICAL_VALUE,
    MIN_LABELS,
    MIN_SHARE,
    NOT_ENOUGH_LABELS,
    OK,
    WORSE,
    compare_absolute_errors,
    compare_error_rates,
    share_threshold,
)
from modeltrace.inference.held_out import HeldOut
from modeltrace.monitoring.held_out_baseline import baseline_of
from modeltrace.telemetry.metrics.model_catalog import Baseline


@pytest.mark.parametrize("baseline", [0.0, 0.01, 0.05, 0.3, 0.9])
@pytest.mark.parametrize(("rows", "labels"), [(100, 50), (400, 10_000), (10_000, 400)])
def test_the_threshold_is_that_of_the_score_test(baseline: float, rows: int, labels: int) -> None:
    """At the threshold, without its term for skewness, the pooled z statistic is the critical value."""
    skewness = CRITICAL_VALUE**2 * max(1 - 2 * baseline, 0) / (6 * labels)
    error = baseline + share_threshold(baseline, rows, labels) - skewness
    pooled = (error * labels + baseline * rows) / (labels + rows)

    z = (error - baseline) / math.sqrt(pooled * (1 - pooled) * (1 / labels + 1 / rows))

    assert z == pytest.approx(CRITICAL_VALUE, rel=1e-9)


@pytest.mark.parametrize(
    ("error", "labels", "rows", "expected"),
    [
        (0.4, MIN_LABELS, 500, WORSE),
        (0.4, MIN_LABELS - 1, 500, NOT_ENOUGH_LABELS),
        (0.06, MIN_LABELS, 500, NOT_ENOUGH_LABELS),
        (0.06, 5000, 500, OK),
        (0.05 + MIN_SHARE - 1e-9, 10**6, 10**6, OK),
        (0.05 + MIN_SHARE + 1e-9, 10**6, 10**6, WORSE),
        (0.06, 5000, 20, BASELINE_TOO_SMALL),
        (0.9, 5000, 20, WORSE),
        (0.0, 5000, 500, OK),
    ],
)
def test_states_of_an_error_rate(error: float, labels: int, rows: int, expected: str) -> None:
    """The held-out error rate is 5 %. An error rate can be worse even if the baseline is too small for "ok"."""
    assert compare_error_rates(error, labels, Baseline(rows, 0.05)).state == expected


@pytest.mark.parametrize(
    ("error", "labels", "rows", "expected"),
    [
        (4.0, MIN_LABELS, 500, WORSE),
        (4.0, MIN_LABELS - 1, 500, NOT_ENOUGH_LABELS),
        (2.1, MIN_LABELS, 500, NOT_ENOUGH_LABELS),
        (2.1, 5000, 500, OK),
        (2.19, 10**6, 10**6, OK),
        (2.21, 10**6, 10**6, WORSE),
        (2.1, 5000, 40, BASELINE_TOO_SMALL),
    ],
)
def test_states_of_an_absolute_error(error: float, labels: int, rows: int, expected: str) -> None:
    """The mean absolute error is 2 for held-out rows, with a standard deviation of 2."""
    assert compare_absolute_errors(error, 2.0, labels, Baseline(rows, 2.0, 2.0)).state == expected


def test_standard_errors_equal_those_of_scipy() -> None:
    """They are the standard errors of two means and of their difference."""
    rng = np.random.default_rng(0)
    now, held_out = rng.exponential(2, 300), rng.exponential(2, 900)
    baseline = Baseline(900, float(held_out.mean()), float(held_out.std()))

    result = compare_absolute_errors(float(now.mean()), float(now.std()), 300, baseline)

    assert result.standard_error == pytest.approx(stats.sem(now, ddof=0), rel=1e-12)
    assert result.baseline_standard_error == pytest.approx(stats.sem(held_out, ddof=0), rel=1e-12)
    assert result.increase == pytest.approx(now.mean() - held_out.mean(), rel=1e-12)
    assert result.increase_standard_error == pytest.approx(
        math.hypot(stats.sem(now, ddof=0), stats.sem(held_out, ddof=0)), rel=1e-12
    )
    assert result.threshold == pytest.approx(CRITICAL_VALUE * result.increase_standard_error, rel=1e-12)


@pytest.mark.parametrize(
    ("held_out", "expected"),
    [
        (None, None),
        (HeldOut(method="held_out", rows=100), None),
        (HeldOut(method="held_out", rows=100, low_confidence_share=0.1), None),
        (HeldOut(method="held_out", rows=100, labelled_rows=80, accuracy=0.75), Baseline(80, 0.25)),
        (HeldOut(method="cross_validation", rows=80, labelled_rows=80, accuracy=1.0), Baseline(80, 0.0)),
        (
            HeldOut(
                method="held_out", rows=9, labelled_rows=8, mean_absolute_error=2.5, absolute_error_deviation=0.5
            ),
            Baseline(8, 2.5, 0.5),
        ),
    ],
)  # fmt: skip
def test_the_baseline_is_that_of_the_bundle(held_out: HeldOut | None, expected: Baseline | None) -> None:
    """A bundle without labels for its held-out rows has no baseline."""
    assert baseline_of(held_out) == expected
