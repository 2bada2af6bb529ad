"""Drift statistics equal those of SciPy, and thresholds are reached by chance only at the false alarm rate."""

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
    """PSI is the entropy of p relative to q plus that of q relative to p, in nats."""
    p, q = (drift.smooth(counts) for counts in both)

    assert drift.psi(*both) == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-12)


@given(COUNTS)
def test_jensen_shannon_is_the_square_of_scipys_distance(both: tuple[np.ndarray, np.ndarray]) -> None:
    """It is in bits, from 0 to 1."""
    p, q = (drift.smooth(counts) for counts in both)
    divergence = drift.jensen_shannon(*both)

    # SciPy returns the root, which turns a rounding error of 1e-16 into 1e-8.
    assert divergence == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-12)
    assert -1e-15 <= divergence <= 1


@given(FILLED)
def test_ks_is_that_of_binned_values(both: tuple[np.ndarray, np.ndarray]) -> None:
    """It is the statistic of SciPy's two-sample test on the numbers of the bins."""
    values = [np.repeat(np.arange(len(counts)), np.minimum(counts, 200)) for counts in both]
    counts = [np.minimum(side, 200) for side in both]

    assert drift.ks(*counts) == pytest.approx(ks_2samp(*values).statistic, abs=1e-12)


def test_statistics_are_vectorized_over_windows() -> None:
    """Counts of shape (windows, bins) return one statistic per window, the same as one by one."""
    windows = np.random.default_rng(0).integers(0, 50, size=(5, 8))
    training = np.full(8, 100)

    for statistic in (drift.psi, drift.jensen_shannon, drift.ks):
        assert statistic(windows, training).tolist() == [statistic(window, training) for window in windows]


def test_the_scale_of_a_mean_is_the_deviation_if_the_mean_is_small() -> None:
    """For 40 ± 12 the scale is 40, for 1 ± 1000 it is 1000; without a deviation it is the mean."""
    assert drift.mean_scale(40, 12) == 40
    assert drift.mean_scale(-40, 12) == 40
    assert drift.mean_scale(1, 1000) == 1000
    assert drift.mean_scale(1, None) == 1


@given(st.integers(1, 40), st.floats(1e-6, 0.2))
def test_quantiles_are_those_of_scipy(df: int, level: float) -> None:
    """Kolmogorov's quantile is computed from the first term of its series, which is never less."""
    assert drift.chi_square_quantile(df, level) == pytest.approx(chi2.isf(level, df))
    assert drift.critical_ks(level) == pytest.approx(kstwobign.isf(level), rel=2e-3)
    assert drift.critical_increase(level) == pytest.approx(norm.isf(level))


def test_the_critical_mean_change_of_symmetric_data_is_near_the_normal_quantile() -> None:
    """It holds for many rows within 4 deviations; for skewed data the value is larger."""
    normal = drift.critical_mean_change(10, 1, 6, 14, 100_000, 1e-4) * 10
    skewed = drift.critical_mean_change(10, 1, 9, 40, 100_000, 1e-4) * 10

    assert norm.isf(5e-5) < normal < norm.isf(5e-5) * 1.25
    assert skewed > 1.5 * normal


def test_the_deviation_of_a_nearly_constant_feature_is_unreliable() -> None:
    """The deviation of two rows in a thousand does not describe the next thousand."""
    share = 2 / 1000
    assert not drift.has_reliable_deviation(share, math.sqrt(share * (1 - share)), 0, 1, 1000)
    assert drift.has_reliable_deviation(0.1, 0.3, 0, 1, 1000)


@pytest.mark.parametrize("n", [200, 1000, 10_000])
@pytest.mark.parametrize("training", [124, 398, 10_000, 1_000_000])
@pytest.mark.parametrize("rate", [0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1])
def test_the_false_alarm_rate_of_an_increase_is_bounded(n: int, training: int, rate: float) -> None:
    """The rate is computed exactly over all counts of Poisson samples of both sizes."""
    level = drift.FALSE_ALARM_RATE / 150
    critical = drift.critical_increase(level)
    seen = np.arange(int(poisson.isf(1e-9, rate * training)) + 2)
    limits = drift.increase_threshold(drift.NEW_CATEGORIES, critical, n, training, seen / training) + seen / training
    alarms = poisson.sf(np.floor(limits * n + 1e-9), rate * n)

    assert float(poisson.pmf(seen, rate * training) @ alarms) <= level


@pytest.mark.parametrize("n", [200, 1000, 10_000])
def test_a_share_of_five_percent_low_confidence_raises_no_alarm(n: int) -> None:
    """The threshold is above 5 %, by more than chance adds to 5 %."""
    level = drift.FALSE_ALARM_RATE / 150
    limit = drift.low_confidence_threshold(drift.critical_increase(level), n)

    assert limit > 0.05
    assert binom.sf(math.floor(limit * n), n, 0.05) <= level


def test_thresholds_decrease_to_the_minimum_effect() -> None:
    """A small window needs a large effect; with millions of rows, the minimum effect alone decides."""
    sizes = [200, 1000, 10_000, 10**7]
    for statistic, critical in ((drift.PSI, 38.0), (drift.JENSEN_SHANNON, 7.0), (drift.KS, 2.3)):
        limits = [float(drift.threshold(statistic, critical, n, 10**7)) for n in sizes]
        assert limits == sorted(limits, reverse=True)
        assert limits[-1] == drift.MIN_EFFECT[statistic] < limits[0]


def test_few_rows_are_not_enough_data() -> None:
    """The state applies to fewer than 200 rows, and to a statistic that is NaN."""
    assert drift.drift_state(0.9, 0.1, 199) == "not enough data"
    assert drift.drift_state(math.nan, 0.1, 1000) == "not enough data"
    assert drift.drift_state(0.9, 0.1, 200) == "drift"
    assert drift.drift_state(0.1, 0.1, 200) == "ok"
