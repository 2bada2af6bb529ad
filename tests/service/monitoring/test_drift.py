"""Drift statistics are those of the field's own libraries, and their thresholds are what chance reaches."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, chi2, entropy, ks_2samp, kstwobign, norm, poisson

from modeltrace.monitoring import drift

BINS = st.integers(2, 14)
COUNTS = BINS.flatmap(
    lambda bins: st.tuples(*[arrays(np.int64, bins, elements=st.integers(0, 10_000)) for _ in range(2)])
)
FILLED = COUNTS.filter(lambda both: both[0].any() and both[1].any())


@given(COUNTS)
def test_psi_is_the_sum_of_both_relative_entropies(both: tuple[np.ndarray, np.ndarray]) -> None:
    """Of p against q and of q against p, in nats, as scipy has them; 0 only for the same shares."""
    p, q = (drift.smooth(counts) for counts in both)

    assert drift.psi(*both) == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-12)


@given(COUNTS)
def test_jensen_shannon_is_the_square_of_scipys_distance(both: tuple[np.ndarray, np.ndarray]) -> None:
    """In bits, from 0 to 1."""
    p, q = (drift.smooth(counts) for counts in both)
    found = drift.jensen_shannon(*both)

    # scipy takes a root, which makes 1e-8 of what rounding leaves of 0.
    assert found == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-12)
    assert -1e-15 <= found <= 1


@given(FILLED)
def test_ks_is_that_of_values_taken_for_their_bins(both: tuple[np.ndarray, np.ndarray]) -> None:
    """The statistic of scipy's two-sample test on the numbers of the bins."""
    values = [np.repeat(np.arange(len(counts)), np.minimum(counts, 200)) for counts in both]
    counts = [np.minimum(some, 200) for some in both]

    assert drift.ks(*counts) == pytest.approx(ks_2samp(*values).statistic, abs=1e-12)


def test_many_windows_are_one_call() -> None:
    """Counts of shape (windows, bins) give a statistic a window, the same as one by one."""
    windows = np.random.default_rng(0).integers(0, 50, size=(5, 8))
    training = np.full(8, 100)

    for statistic in (drift.psi, drift.jensen_shannon, drift.ks):
        assert statistic(windows, training).tolist() == [statistic(one, training) for one in windows]


def test_a_change_of_mean_is_a_share_of_it_unless_it_is_nearly_nothing() -> None:
    """An age of 40 ± 12 is compared with 40; a balance of 1 ± 1000 with 1000; without a deviation the mean is all."""
    assert drift.mean_scale(40, 12) == 40
    assert drift.mean_scale(-40, 12) == 40
    assert drift.mean_scale(1, 1000) == 1000
    assert drift.mean_scale(1, None) == 1


@given(st.integers(1, 40), st.floats(1e-6, 0.2))
def test_quantiles_are_scipys(freedom: int, level: float) -> None:
    """Chi-square by its own function; Kolmogorov's by the first term of its series, which is never less."""
    assert drift.chi_square_quantile(freedom, level) == pytest.approx(chi2.isf(level, freedom))
    assert drift.critical_ks(level) == pytest.approx(kstwobign.isf(level), rel=2e-3)
    assert drift.critical_increase(level) == pytest.approx(norm.isf(level))


def test_the_critical_mean_of_what_is_symmetric_is_nearly_the_normal_quantile() -> None:
    """For many training rows and values within 4 deviations; what is skewed must change by more."""
    normal = drift.critical_mean_change(10, 1, 6, 14, 100_000, 1e-4) * 10
    skewed = drift.critical_mean_change(10, 1, 9, 40, 100_000, 1e-4) * 10

    assert norm.isf(5e-5) < normal < norm.isf(5e-5) * 1.25
    assert skewed > 1.5 * normal


def test_what_a_few_rows_make_vary_has_no_scale() -> None:
    """One pixel in a thousand images says nothing about the next thousand."""
    share = 2 / 1000
    assert not drift.has_reliable_deviation(share, math.sqrt(share * (1 - share)), 0, 1, 1000)
    assert drift.has_reliable_deviation(0.1, 0.3, 0, 1, 1000)


@pytest.mark.parametrize("n", [200, 1000, 10_000])
@pytest.mark.parametrize("training", [124, 398, 10_000, 1_000_000])
@pytest.mark.parametrize("rate", [0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1])
def test_a_share_rises_by_chance_no_more_often_than_it_may(n: int, training: int, rate: float) -> None:
    """Computed exactly, over all counts that Poisson samples of both sizes can have."""
    level = drift.FALSE_ALARM_RATE / 150
    critical = drift.critical_increase(level)
    seen = np.arange(int(poisson.isf(1e-9, rate * training)) + 2)
    limits = drift.increase_threshold(drift.NEW_CATEGORIES, critical, n, training, seen / training) + seen / training
    alarms = poisson.sf(np.floor(limits * n + 1e-9), rate * n)

    assert float(poisson.pmf(seen, rate * training) @ alarms) <= level


@pytest.mark.parametrize("n", [200, 1000, 10_000])
def test_five_percent_of_low_confidence_raise_no_alarm(n: int) -> None:
    """More than 5 % must be seen, by more than chance makes of 5 %."""
    level = drift.FALSE_ALARM_RATE / 150
    limit = drift.low_confidence_threshold(drift.critical_increase(level), n)

    assert limit > 0.05
    assert binom.sf(math.floor(limit * n), n, 0.05) <= level


def test_thresholds_shrink_with_the_window_down_to_the_floor() -> None:
    """A few hundred rows must be far off; with millions, the floor alone decides."""
    sizes = [200, 1000, 10_000, 10**7]
    for statistic, critical in ((drift.PSI, 38.0), (drift.JENSEN_SHANNON, 7.0), (drift.KS, 2.3)):
        limits = [float(drift.threshold(statistic, critical, n, 10**7)) for n in sizes]
        assert limits == sorted(limits, reverse=True)
        assert limits[-1] == drift.MIN_EFFECT[statistic] < limits[0]


def test_a_third_state_says_that_nothing_is_known() -> None:
    """Of fewer than 200 rows, and of none at all."""
    assert drift.drift_state(0.9, 0.1, 199) == "not enough data"
    assert drift.drift_state(math.nan, 0.1, 1000) == "not enough data"
    assert drift.drift_state(0.9, 0.1, 200) == "drift"
    assert drift.drift_state(0.1, 0.1, 200) == "ok"
