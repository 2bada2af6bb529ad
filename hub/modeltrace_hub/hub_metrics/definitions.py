"""Define the metrics of the hub: names, units and values. Both formats are rendered from these."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from modeltrace_hub.store import Store
from modeltrace_hub.writer import Writer

Attributes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HubMetric:
    """One metric with its current values by attributes. A counter starts at zero when the hub starts."""

    name: str
    type: Literal["counter", "gauge"]
    unit: str
    description: str
    values: tuple[tuple[Attributes, float], ...]


def collect_metrics(store: Store, writer: Writer) -> Iterator[HubMetric]:
    """Yield all metrics with their values. This reads no telemetry."""
    signals = writer.stats.snapshot()

    def by_signal(name: str) -> tuple[tuple[Attributes, float], ...]:
        return tuple(((("signal", signal),), float(getattr(counts, name))) for signal, counts in signals.items())

    def by_reason(name: str, attribute: str) -> tuple[tuple[Attributes, float], ...]:
        return tuple(
            ((("signal", signal), (attribute, reason)), float(count))
            for signal, counts in signals.items()
            for reason, count in sorted(getattr(counts, name).items())
        )

    yield HubMetric(
        "modeltrace.hub.records.received",
        "counter",
        "{record}",
        "Decoded spans, data points and log records.",
        by_signal("received"),
    )
    yield HubMetric(
        "modeltrace.hub.records.stored",
        "counter",
        "{record}",
        "Records that were committed to the database.",
        by_signal("stored"),
    )
    yield HubMetric(
        "modeltrace.hub.records.rejected",
        "counter",
        "{record}",
        "Records that break the protocol, by reason.",
        by_reason("rejected", "reason"),
    )
    yield HubMetric(
        "modeltrace.hub.records.refused",
        "counter",
        "{record}",
        "Records that were not written, by error type. Their senders may send them again.",
        by_reason("refused", "error.type"),
    )
    yield HubMetric(
        "modeltrace.hub.requests.failed",
        "counter",
        "{request}",
        "Requests that failed before their records were counted, by error type.",
        by_reason("failed_requests", "error.type"),
    )
    yield HubMetric(
        "modeltrace.hub.queue.rows",
        "gauge",
        "{row}",
        "Rows in the write queue.",
        (((), float(writer.queued_rows)),),
    )
    yield HubMetric(
        "modeltrace.hub.queue.limit",
        "gauge",
        "{row}",
        "The most rows that the write queue holds.",
        (((), float(writer.max_rows)),),
    )
    yield HubMetric(
        "modeltrace.hub.records.deleted",
        "counter",
        "{row}",
        "Rows that were deleted because they were over the limit of age or size.",
        tuple(((("table", table),), float(count)) for table, count in writer.retention.state.deleted_rows.items()),
    )
    size = store.size()
    yield HubMetric(
        "modeltrace.hub.storage.size", "gauge", "By", "Size of the stored telemetry.", (((), float(size.live)),)
    )
    yield HubMetric("modeltrace.hub.storage.file", "gauge", "By", "Size of the file.", (((), float(size.file)),))
