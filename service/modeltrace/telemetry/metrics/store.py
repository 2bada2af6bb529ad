"""What becomes of predictions on their way to the prediction store, as a metric and as last words."""

from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import Final

from opentelemetry.metrics import Meter
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

METRIC_STORE_ROWS: Final = "modeltrace.store.rows"
OUTCOME: Final = "modeltrace.outcome"
ITEM_NAME: Final = "predictions for the store"


class StoreHealth:
    """Adds up what a `modeltrace.store.writer.Writer` says."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._heard: Counter[tuple[str, str]] = Counter()  # until there is a meter to tell
        self._lost = 0
        self._tell: Callable[[str, int, str], None] | None = None

    def on_event(self, outcome: str, rows: int, error_type: str) -> None:
        """So many rows were `stored` or `lost`."""
        with self._lock:
            if outcome == "lost":
                self._lost += rows
            if self._tell is None:
                self._heard[outcome, error_type] += rows
                return
        self._tell(outcome, rows, error_type)

    def lost_items(self) -> dict[str, int]:
        """What is gone for good, since the start; nothing when nothing is."""
        with self._lock:
            return {ITEM_NAME: self._lost} if self._lost else {}

    def create_instruments(self, meter: Meter) -> None:
        """Make a metric of it."""
        counter = meter.create_counter(
            METRIC_STORE_ROWS,
            unit="{row}",
            description="Predictions that the prediction store has taken, and those that it will never have.",
        )

        def tell(outcome: str, rows: int, error_type: str) -> None:
            counter.add(rows, {OUTCOME: outcome, **({ERROR_TYPE: error_type} if error_type else {})})

        with self._lock:
            self._tell = tell
            before, self._heard = self._heard, Counter()
        for (outcome, error_type), rows in before.items():
            tell(outcome, rows, error_type)
