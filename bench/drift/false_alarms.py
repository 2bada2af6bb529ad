"""How many windows without drift raise an alarm."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from bench.drift.intervals import clustered_share
from bench.drift.populations import Population
from bench.drift.product import draw_monitor, request_rows
from modeltrace.monitoring.binning import Row

TRAINING_SIZES: Final = (100, 400, 2000, 10_000)
WINDOW_SIZES: Final = (200, 1000, 10_000)
# Windows that are compared with the same training data.
WINDOWS_PER_MODEL: Final = 20
# The features and statistics that raise most alarms.
MOST_FREQUENT: Final = 3


def measure_false_alarms(
    population: Population,
    training_size: int,
    windows: int,
    rng: np.random.Generator,
    sizes: Sequence[int] = WINDOW_SIZES,
) -> dict[int, dict[str, Any]]:
    """Return, by window size, the share of windows that raise an alarm, what raises them, and the share of each state.

    Training data is drawn again for every `WINDOWS_PER_MODEL` windows of each size.
    """
    raised: dict[int, list[list[bool]]] = {size: [] for size in sizes}
    causes: dict[int, Counter[str]] = {size: Counter() for size in sizes}
    states: dict[int, Counter[str]] = {size: Counter() for size in sizes}
    rows: list[Row] = []
    for _ in range(windows // WINDOWS_PER_MODEL):
        monitor = draw_monitor(population, training_size, rng)
        if not rows or population.unique:
            rows = request_rows(population.sent_rows(rng))
        binned = monitor.bin(rows)
        for size in sizes:
            of_window = np.repeat(np.arange(WINDOWS_PER_MODEL), size)
            drawn = monitor.draw(binned, len(of_window), rng)
            alarms = np.zeros(WINDOWS_PER_MODEL, dtype=np.bool_)
            for index, feature in enumerate(monitor.names):
                series = monitor.count_series(binned, index, drawn, of_window, WINDOWS_PER_MODEL)
                for result in monitor.check_series(index, series):
                    drifting = result.drifting()
                    alarms |= drifting
                    causes[size][f"{feature} {result.statistic}"] += int(drifting.sum())
                    states[size].update(result.states())
            raised[size].append(alarms.tolist())
    return {
        size: {
            "alarms": clustered_share(raised[size])._asdict(),
            "causes": {cause: count / windows for cause, count in causes[size].most_common(MOST_FREQUENT) if count},
            "states": {state: count / states[size].total() for state, count in states[size].most_common()},
        }
        for size in sizes
    }
