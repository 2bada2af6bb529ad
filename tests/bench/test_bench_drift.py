"""What bench/drift.py measures: undrifted windows stay quiet, drifted ones do not."""

import numpy as np

from bench.drift import DATASETS, DriftMonitor, draw_windows, load_population, measure_false_alarms
from modeltrace.monitoring import drift

WINE = next(data for data in DATASETS if data.name == "wine")


def test_windows_without_drift_raise_no_alarm_where_a_fixed_threshold_always_does() -> None:
    """Of 100 windows, against ten models and their training data, none does; PSI passes 0.1 in nearly all."""
    for one in measure_false_alarms(WINE, 100, np.random.default_rng(0), sizes=(200, 1000)).values():
        assert one["alarms"] == 0
        assert one["psi above 0.1"] > 0.9


def test_a_shift_is_seen_by_the_statistics_that_can_see_it() -> None:
    """A feature that is one deviation higher has another distribution and another mean."""
    rng = np.random.default_rng(0)
    table, target = load_population(WINE)
    watch = DriftMonitor(WINE, table, target, rng)
    values = table.to_numpy()[:, 0]
    (times,) = draw_windows(rng, len(table), 1000, windows=1)

    found = watch.check_feature(watch.schema.features[0], values + values.std(), times)
    assert {one.statistic for one in found if one.state == "drift"} >= {drift.PSI, drift.JENSEN_SHANNON, drift.KS}
    assert {one.state for one in watch.check_feature(watch.schema.features[0], values, times)} == {"ok"}


def test_rows_come_with_replacement() -> None:
    """A window has as many rows as asked for, however few there are to draw from."""
    assert draw_windows(np.random.default_rng(0), 7, 10_000, windows=2).sum(axis=1).tolist() == [10_000, 10_000]


def test_many_windows_at_once_are_judged_as_one_by_one() -> None:
    """The bench's own way of judging is that of `modeltrace.monitoring.drift_check`."""
    rng = np.random.default_rng(3)
    table, target = load_population(WINE)
    watch = DriftMonitor(WINE, table, target, rng)
    weights = np.linspace(1, 6, len(table))[np.argsort(np.argsort(table.to_numpy()[:, 0]))]
    times = rng.multinomial(400, weights / weights.sum(), size=4)  # high values of the first feature come more often

    alarms = watch.find_alarms(times)
    for window, row in enumerate(times):
        for place, feature in enumerate(watch.schema.features):
            found = watch.check_feature(feature, table.to_numpy()[:, place], row)
            said = {what for (name, what), one in alarms.items() if name == feature.name and one[window]}
            assert said & set(drift.MIN_EFFECT) == {one.statistic for one in found if one.state == "drift"}
    assert any(one.any() for one in alarms.values())
