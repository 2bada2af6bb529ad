"""What becomes of rows for the prediction store is counted, and said at a stop."""

from functools import partial
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.export.protocol import SidecarEvent
from modeltrace.telemetry.metrics.store import ITEM_NAME, StoreHealth


def counted(reader: InMemoryMetricReader) -> dict[tuple[Any, ...], int]:
    """The points of the metric, by outcome and reason."""
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert metric.name == "modeltrace.store.rows"
    return {
        (point.attributes["modeltrace.outcome"], point.attributes.get("error.type")): point.value
        for point in metric.data.data_points
    }


def test_what_was_heard_before_there_was_a_meter_counts() -> None:
    """The writer may be faster than the set-up."""
    health, reader = StoreHealth(), InMemoryMetricReader()
    health.on_event("stored", 3, "")
    health.on_event("lost", 1, "queue_full")
    health.create_instruments(MeterProvider([reader]).get_meter("test"))
    health.on_event("stored", 2, "")

    assert counted(reader) == {("stored", None): 5, ("lost", "queue_full"): 1}
    assert health.lost_items() == {ITEM_NAME: 1}


def test_rows_that_never_left_the_service_are_lost_for_the_store_too() -> None:
    """The exporter process says what it stored and lost; what was dropped before it is added."""
    store, reader = StoreHealth(), InMemoryMetricReader()
    health = ExportHealth(store)
    store.create_instruments(MeterProvider([reader]).get_meter("test"))
    say = partial(SidecarEvent, "event")
    health.on_event(say(("stored", "store", 10, 0.0, "")))
    health.on_event(say(("lost", "store", 2, 0.0, "shutdown")))
    health.on_event(SidecarEvent("dropped", (1, 4, 0)))

    assert counted(reader) == {("stored", None): 10, ("lost", "shutdown"): 2, ("lost", "queue_full"): 4}
    assert store.lost_items() == {ITEM_NAME: 6}


def test_without_a_store_nothing_is_said_of_it() -> None:
    """No metric, no words."""
    health = ExportHealth()
    health.on_event(SidecarEvent("dropped", (1, 4, 0)))
    health.on_event(SidecarEvent("event", ("stored", "store", 1, 0.0, "")))

    assert StoreHealth().lost_items() == {}
