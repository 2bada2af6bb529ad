"""Metrics of the export queue and the sidecar, for records that no processor of the OpenTelemetry SDK has seen.

- `otel.sdk.exporter.*`: items that were delivered or lost, and the duration of attempts. A failed attempt is retried,
  so it loses no items.
- `otel.sdk.processor.*`: items in the queue, and items that exceeded a limit of the queue or of the sidecar.
- `modeltrace.sidecar.*`: items on disk, and restarts. They have no standard name.

Source: OpenTelemetry semantic conventions, "SDK metrics" (in development).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.semconv._incubating.attributes.otel_attributes import OTEL_COMPONENT_NAME, OTEL_COMPONENT_TYPE
from opentelemetry.semconv._incubating.metrics import otel_metrics
from opentelemetry.semconv._incubating.metrics.otel_metrics import (
    OTEL_SDK_PROCESSOR_LOG_QUEUE_SIZE,
    OTEL_SDK_PROCESSOR_SPAN_QUEUE_SIZE,
)
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from modeltrace.otel_env.table import Signal
from modeltrace.telemetry.export.protocol import DROPPED, EVENT, LINES_DROPPED, STORE, DeliveryEvent, SidecarEvent
from modeltrace.telemetry.export.queue import SPANS_PER_REQUEST, ExportQueue
from modeltrace.telemetry.metrics.store import StoreHealth
from modeltrace.telemetry.names import ITEM_NAMES, METRIC_SPOOLED

QUEUE_FULL_ERRORS: Final = ("queue_full", "spool_full")
METRIC_RESTARTS: Final = "modeltrace.sidecar.restarts"
SIGNAL: Final = "modeltrace.signal"


class ExportHealth:
    """Adds up the events of the sidecar, and reports them as metrics."""

    def __init__(self, store: StoreHealth | None = None) -> None:
        """Pass the events of the prediction store to `store`, if there is one."""
        self._store = store
        self._lock = Lock()
        self._lost: Counter[str] = Counter()
        self._spooled: Counter[str] = Counter()
        self._dropped_lines = 0
        self._record: Callable[[DeliveryEvent], None] = lambda _: None

    def on_event(self, event: SidecarEvent) -> None:
        """Count an event of the sidecar or of the export queue. Thread-safe."""
        if event.kind == DROPPED:
            requests, rows, labels, batches = event.fields
            full = QUEUE_FULL_ERRORS[0]
            spans = requests * SPANS_PER_REQUEST + labels + batches
            self._record(DeliveryEvent("lost", "traces", spans, error_type=full))
            self._record(DeliveryEvent("lost", "logs", rows + labels, error_type=full))
            if self._store and rows:
                self._store.on_event("lost", rows, full)
        elif event.kind == LINES_DROPPED:
            with self._lock:
                self._dropped_lines += sum(event.fields)
        elif event.kind == EVENT:
            self._on_delivery_event(DeliveryEvent._make(event.fields))

    def _on_delivery_event(self, event: DeliveryEvent) -> None:
        if event.signal == STORE:
            if self._store:
                self._store.on_event(event.kind, event.items, event.error_type)
            return
        with self._lock:
            if event.kind == "lost":
                self._lost[event.signal] += event.items
            elif event.kind in ("spooled", "unspooled"):
                self._spooled[event.signal] += event.items if event.kind == "spooled" else -event.items
            elif event.kind == "adopted":  # reported when a sidecar starts: the number of all items on disk
                self._spooled[event.signal] = event.items
        self._record(event)

    def lost_items(self, queue: ExportQueue) -> dict[str, int]:
        """Return the number of items lost since the start, by kind; kinds without losses are omitted."""
        with self._lock:
            lost = {ITEM_NAMES[signal]: n for signal, n in (self._lost + Counter(queue.dropped_items)).items()}
        lost["requests"] = queue.dropped_requests
        lost["prediction log records"] = queue.dropped_rows
        lost["records of labels"] = queue.dropped_labels
        lost["batch spans"] = queue.dropped_batches
        lost["log lines"] = self._dropped_lines
        if self._store:
            lost |= self._store.lost_items()
        return {name: number for name, number in lost.items() if number > 0}

    def spooled_items(self) -> dict[str, int]:
        """Return the number of items on disk, by kind."""
        with self._lock:
            return {ITEM_NAMES[signal]: number for signal, number in self._spooled.items() if number > 0}

    def create_instruments(self, meter: Meter, queue: ExportQueue, *, exporters: Mapping[Signal, str]) -> None:
        """Create the metrics. `exporters` has the type of each signal's exporter: `otlp_http` or `otlp_grpc`."""
        queue_attributes = _component_attributes("modeltrace_export_queue")
        exporter_attributes: dict[str, dict[str, str]] = {
            "traces": _component_attributes(f"{exporters['traces']}_span_exporter"),
            "logs": _component_attributes(f"{exporters['logs']}_log_exporter"),
            "metrics": _component_attributes(f"{exporters['metrics']}_metric_exporter"),
        }
        exported = {
            "traces": otel_metrics.create_otel_sdk_exporter_span_exported(meter),
            "logs": otel_metrics.create_otel_sdk_exporter_log_exported(meter),
            "metrics": otel_metrics.create_otel_sdk_exporter_metric_data_point_exported(meter),
        }
        processed = {
            "traces": otel_metrics.create_otel_sdk_processor_span_processed(meter),
            "logs": otel_metrics.create_otel_sdk_processor_log_processed(meter),
        }
        duration = otel_metrics.create_otel_sdk_exporter_operation_duration(meter)

        def record(event: DeliveryEvent) -> None:
            signal, exporter = event.signal, exporter_attributes[event.signal]
            error = {ERROR_TYPE: event.error_type} if event.error_type else {}
            if event.kind in ("exported", "failed"):
                duration.record(event.seconds, {**exporter, **error})
            if event.kind == "exported":
                exported[signal].add(event.items, exporter)
            elif event.kind == "lost" and event.error_type in QUEUE_FULL_ERRORS and signal in processed:
                processed[signal].add(event.items, {**queue_attributes, ERROR_TYPE: "queue_full"})
            elif event.kind == "lost":
                exported[signal].add(event.items, {**exporter, **error})

        self._record = record
        if self._store:
            self._store.create_instruments(meter)
        otel_metrics.create_otel_sdk_processor_span_queue_capacity(meter).add(queue.limits.spans, queue_attributes)
        otel_metrics.create_otel_sdk_processor_log_queue_capacity(meter).add(queue.limits.log_records, queue_attributes)

        def observe(number: Callable[[], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
            return lambda _: [Observation(number(), queue_attributes)]

        meter.create_observable_up_down_counter(
            OTEL_SDK_PROCESSOR_SPAN_QUEUE_SIZE,
            [observe(lambda: queue.queued_spans)],
            unit="{span}",
            description="Spans that wait for the sidecar, four of each request.",
        )
        meter.create_observable_up_down_counter(
            OTEL_SDK_PROCESSOR_LOG_QUEUE_SIZE,
            [observe(lambda: queue.queued_rows)],
            unit="{log_record}",
            description="Prediction log records that wait for the sidecar.",
        )
        meter.create_observable_up_down_counter(
            METRIC_SPOOLED,
            [self._observe_spooled],
            unit="{item}",
            description="Spans, log records and metric points on disk that wait for delivery.",
        )
        meter.create_observable_counter(
            METRIC_RESTARTS,
            [observe(lambda: queue.restarts)],
            unit="{restart}",
            description="How often the sidecar died and was replaced.",
        )

    def _observe_spooled(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            return [Observation(max(0, self._spooled[signal]), {SIGNAL: signal}) for signal in ITEM_NAMES]


def _component_attributes(component_type: str) -> dict[str, str]:
    return {OTEL_COMPONENT_TYPE: component_type, OTEL_COMPONENT_NAME: f"{component_type}/0"}
