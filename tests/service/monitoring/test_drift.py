"""Drift statistics equal those of SciPy, and thresholds are reached by chance only at the false alarm rate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, chi2, entropy, ks_2samp, kstwobign, norm

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


@given(arrays(np.float64, BINS, elements=st.integers(0, 400)).filter(lambda training: np.count_nonzero(training) > 1))
def test_scores_are_standardized(training: np.ndarray) -> None:
    """Location and spread of the training data are 0; the scores increase from bin to bin."""
    scores = drift.normal_scores(training)
    squares = drift.spread_scores(scores, training)

    assert drift.score_change(training, scores) == pytest.approx(0, abs=1e-9)
    assert training @ scores**2 / training.sum() == pytest.approx(1)
    assert (np.diff(scores) >= 0).all()
    if squares.any():
        assert drift.score_change(training, squares) == pytest.approx(0, abs=1e-9)
        assert training @ squares**2 / training.sum() == pytest.approx(1)


def test_scores_measure_a_shift_in_standard_deviations() -> None:
    """Ten bins of normal values with shift 0.3 have the location 0.3, and with 1.2 times the spread a spread."""
    edges = norm.ppf(np.linspace(0.1, 0.9, 9))
    training = np.full(10, 0.1)
    scores = drift.normal_scores(training)
    shifted = np.diff([0, *norm.cdf(edges - 0.3), 1])
    spread = np.diff([0, *norm.cdf(edges / 1.2), 1])

    assert drift.score_change(shifted, scores) == pytest.approx(0.3, abs=0.02)
    assert drift.score_change(shifted[::-1], scores) == pytest.approx(0.3, abs=0.02)
    assert drift.score_change(spread, scores) == pytest.approx(0, abs=1e-9)
    assert drift.score_change(spread, drift.spread_scores(scores, training)) > drift.MIN_EFFECT[drift.SPREAD]


@given(st.integers(1, 40), st.floats(1e-6, 0.2))
def test_quantiles_are_those_of_scipy(df: int, level: float) -> None:
    """Kolmogorov's quantile is computed from the first term of its series, which is never less."""
    assert drift.chi_square_quantile(df, level) == pytest.approx(chi2.isf(level, df))
    assert drift.critical_ks(level) == pytest.approx(kstwobign.isf(level), rel=2e-3)
    assert drift.critical_share(level) == pytest.approx(norm.isf(level / 2))


@pytest.mark.parametrize("n", [200, 2000])
@pytest.mark.parametrize("training", [400, 4000])
@pytest.mark.parametrize("shares", [[0.1] * 10, [0.9, 0.06, 0.04], [0.6, 0.2, 0.1, 0.05, 0.05]])
def test_the_false_alarm_rate_of_scores_is_bounded(n: int, training: int, shares: list[float]) -> None:
    """Both samples are drawn 12,000 times, also from skewed distributions."""
    rng, level = np.random.default_rng(n + training), 0.005
    references, windows = rng.multinomial(training, shares, 4000), rng.multinomial(n, shares, (4000, 3))
    alarms = 0
    for reference, counts in zip(references, windows, strict=True):
        for scores in (location := drift.normal_scores(reference), drift.spread_scores(location, reference)):
            if drift.has_reliable_scores(scores, reference):
                critical = drift.critical_score(scores, reference, level)
                alarms += (drift.score_change(counts, scores) > critical * math.sqrt(1 / n + 1 / training)).sum()

    assert alarms / 24_000 < 1.5 * level


def test_few_rows_do_not_determine_a_score() -> None:
    """The score of a value that two of a thousand rows have is unreliable."""
    assert not drift.has_reliable_scores(drift.normal_scores([998, 2]), [998, 2])
    assert drift.has_reliable_scores(drift.normal_scores([900, 100]), [900, 100])


