"""The drift bench: windows without drift raise no alarm, and windows with drift do."""

import numpy as np

from bench.drift import measure_false_alarms
from bench.drift_monitor import DATASETS, DriftMonitor, draw_windows, load_population
from modeltrace.monitoring import drift

WINE = next(data for data in DATASETS if data.name == "wine")


def test_undrifted_windows_raise_no_alarm_but_exceed_a_fixed_psi_threshold() -> None:
    """None of 100 windows, checked against ten training samples, raises an alarm; PSI exceeds 0.1 in most of them."""
    for shares in measure_false_alarms(WINE, 100, np.random.default_rng(0), sizes=(200, 1000)).values():
        assert shares["alarms"] == 0
        assert shares["psi above 0.1"] > 0.9


def test_a_shift_of_the_mean_is_detected_by_psi_jensen_shannon_and_ks() -> None:
    """A feature is shifted by one standard deviation; without the shift all statistics are ok."""
    rng = np.random.default_rng(0)
    table, target = load_population(WINE)
    monitor = DriftMonitor(WINE, table, target, rng)
    values = table.to_numpy()[:, 0]
    (row_counts,) = draw_windows(rng, len(table), 1000, windows=1)

    results = monitor.check_feature(monitor.schema.features[0], values + values.std(), row_counts)
    assert {result.statistic for result in results if result.state == "drift"} >= {
        drift.PSI,
        drift.JENSEN_SHANNON,
        drift.KS,
    }
    assert {result.state for result in monitor.check_feature(monitor.schema.features[0], values, row_counts)} == {"ok"}


def test_windows_are_drawn_with_replacement() -> None:
    """A window has the requested number of rows, even if the population is smaller."""
    assert draw_windows(np.random.default_rng(0), 7, 10_000, windows=2).sum(axis=1).tolist() == [10_000, 10_000]


def test_find_alarms_agrees_with_check_drift() -> None:
    """The vectorized check of the bench gives the results of `modeltrace.monitoring.drift_check`."""
    rng = np.random.default_rng(3)
    table, target = load_population(WINE)
    monitor = DriftMonitor(WINE, table, target, rng)
    weights = np.linspace(1, 6, len(table))[np.argsort(np.argsort(table.to_numpy()[:, 0]))]
    row_counts = rng.multinomial(400, weights / weights.sum(), size=4)  # prefers high values of the first feature

    alarms = monitor.find_alarms(row_counts)
    for window, counts in enumerate(row_counts):
        for index, feature in enumerate(monitor.schema.features):
            results = monitor.check_feature(feature, table.to_numpy()[:, index], counts)
            alarming = {
                statistic for (name, statistic), raised in alarms.items() if name == feature.name and raised[window]
            }
            drifted = {result.statistic for result in results if result.state == "drift"}
            assert alarming & set(drift.MIN_EFFECT) == drifted
    assert any(raised.any() for raised in alarms.values())
