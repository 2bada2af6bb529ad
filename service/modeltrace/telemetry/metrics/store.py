"""Counts predictions that were stored in the prediction store, and those that were lost."""

from collections import Counter
from threading import Lock
from typing import Final

from opentelemetry.metrics import Meter

from modeltrace.telemetry.metrics.outcomes import OutcomeCounter

METRIC_STORE_ROWS: Final = "modeltrace.store.rows"
ITEM_NAME: Final = "predictions for the store"


class StoreHealth:
    """Adds up the outcomes that the writer of the prediction store reports."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._before: Counter[tuple[str, str]] = Counter()  # outcomes before `create_instruments`
        self._lost = 0
        self._counter: OutcomeCounter | None = None

    def on_event(self, outcome: str, rows: int, error_type: str) -> None:
        """Count rows that were `stored` or `lost`."""
        with self._lock:
            if outcome == "lost":
                self._lost += rows
            if self._counter is None:
                self._before[outcome, error_type] += rows
                return
        self._counter.add(outcome, rows, error_type)

    def lost_items(self) -> dict[str, int]:
        """Return the number of rows lost since the start; empty if none is lost."""
        with self._lock:
            return {ITEM_NAME: self._lost} if self._lost else {}

    def create_instruments(self, meter: Meter) -> None:
        """Create the metric, and add the outcomes so far."""
        counter = OutcomeCounter(
            meter,
            METRIC_STORE_ROWS,
            "{row}",
            "Predictions that the prediction store has taken, and those that it will never have.",
        )
        with self._lock:
            self._counter = counter
            before, self._before = self._before, Counter()
        for (outcome, error_type), rows in before.items():
            counter.add(outcome, rows, error_type)