@pytest.mark.parametrize("n", [200, 1000, 10_000])
@pytest.mark.parametrize("training", [124, 398, 10_000, 1_000_000])
@pytest.mark.parametrize("rate", [0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_the_false_alarm_rate_of_a_share_is_bounded(n: int, training: int, rate: float) -> None:
    """The rate is computed exactly, over all counts of both samples; small counts may reach three times the level."""
    level = drift.FALSE_ALARM_RATE / 150
    critical = drift.critical_share(level)
    seen = np.arange(*binom.interval(1 - 1e-9, training, rate) + np.array([0, 1]))
    above, below = (
        drift.share_threshold(drift.MISSING_VALUES, critical, n, training, seen / training, np.full(len(seen), sign))
        for sign in (1.0, -1.0)
    )
    alarms = binom.sf(np.floor((seen / training + above) * n + 1e-9), n, rate)
    alarms += binom.cdf(np.ceil((seen / training - below) * n - 1e-9) - 1, n, rate)

    assert float(binom.pmf(seen, training, rate) @ alarms) <= 3 * level


def test_fewer_new_categories_than_expected_are_no_drift() -> None:
    """No value of a window is new. An increase by the same share is drift, and so is a decrease of missing values."""
    n, training, share = 10_000, 2000, 0.2
    critical = drift.critical_share(1e-6)

    def is_drift(statistic: str, change: float) -> bool:
        return abs(change) > float(drift.share_threshold(statistic, critical, n, training, share, change))

    assert not is_drift(drift.NEW_CATEGORIES, -share)
    assert is_drift(drift.NEW_CATEGORIES, share)
    assert is_drift(drift.MISSING_VALUES, -share)


def test_the_false_alarm_rate_of_new_categories_is_bounded() -> None:
    """Each of 100 equally frequent levels is expected in four of 400 rows: few are unseen, and many occur once."""
    rng, levels, training, n, level = np.random.default_rng(0), 100, 400, 10_000, 1e-4
    counts = rng.poisson(training / levels, size=(30_000, levels))
    once, twice, unseen = ((counts == number).sum(axis=1) for number in (1, 2, 0))
    share = once / training
    rows = share * (1 - share) * training**2 / np.maximum(once + 2 * twice, 1)
    rows = np.where(once > 0, np.minimum(rows, training / 2), training / 2)
    change = rng.binomial(n, unseen / levels) / n - share
    limit = drift.share_threshold(drift.NEW_CATEGORIES, drift.critical_share(level), n, rows, share, change)

    assert float((np.abs(change) > limit).mean()) <= 3 * level


@pytest.mark.parametrize("n", [200, 1000, 10_000])
@pytest.mark.parametrize("rows", [250, 2000, 100_000])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.47, 0.98, 1.0])
def test_a_share_of_low_confidence_as_before_raises_no_alarm(n: int, rows: int, share: float) -> None:
    """The rate is computed exactly over all counts of both samples, whatever the share of held-out rows is."""
    level = drift.FALSE_ALARM_RATE / 150
    seen = np.arange(*binom.interval(1 - 1e-9, rows, share) + np.array([0, 1]))
    limits = [drift.low_confidence_threshold(drift.critical_share(level), n, rows, count / rows) for count in seen]

    assert float(binom.pmf(seen, rows, share) @ binom.sf(np.floor(np.array(limits) * n + 1e-9), n, share)) <= 2 * level
    assert all(limit >= count / rows + 0.03 for limit, count in zip(limits, seen, strict=True))


def test_thresholds_decrease_to_the_minimum_effect() -> None:
    """A small window needs a large effect; with millions of rows, the minimum effect alone decides."""
    sizes = [200, 1000, 10_000, 10**7]
    for statistic, critical in ((drift.PSI, 38.0), (drift.JENSEN_SHANNON, 7.0), (drift.KS, 2.3)):
        limits = [float(drift.threshold(statistic, critical, n, 10**7)) for n in sizes]
        assert limits == sorted(limits, reverse=True)
        assert limits[-1] == drift.MIN_EFFECT[statistic] < limits[0]


def test_the_state_says_why_there_is_no_result() -> None:
    """Fewer than 200 rows and NaN are not enough data; fewer than 250 training rows can only show a large change."""
    assert drift.drift_state(0.9, 0.1, 199, 1000) == "not enough data"
    assert drift.drift_state(math.nan, 0.1, 1000, 1000) == "not enough data"
    assert drift.drift_state(0.9, 0.1, 200, 100) == "drift"
    assert drift.drift_state(-0.9, 0.1, 200, 1000) == "drift"
    assert drift.drift_state(0.1, 0.1, 200, 250) == "ok"
    assert drift.drift_state(0.1, 0.1, 200, 249) == "reference too small"
    assert drift.drift_state(0.9, 0.1, 200, 1000, rows_repeat=True) == "rows repeat"
    for n, rows_repeat in ((0, False), (200, False), (200, True)):
        state = drift.drift_state(0.9, 0.1, n, 1000, rows_repeat=rows_repeat, has_reference=False)
        assert state == "no held-out reference"
