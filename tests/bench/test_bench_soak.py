"""What bench/soak.py makes of a series of measurements."""

import numpy as np
import pytest

from bench.soak import Sample, fit_trend, summarise

HOURS = np.linspace(0, 1, 600)


def test_the_slope_of_a_line_is_found_without_an_error() -> None:
    """What lies on a line has its slope, and nothing is left to be unsure of."""
    found = fit_trend(HOURS.tolist(), (100 + 7 * HOURS).tolist())

    assert found.slope == pytest.approx(7)
    assert found.standard_error == pytest.approx(0, abs=1e-9)


def test_a_flat_series_with_noise_has_a_slope_within_its_error() -> None:
    """Noise alone is no growth: over many series the slope lies within two errors about as often as it should."""
    random = np.random.default_rng(1)
    found = [fit_trend(HOURS.tolist(), (100 + random.normal(0, 3, len(HOURS))).tolist(), seed=n) for n in range(40)]

    assert sum(abs(one.slope) < 2 * one.standard_error for one in found) >= 33


def test_noise_that_lasts_makes_the_error_larger() -> None:
    """A sawtooth, as a garbage collector leaves one, is less telling than as many independent samples."""
    random = np.random.default_rng(2)
    independent = random.normal(0, 1, len(HOURS))
    lasting = np.repeat(random.normal(0, 1, len(HOURS) // 10), 10)

    assert (
        fit_trend(HOURS.tolist(), lasting.tolist()).standard_error
        > 2 * fit_trend(HOURS.tolist(), independent.tolist()).standard_error
    )


def test_what_fills_at_the_start_is_no_growth() -> None:
    """Pools and caches fill in the first fifth; the trend is that of the rest."""
    rising = [Sample(float(second), 10**8 + min(second, 100) * 10**6, 10) for second in range(1000)]

    line = summarise({"service": rising})["service"]

    assert line["mb_per_hour"] == pytest.approx(0, abs=0.1)
    assert (line["first_mb"], line["last_mb"]) == (100, 200)
