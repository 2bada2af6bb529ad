"""Counts predictions that were stored in the prediction store, and those that were lost."""

from collections import Counter
from collections.abc import Iterable
from threading import Lock
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from modeltrace.telemetry.metrics.outcomes import outcome_attributes

METRIC_STORE_ROWS: Final = "modeltrace.store.rows"
ITEM_NAME: Final = "predictions for the store"


class StoreHealth:
    """Adds up the outcomes that the writer of the prediction store reports."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows: Counter[tuple[str, str]] = Counter()  # by outcome and `error.type`

    def on_event(self, outcome: str, rows: int, error_type: str) -> None:
        """Count rows that were `stored` or `lost`."""
        with self._lock:
            self._rows[outcome, error_type] += rows

    def lost_items(self) -> dict[str, int]:
        """Return the number of rows lost since the start; empty if none is lost."""
        with self._lock:
            lost = sum(rows for (outcome, _), rows in self._rows.items() if outcome == "lost")
        return {ITEM_NAME: lost} if lost else {}

    def create_instruments(self, meter: Meter) -> None:
        """Create the metric."""
        meter.create_observable_counter(
            METRIC_STORE_ROWS,
            [self._observe],
            "{row}",
            "Predictions that were stored in the prediction store, or lost.",
        )

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            return [Observation(rows, outcome_attributes(*outcome)) for outcome, rows in self._rows.items()]
