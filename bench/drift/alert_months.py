"""How many false alerts a model raises in 30 days, with Prometheus' windows and evaluations simulated.

Prometheus evaluates the last hour every minute, and the last day every two minutes. An alert fires once its state has
been drift for five minutes, and ends when it is not. Requests arrive at random with a constant rate.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.drift.product import BinnedRows, Monitor, draw_monitor, request_rows
from bench.drift.shifts import MIXED, load_population

MINUTES: Final = 30 * 24 * 60
RATES: Final = (600, 6000)
TRAINING_ROWS: Final = 2000
# Evaluations, one per minute, at which the state must be drift before the alert fires: `for: 5m`.
PENDING_EVALUATIONS: Final = 6
POPULATIONS: Final = (
    "breast-cancer", "overfitted forest", "heavy tails", "rare categories", "ties", "60 features", MIXED
)  # fmt: skip


class Schedule(NamedTuple):
    """A window and the time between its evaluations, in minutes."""

    name: str
    window: int
    interval: int


SCHEDULES: Final = (Schedule("1h", 60, 1), Schedule("24h", 24 * 60, 2))


def measure_alerts(name: str, rate: int, months: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the number of false alerts per month of a model that predicts `rate` rows per hour.

    Each feature, statistic and window has an alert of its own, as in Prometheus. The training data is drawn again for
    each month.
    """
    population = load_population(name, rng)
    alerts, days, causes = [], 0, Counter[str]()
    for _ in range(months):
        monitor = draw_monitor(population, TRAINING_ROWS, rng)
        month = _Month(monitor, monitor.bin(request_rows(population.sent_rows(rng))), rate, rng)
        with_alert = np.zeros(MINUTES // (24 * 60), dtype=np.bool_)
        number = 0
        for cause, onsets in month.alert_onsets():
            number += len(onsets)
            causes[cause] += len(onsets)
            with_alert[onsets // (24 * 60)] = True
        alerts.append(number)
        days += int(with_alert.sum())
    return {
        "alerts": float(np.mean(alerts)),
        "months with alerts": float(np.mean([number > 0 for number in alerts])),
        "days with alerts": days / (months * len(with_alert)),
        "months": months,
        "causes": {cause: count for cause, count in causes.most_common(4) if count},
    }


class _Month:
    """The requests of one month."""

    def __init__(self, monitor: Monitor, binned: BinnedRows, rate: int, rng: np.random.Generator) -> None:
        self._monitor = monitor
        self._binned = binned
        arrivals = rng.poisson(rate / 60, MINUTES)
        self._minutes = np.repeat(np.arange(MINUTES), arrivals)
        self._drawn = monitor.draw(binned, int(arrivals.sum()), rng)

    def alert_onsets(self) -> Iterator[tuple[str, NDArray[np.intp]]]:
        """Yield the minutes at which alerts begin to fire, by feature, statistic and window."""
        for index, name in enumerate(self._monitor.names):
            per_minute = self._monitor.count_series(self._binned, index, self._drawn, self._minutes, MINUTES)
            cumulative = per_minute.accumulate()
            for schedule in SCHEDULES:
                ends = np.arange(0, MINUTES, schedule.interval) + 1
                starts = np.maximum(ends - schedule.window, 0)
                windows = cumulative.between(starts, ends)
                for result in self._monitor.check_series(index, windows):
                    drifting = np.repeat(result.drifting(), schedule.interval)
                    yield f"{name} {result.statistic} {schedule.name}", find_onsets(drifting)


def find_onsets(drifting: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the minutes at which an alert begins to fire, from the state of each minute."""
    cumulative = np.concatenate([[0], drifting.astype(np.int64).cumsum()])
    firing = cumulative[PENDING_EVALUATIONS:] - cumulative[:-PENDING_EVALUATIONS] == PENDING_EVALUATIONS
    begins = firing & ~np.concatenate([[False], firing[:-1]])
    return np.flatnonzero(begins) + PENDING_EVALUATIONS - 1
