"""How many predictions are needed to detect a shift."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from bench.drift.populations import Population
from bench.drift.product import draw_monitor, request_rows
from bench.drift.real_data import load_real
from bench.drift.shifts import ALL_NEW, MIXED, SHIFTS, Shift, load_population, mixed_population

TRAINING_ROWS: Final = 2000
SIZES: Final = (200, 500, 1000, 2000, 5000, 10_000)
# Windows of each size that are compared with the same training data.
WINDOWS_PER_MODEL: Final = 5
NUMERIC: Final = "breast-cancer, 10 features"
CATEGORIES: Final = "rare categories"
PARTS: Final = (MIXED, NUMERIC, CATEGORIES)


def measure_power(part: str, runs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return, for each shift that a population can have, the share of runs that detect it, by window size."""
    shifts: list[tuple[Shift, tuple[str, ...]]]
    if part == CATEGORIES:
        population, shifts = load_population(part, rng), [(ALL_NEW, ALL_NEW.columns)]
    elif part == MIXED:
        population, shifts = mixed_population(rng), [(shift, shift.columns) for shift in SHIFTS]
    else:
        rows = load_real("breast-cancer").rows.iloc[:, :10]
        population, shifts = (
            Population(part, rows),
            [(shift, tuple(map(str, rows.columns))) for shift in SHIFTS if shift.numeric],
        )
    return {shift.name: _detect(population, shift, columns, runs, rng) for shift, columns in shifts}


def _detect(
    population: Population, shift: Shift, columns: tuple[str, ...], runs: int, rng: np.random.Generator
) -> dict[str, Any]:
    detected = dict.fromkeys(SIZES, 0)
    causes: Counter[str] = Counter()
    for turn in range(runs // WINDOWS_PER_MODEL):
        monitor = draw_monitor(population, TRAINING_ROWS, rng)
        binned = monitor.bin(request_rows(shift.apply(population.sent_rows(rng), columns, turn, rng)))
        for size in SIZES:
            for _ in range(WINDOWS_PER_MODEL):
                window = monitor.count(binned, rng.integers(len(binned.bins), size=size))
                drifted = {result.statistic for _, result in monitor.check(window) if result.state == "drift"}
                detected[size] += bool(drifted)
                causes.update(drifted)
    shares = {size: count / runs for size, count in detected.items()}
    return {
        "shares": shares,
        "half": _first(shares, 0.5),
        "most": _first(shares, 0.95),
        "goal": shift.goal,
        "causes": [statistic for statistic, _ in causes.most_common(3)],
    }


def _first(shares: dict[int, float], minimum: float) -> int | None:
    """Return the smallest size from which on every share is at least `minimum`."""
    sizes: Sequence[int] = sorted(shares)
    return next((size for size in sizes if all(shares[other] >= minimum for other in sizes if other >= size)), None)
