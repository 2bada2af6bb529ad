"""The soak bench: the trend of a series of samples."""

import numpy as np
import pytest

from bench.soak import Sample, fit_trend, summarise

HOURS = np.linspace(0, 1, 600)


def test_the_slope_of_a_line_has_no_error() -> None:
    """Values on a line give its slope and a standard error of 0."""
    trend = fit_trend(HOURS.tolist(), (100 + 7 * HOURS).tolist())

    assert trend.slope == pytest.approx(7)
    assert trend.standard_error == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_noise_without_a_trend_has_a_slope_within_two_errors() -> None:
    """For most of many series, the slope is within two standard errors of 0."""
    random = np.random.default_rng(1)
    trends = [fit_trend(HOURS.tolist(), (100 + random.normal(0, 3, len(HOURS))).tolist(), seed=n) for n in range(40)]

    assert sum(abs(trend.slope) < 2 * trend.standard_error for trend in trends) >= 33


def test_correlated_noise_increases_the_error() -> None:
    """Correlated samples, e.g. a sawtooth of garbage collection, contain less information than independent ones."""
    random = np.random.default_rng(2)
    independent = random.normal(0, 1, len(HOURS))
    correlated = np.repeat(random.normal(0, 1, len(HOURS) // 10), 10)

    assert (
        fit_trend(HOURS.tolist(), correlated.tolist()).standard_error
        > 2 * fit_trend(HOURS.tolist(), independent.tolist()).standard_error
    )


def test_growth_in_the_first_fifth_is_ignored() -> None:
    """Pools and caches fill in the first fifth; the trend is that of the remaining samples."""
    rising = [Sample(float(second), 10**8 + min(second, 100) * 10**6, 10) for second in range(1000)]

    line = summarise({"service": rising})["service"]

    assert line["mb_per_hour"] == pytest.approx(0, abs=0.1)
    assert (line["first_mb"], line["last_mb"]) == (100, 200)
