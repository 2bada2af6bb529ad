"""False alarms if rows depend on the rows before them, with and without the correction for this."""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from bench.drift.product import Monitor, request_rows

TRAINING_ROWS: Final = 2000
COLUMNS: Final = 5  # of numbers, and of texts
CORRELATIONS: Final = (0.0, 0.2, 0.5, 0.8, 0.95, 0.99)
WINDOW_SIZES: Final = (400, 3600, 20_000)
# To how many processes a load balancer distributes the rows, at random.
PROCESSES: Final = (1, 2, 4)
CATEGORIES: Final = ("a", "b", "c", "d")
SHARES: Final = (0.6, 0.25, 0.1, 0.05)


def measure_dependence(runs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the share of windows with a false alarm, by correlation of consecutive rows and by size of the window.

    Nothing drifts: the training data is independent rows of the same distribution. "not enough data" is the share of
    windows in which at least one feature has this state.
    """
    monitor = Monitor(draw_rows(rng, TRAINING_ROWS, 0.0))
    return {
        f"{correlation:g}": {n: _measure(monitor, correlation, n, runs, rng) for n in WINDOW_SIZES}
        for correlation in CORRELATIONS
    }


def draw_rows(rng: np.random.Generator, n: int, correlation: float) -> pd.DataFrame:
    """Draw rows: normal numbers, and texts. Both have the given correlation with the row before."""
    noise = rng.normal(size=(n, COLUMNS)) * np.sqrt(1 - correlation**2)
    numbers, _ = lfilter([1.0], [1.0, -correlation], noise, axis=0, zi=correlation * rng.normal(size=(1, COLUMNS)))
    columns: dict[str, NDArray[Any]] = {f"number_{index}": numbers[:, index] for index in range(COLUMNS)}
    for index in range(COLUMNS):
        # A value is repeated with the probability `correlation`.
        drawn = rng.choice(CATEGORIES, p=SHARES, size=n)
        repeats = rng.random(n) < correlation
        columns[f"text_{index}"] = drawn[np.maximum.accumulate(np.where(repeats, 0, np.arange(n)))]
    return pd.DataFrame(columns)


def _measure(monitor: Monitor, correlation: float, n: int, runs: int, rng: np.random.Generator) -> dict[str, float]:
    shares = dict.fromkeys(["uncorrected", *map(_title, PROCESSES), "not enough data"], 0.0)
    for _ in range(runs):
        binned = monitor.bin(request_rows(draw_rows(rng, n, correlation)))
        window = monitor.count(binned, np.arange(n))
        states = {result.state for _, result in monitor.check(window)}
        shares["uncorrected"] += ("drift" in states) / runs
        for processes in PROCESSES:
            dependence = monitor.compare_requests(binned, rng.integers(processes, size=n))
            states = {result.state for _, result in monitor.check(window, dependence)}
            shares[_title(processes)] += ("drift" in states) / runs
            if processes == 1:
                shares["not enough data"] += ("not enough data" in states) / runs
    return shares


def _title(processes: int) -> str:
    return "corrected" if processes == 1 else f"corrected, {processes} processes"
