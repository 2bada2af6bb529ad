"""What the way out says of itself: OpenTelemetry's SDK metrics, for records that no processor of the SDK has seen.

`otel.sdk.exporter.*` counts what was delivered and what was given up, and times attempts: one that failed is tried
again, and loses nothing by itself. `otel.sdk.processor.*` counts what waits here, and what found no room, here or with
the exporter process. `modeltrace.sidecar.*` is what there is no word for: items on disk, and restarts. Source:
OpenTelemetry semantic conventions, "SDK metrics" (in development).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Final, cast

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.semconv._incubating.attributes.otel_attributes import OTEL_COMPONENT_NAME, OTEL_COMPONENT_TYPE
from opentelemetry.semconv._incubating.metrics import otel_metrics
from opentelemetry.semconv._incubating.metrics.otel_metrics import (
    OTEL_SDK_PROCESSOR_LOG_QUEUE_SIZE,
    OTEL_SDK_PROCESSOR_SPAN_QUEUE_SIZE,
)
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from modeltrace.otel_env.table import Signal
from modeltrace.telemetry.export.events import STORE
from modeltrace.telemetry.export.queue import SPANS_PER_REQUEST, ExportQueue, SidecarEvent
from modeltrace.telemetry.metrics.store import StoreHealth

UNITS: Final[Mapping[Signal, str]] = {"traces": "span", "logs": "log", "metrics": "metric_data_point"}
ITEM_NAMES: Final = {"traces": "spans", "logs": "log records", "metrics": "metric points"}
QUEUE_FULL_ERRORS: Final = ("queue_full", "spool_full")
COMPONENT_TYPE: Final = "modeltrace_export_queue"
METRIC_RESTARTS: Final = "modeltrace.sidecar.restarts"
METRIC_SPOOLED: Final = "modeltrace.sidecar.spooled"
SIGNAL: Final = "modeltrace.signal"


class ExportHealth:
    """Adds up what the exporter process says, and tells it as metrics."""

    def __init__(self, store: StoreHealth | None = None) -> None:
        """`store` hears what is about the prediction store, if there is one."""
        self._store = store
        self._lock = Lock()
        self._lost: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._tell: Callable[[str, str, int, float, str], None] = lambda *_: None

    def on_event(self, heard: SidecarEvent) -> None:
        """Take what the exporter process said; called on the thread that listens to it."""
        if heard.kind == "dropped":
            requests, rows, labels = cast("tuple[int, int, int]", heard.fields)
            self._tell("lost", "traces", requests * SPANS_PER_REQUEST + labels, 0.0, QUEUE_FULL_ERRORS[0])
            self._tell("lost", "logs", rows + labels, 0.0, QUEUE_FULL_ERRORS[0])
            if self._store and rows:
                self._store.on_event("lost", rows, QUEUE_FULL_ERRORS[0])
            return
        if heard.kind != "event":
            return
        kind, signal, items, seconds, error_type = heard.fields
        if signal == STORE:
            if self._store:
                self._store.on_event(kind, items, error_type)  # type: ignore[arg-type]  # plain values of an Event
            return
        with self._lock:
            if kind == "lost":
                self._lost[signal] += items  # type: ignore[index, operator]  # plain values of an Event
            elif kind in ("spooled", "unspooled"):
                self._kept[signal] += items if kind == "spooled" else -items  # type: ignore[index, operator]
            elif kind == "adopted":  # by a process that has just begun, so that is all there is
                self._kept[signal] = items  # type: ignore[index, assignment]
        self._tell(kind, signal, items, seconds, error_type)  # type: ignore[arg-type]

    def lost_items(self, outbox: ExportQueue) -> dict[str, int]:
        """What is gone for good, since the start, by kind; only kinds that lost any."""
        with self._lock:
            lost = {ITEM_NAMES[signal]: n for signal, n in (self._lost + Counter(outbox.dropped_items)).items()}
        if outbox.dropped_requests:
            lost["requests"] = outbox.dropped_requests
        if outbox.dropped_rows:
            lost["audit records"] = outbox.dropped_rows
        if outbox.dropped_labels:
            lost["records of labels"] = outbox.dropped_labels
        if self._store:
            lost |= self._store.lost_items()
        return {what: number for what, number in lost.items() if number > 0}

    def spooled_items(self) -> dict[str, int]:
        """What waits on disk, by kind."""
        with self._lock:
            return {ITEM_NAMES[signal]: number for signal, number in self._kept.items() if number > 0}

    def create_instruments(self, meter: Meter, outbox: ExportQueue, *, exporters: Mapping[Signal, str]) -> None:
        """Make metrics of it. `exporters` are the SDK's words for the protocols: `otlp_http` or `otlp_grpc`."""
        ours = {OTEL_COMPONENT_TYPE: COMPONENT_TYPE, OTEL_COMPONENT_NAME: f"{COMPONENT_TYPE}/0"}
        kinds = {
            signal: f"{exporters[signal]}_{'metric' if signal == 'metrics' else unit}_exporter"
            for signal, unit in UNITS.items()
        }
        theirs: dict[str, dict[str, str]] = {
            s: {OTEL_COMPONENT_TYPE: kind, OTEL_COMPONENT_NAME: f"{kind}/0"} for s, kind in kinds.items()
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

        def tell(kind: str, signal: str, items: int, seconds: float, error_type: str) -> None:
            failed = {ERROR_TYPE: error_type} if error_type else {}
            if kind in ("exported", "failed"):
                duration.record(seconds, {**theirs[signal], **failed})
            if kind == "exported":
                exported[signal].add(items, theirs[signal])
            elif kind == "lost" and error_type in QUEUE_FULL_ERRORS and signal in processed:
                processed[signal].add(items, {**ours, ERROR_TYPE: "queue_full"})
            elif kind == "lost":
                exported[signal].add(items, {**theirs[signal], **failed})

        self._tell = tell
        if self._store:
            self._store.create_instruments(meter)
        otel_metrics.create_otel_sdk_processor_span_queue_capacity(meter).add(outbox.capacity * SPANS_PER_REQUEST, ours)
        otel_metrics.create_otel_sdk_processor_log_queue_capacity(meter).add(outbox.capacity, ours)

        def observe(number: Callable[[], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
            return lambda _: [Observation(number(), ours)]

        meter.create_observable_up_down_counter(
            OTEL_SDK_PROCESSOR_SPAN_QUEUE_SIZE,
            [observe(lambda: outbox.queued_rows * SPANS_PER_REQUEST)],
            unit="{span}",
            description="Spans that wait for the exporter process, four for each row that does.",
        )
        meter.create_observable_up_down_counter(
            OTEL_SDK_PROCESSOR_LOG_QUEUE_SIZE,
            [observe(lambda: outbox.queued_rows)],
            unit="{log_record}",
            description="Audit records that wait for the exporter process.",
        )
        meter.create_observable_up_down_counter(
            METRIC_SPOOLED,
            [self._spooled],
            unit="{item}",
            description="Spans, log records and metric points that wait on disk until the endpoint takes them.",
        )
        meter.create_observable_counter(
            METRIC_RESTARTS,
            [observe(lambda: outbox.restarts)],
            unit="{restart}",
            description="How often the exporter process died and was replaced.",
        )

    def _spooled(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            return [Observation(max(0, self._kept[signal]), {SIGNAL: signal}) for signal in UNITS]
