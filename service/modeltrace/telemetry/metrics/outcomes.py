"""Counters of events by their outcome."""

from collections.abc import Callable
from typing import Final

from opentelemetry.metrics import Meter
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

OUTCOME: Final = "modeltrace.outcome"


class OutcomeCounter:
    """Counts events by outcome and, for failures, by `error.type`."""

    def __init__(self, meter: Meter, name: str, unit: str, description: str) -> None:
        self._counter = meter.create_counter(name, unit, description)

    def add(self, outcome: str, count: int, error_type: str = "") -> None:
        """Count an outcome; `error_type` is empty if there is no failure."""
        self._counter.add(count, outcome_attributes(outcome, error_type))


def outcome_attributes(outcome: str, error_type: str) -> dict[str, str]:
    """Return the attributes of an outcome; `error_type` is empty if there is no failure."""
    return {OUTCOME: outcome, **({ERROR_TYPE: error_type} if error_type else {})}


def model_change_counter(meter: Meter) -> Callable[[str, str], None]:
    """Return a function that counts a change of the served version: `served` or `refused`, and `error.type`."""
    counter = OutcomeCounter(
        meter, "modeltrace.model.changes", "{change}", "New versions that serve, and bundles that were rejected."
    )
    return lambda outcome, error_type: counter.add(outcome, 1, error_type)


def challenger_row_counter(meter: Meter) -> Callable[[str, int, str], None]:
    """Return a function that counts rows for a challenger: `answered`, `refused`, `failed` or `dropped`."""
    return OutcomeCounter(
        meter, "modeltrace.challenger.rows", "{row}", "Predicted rows for a challenger, by outcome."
    ).add


def rate_limit_counter(meter: Meter) -> Callable[[], None]:
    """Return a function that counts a request beyond the rate limit."""
    counter = meter.create_counter(
        "modeltrace.rate_limit.rejected", "{request}", "Requests that were rejected because of the rate limit."
    )
    return lambda: counter.add(1)
