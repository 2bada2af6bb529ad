"""What became of changes of the served version, and of what a challenger was asked, as metrics."""

from collections.abc import Callable
from typing import Final

from opentelemetry.metrics import Meter
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from modeltrace.telemetry.metrics.store import OUTCOME

METRIC_MODEL_CHANGES: Final = "modeltrace.model.changes"
METRIC_CHALLENGER_ROWS: Final = "modeltrace.challenger.rows"


def model_change_counter(meter: Meter) -> Callable[[str, str], None]:
    """A function that counts a change by outcome and kind of error, "" for none."""
    counter = meter.create_counter(
        METRIC_MODEL_CHANGES, unit="{change}", description="Versions that took over, and bundles that were refused."
    )

    def tell(outcome: str, error_type: str) -> None:
        counter.add(1, {OUTCOME: outcome, **({ERROR_TYPE: error_type} if error_type else {})})

    return tell


def challenger_row_counter(meter: Meter) -> Callable[[str, int, str], None]:
    """A function that counts rows by what became of them and kind of error, "" for none."""
    counter = meter.create_counter(
        METRIC_CHALLENGER_ROWS,
        unit="{row}",
        description="Answered rows that were to be put to a challenger, by what became of them.",
    )

    def tell(outcome: str, rows: int, error_type: str) -> None:
        counter.add(rows, {OUTCOME: outcome, **({ERROR_TYPE: error_type} if error_type else {})})

    return tell
