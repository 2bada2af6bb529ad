"""The drift bench: windows without drift raise no alarm, and windows with drift do."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.drift.alert_months import find_onsets
from bench.drift.false_alarms import measure_false_alarms
from bench.drift.intervals import clustered_share, wilson
from bench.drift.libraries import MODELTRACE, compare_power
from bench.drift.populations import GENERATED, Population
from bench.drift.product import PREDICTION, FeatureSeries, draw_monitor, request_rows
from bench.drift.real_data import load_real
from bench.drift.shifts import SHIFTS, mixed_population

NORMAL = Population("normal", pd.DataFrame(np.random.default_rng(0).normal(size=(500, 3)), columns=list("abc")))


def drifted_features(population: Population, rows: pd.DataFrame, n: int = 2000) -> set[str]:
    """Return the features that drift in a window of the given rows."""
    rng = np.random.default_rng(1)
    monitor = draw_monitor(population, 2000, rng)
    binned = monitor.bin(request_rows(rows))
    window = monitor.count(binned, rng.integers(len(rows), size=n))
    return {feature for feature, result in monitor.check(window) if result.state == "drift"}


def test_undrifted_windows_of_normal_features_raise_no_alarm() -> None:
    """None of 100 windows, checked against five training samples, raises an alarm."""
    for figures in measure_false_alarms(NORMAL, 2000, 100, np.random.default_rng(0), sizes=(200, 1000)).values():
        assert figures["alarms"]["share"] == 0
        assert figures["causes"] == {}


def test_a_shift_is_found_in_the_shifted_feature_only() -> None:
    """One of three features is shifted by a standard deviation."""
    assert drifted_features(NORMAL, NORMAL.rows) == set()
    assert drifted_features(NORMAL, NORMAL.rows.assign(b=NORMAL.rows["b"] + 1)) == {"b"}


def test_the_outputs_of_a_model_are_checked() -> None:
    """With an estimator, the statistics of its outputs are among the results."""
    rng = np.random.default_rng(2)
    monitor = draw_monitor(load_real("wine"), 400, rng)
    binned = monitor.bin(request_rows(load_real("wine").rows))
    results = monitor.check(monitor.count(binned, rng.integers(len(binned.bins), size=300)))
    assert {result.statistic for feature, result in results if feature == PREDICTION} >= {"psi", "low_confidence"}


def test_windows_have_the_requested_number_of_rows() -> None:
    """A window has the requested number of rows in each feature, even if the population is smaller."""
    rng = np.random.default_rng(3)
    monitor = draw_monitor(NORMAL, 100, rng)
    window = monitor.count(monitor.bin(request_rows(NORMAL.rows)), rng.integers(500, size=10_000))
    assert window.counts.sum() == 3 * 10_000


@pytest.mark.parametrize("name", [name for name in GENERATED if name not in ("60 features", "overfitted forest")])
def test_the_product_accepts_each_generated_population(name: str) -> None:
    """Schema and bins can be built for each population, and each of its rows falls into one bin of each feature."""
    rng = np.random.default_rng(4)
    population = GENERATED[name](rng)
    monitor = draw_monitor(population, 100, rng)
    binned = monitor.bin(request_rows(population.sent_rows(rng).head(300)))
    assert binned.bins.shape == (300, population.rows.shape[1])


def test_each_shift_has_the_size_that_its_name_says() -> None:
    """Shares and moments of the changed columns are close to those in the names of the shifts."""
    rng = np.random.default_rng(5)
    rows = mixed_population(rng).rows
    changed = {shift.name: shift.apply(rows, shift.columns, 0, rng) for shift in SHIFTS}
    assert changed["variance + 50 %"]["normal"].var() == pytest.approx(1.5 * rows["normal"].var())
    assert (changed["5 % zeros"]["skewed"] == 0).mean() == pytest.approx(0.05, abs=0.01)
    assert (changed["new category, 1 %"]["kind"] == "new").mean() == pytest.approx(0.01, abs=0.003)
    assert changed["boolean 1 % to 5 %"]["rare_flag"].mean() == pytest.approx(0.05, abs=0.01)
    assert changed["boolean 5 % to 12 %"]["flag"].mean() == pytest.approx(0.12, abs=0.01)
    assert changed["missing 30 % to 0"]["often_missing"].notna().all()
    six = changed["six features + 0.15 deviations"]
    assert sum(not six[name].equals(rows[name]) for name in rows) == 6


def test_intervals_grow_if_windows_of_the_same_training_data_agree() -> None:
    """Windows that agree count as one; independent windows give Wilson's interval."""
    independent = clustered_share([[True, False], [False, False], [False, True], [False, False]])
    assert independent == wilson(0.25, 8)
    agreeing = clustered_share([[True, True], [False, False], [False, False], [False, False]])
    assert agreeing.share == 0.25
    assert agreeing.high - agreeing.low > independent.high - independent.low


def test_the_check_of_many_windows_agrees_with_the_check_of_one() -> None:
    """Windows of different sizes, drifted and undrifted, have the same states when they are checked together."""
    rng = np.random.default_rng(6)
    population = load_real("wine")
    monitor = draw_monitor(population, 400, rng)
    binned = monitor.bin(request_rows(population.rows.assign(f00=population.rows["f00"] + 0.5, f01=0.0)))
    sizes = (150, 300, 300, 2000)
    of_window = np.repeat(range(len(sizes)), sizes)
    drawn = rng.integers(len(binned.bins), size=len(of_window))

    states: list[dict[tuple[str, str], str]] = [{} for _ in sizes]
    for index, name in enumerate(monitor.names):
        windows: FeatureSeries = monitor.count_series(binned, index, drawn, of_window, len(sizes))
        for result in monitor.check_series(index, windows):
            assert [state == "drift" for state in result.states()] == result.drifting().tolist()
            for window, state in enumerate(result.states()):
                states[window][name, result.statistic] = state
    for window, together in enumerate(states):
        results = monitor.check(monitor.count(binned, drawn[of_window == window]))
        assert together == {(name, result.statistic): result.state for name, result in results}
    assert set(states[0].values()) == {"not enough data"}
    assert "drift" in states[1].values()


def test_an_alert_fires_after_five_minutes_of_drift() -> None:
    """Six evaluations, one per minute, span five minutes. The alert fires at the last one, once."""
    drifting = np.zeros(40, dtype=np.bool_)
    drifting[3:8] = True  # too short
    drifting[10:25] = True
    drifting[30:36] = True
    assert find_onsets(drifting).tolist() == [15, 35]


def test_shifted_samples_for_other_libraries_are_checked_by_modeltrace(tmp_path: Path) -> None:
    """A library's program gets the samples as files; what it prints is compared with what Modeltrace finds."""
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh
ls "$2/000" >&2
echo '{"200": {"Library": [true, false, false, false, false]}}'
""")
    python.chmod(0o755)
    shares = compare_power("mean + 1 deviation", 400, 5, {"evidently_drift": python}, np.random.default_rng(7))
    assert shares[MODELTRACE][1000]["share"] == 1
    assert shares["Library"][200]["share"] == 0.2
