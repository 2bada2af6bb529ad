"""Outcomes of rows for the prediction store are counted, and reported at shutdown."""

from functools import partial
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.export.protocol import SidecarEvent
from modeltrace.telemetry.metrics.store import ITEM_NAME, StoreHealth


def counted(reader: InMemoryMetricReader) -> dict[tuple[Any, ...], int]:
    """Return the points of the metric, by outcome and error type."""
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert metric.name == "modeltrace.store.rows"
    return {
        (point.attributes["modeltrace.outcome"], point.attributes.get("error.type")): point.value
        for point in metric.data.data_points
    }


def test_outcomes_before_the_instrument_exists_are_counted() -> None:
    """The writer may report before the meter is built."""
    health, reader = StoreHealth(), InMemoryMetricReader()
    health.on_event("stored", 3, "")
    health.on_event("lost", 1, "queue_full")
    health.create_instruments(MeterProvider([reader]).get_meter("test"))
    health.on_event("stored", 2, "")

    assert counted(reader) == {("stored", None): 5, ("lost", "queue_full"): 1}
    assert health.lost_items() == {ITEM_NAME: 1}


def test_rows_that_the_export_queue_drops_are_lost_for_the_store() -> None:
    """The sidecar reports what it stored and lost. What never reached the sidecar is added."""
    store, reader = StoreHealth(), InMemoryMetricReader()
    health = ExportHealth(store)
    store.create_instruments(MeterProvider([reader]).get_meter("test"))
    event = partial(SidecarEvent, "event")
    health.on_event(event(("stored", "store", 10, 0.0, "")))
    health.on_event(event(("lost", "store", 2, 0.0, "shutdown")))
    health.on_event(SidecarEvent("dropped", (1, 4, 0, 0)))

    assert counted(reader) == {("stored", None): 10, ("lost", "shutdown"): 2, ("lost", "queue_full"): 4}
    assert store.lost_items() == {ITEM_NAME: 6}


def test_without_a_store_nothing_is_reported() -> None:
    """Events of a store have no effect."""
    health = ExportHealth()
    health.on_event(SidecarEvent("dropped", (1, 4, 0, 0)))
    health.on_event(SidecarEvent("event", ("stored", "store", 1, 0.0, "")))

    assert StoreHealth().lost_items() == {}
