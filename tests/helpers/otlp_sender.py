"""Send OTLP to the hub in tests of the pages, with messages like those of the service."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_bytes

import httpx
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    Histogram,
    HistogramDataPoint,
    Metric,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tests.helpers.otlp_values import MS, Value, key_values

SEVERITIES = {
    "INFO": SeverityNumber.SEVERITY_NUMBER_INFO,
    "WARN": SeverityNumber.SEVERITY_NUMBER_WARN,
    "ERROR": SeverityNumber.SEVERITY_NUMBER_ERROR,
}

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05)


@dataclass(frozen=True)
class Sender:
    """Post OTLP to a hub, as one service."""

    endpoint: str
    service: str = "modeltrace"
    instance: str = "1"
    shared_instance_id: str | None = None  # None: an ID with the name of the service

    def send(self, request: Message, signal: str) -> None:
        """Post a request; the hub answers after it is stored."""
        answer = httpx.post(
            f"{self.endpoint}/v1/{signal}",
            content=request.SerializeToString(),
            headers={"Content-Type": "application/x-protobuf"},
        )
        answer.raise_for_status()

    def spans(self, *spans: Span) -> None:
        """Send spans."""
        scope = ScopeSpans(scope=InstrumentationScope(name="modeltrace"), spans=spans)
        resource = ResourceSpans(resource=self._resource(), scope_spans=[scope])
        self.send(ExportTraceServiceRequest(resource_spans=[resource]), "traces")

    def logs(self, *records: LogRecord, scope: str = "modeltrace.prediction") -> None:
        """Send log records."""
        logs = ScopeLogs(scope=InstrumentationScope(name=scope), log_records=records)
        resource = ResourceLogs(resource=self._resource(), scope_logs=[logs])
        self.send(ExportLogsServiceRequest(resource_logs=[resource]), "logs")

    def metrics(self, *metrics: Metric) -> None:
        """Send metric points."""
        scope = ScopeMetrics(scope=InstrumentationScope(name="modeltrace"), metrics=metrics)
        resource = ResourceMetrics(resource=self._resource(), scope_metrics=[scope])
        self.send(ExportMetricsServiceRequest(resource_metrics=[resource]), "metrics")

    def prediction(
        self, trace_id: bytes | None = None, *, start_ns: int | None = None, duration_ms: float = 4.2, logs: bool = True
    ) -> str:
        """Send the spans, log records and histogram point of a prediction, and return its trace ID in hex."""
        trace_id = trace_id or token_bytes(16)
        start = start_ns or time.time_ns() - 10 * MS
        root = span(
            trace_id,
            "POST /predict",
            start,
            duration_ms,
            kind=Span.SPAN_KIND_SERVER,
            attributes={
                "http.request.method": "POST",
                "http.route": "/predict",
                "http.response.status_code": 200,
                "ml.model.name": "breast-cancer",
                "ml.model.version": "1.0.0",
                "ml.prediction.id": "p1.AAAA",
                "ml.prediction.label": "benign",
                "ml.prediction.confidence": 0.9731,
            },
        )
        inference = span(trace_id, "inference", start + 1 * MS, duration_ms / 2, parent=root)
        self.spans(root, span(trace_id, "validate", start + MS // 5, 0.3, parent=root), inference)
        if logs:
            self.logs(prediction_record(trace_id, root, row=0, label="benign"))
            self.logs(log_record(trace_id, inference, "model answered"), scope="modeltrace.api")
        self.metrics(duration_metric(trace_id, root))
        return trace_id.hex()

    @property
    def instance_id(self) -> str:
        """The ID of the service instance."""
        return f"{self.service}-{self.instance}" if self.shared_instance_id is None else self.shared_instance_id

    def _resource(self) -> Resource:
        return Resource(attributes=key_values({"service.name": self.service, "service.instance.id": self.instance_id}))


def span(
    trace_id: bytes,
    name: str,
    start_ns: int,
    duration_ms: float,
    *,
    parent: Span | None = None,
    kind: "Span.SpanKind.ValueType" = Span.SPAN_KIND_INTERNAL,
    attributes: Mapping[str, Value] | None = None,
    error: str | None = None,
    events: Sequence[Span.Event] = (),
) -> Span:
    """Return a span; `error` is the message of its ERROR status."""
    return Span(
        trace_id=trace_id,
        span_id=token_bytes(8),
        parent_span_id=parent.span_id if parent else b"",
        name=name,
        kind=kind,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + round(duration_ms * MS),
        attributes=key_values(attributes or {}),
        events=events,
        status=Status(code=Status.STATUS_CODE_ERROR, message=error) if error is not None else None,
    )


def exception_event(time_ns: int, message: str, stacktrace: str) -> Span.Event:
    """Return an exception event as defined by the semantic conventions."""
    return Span.Event(
        time_unix_nano=time_ns,
        name="exception",
        attributes=key_values(
            {"exception.type": "ValueError", "exception.message": message, "exception.stacktrace": stacktrace}
        ),
    )


def log_record(
    trace_id: bytes, around: Span, body: str, *, severity: str = "INFO", attributes: Mapping[str, Value] | None = None
) -> LogRecord:
    """Return a log record of a span."""
    return LogRecord(
        time_unix_nano=around.end_time_unix_nano - 1000,
        trace_id=trace_id,
        span_id=around.span_id,
        flags=1,
        severity_text=severity,
        severity_number=SEVERITIES[severity],
        body=AnyValue(string_value=body),
        attributes=key_values(attributes or {}),
    )


def prediction_record(trace_id: bytes, around: Span, *, row: int, label: str) -> LogRecord:
    """Return the prediction log record of one row."""
    inputs = {"mean radius": 12.5 + row, "mean texture": 17.25, "worst area": 640.0}
    record = log_record(
        trace_id,
        around,
        "predicted benign",
        attributes={
            "ml.prediction.id": f"p1.{row:04}",
            "ml.prediction.row": row,
            "ml.prediction.label": label,
            "ml.prediction.confidence": 0.9731,
            "ml.prediction.inputs": inputs,
            "ml.model.name": "breast-cancer",
            "ml.model.version": "1.0.0",
            "ml.model.hash": "ab" * 32,
        },
    )
    record.event_name = "ml.prediction"
    return record


def duration_metric(trace_id: bytes, server: Span) -> Metric:
    """Return the histogram of request durations after one request, with it as exemplar."""
    seconds = (server.end_time_unix_nano - server.start_time_unix_nano) / 1e9
    bucket = next((index for index, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))
    attributes: dict[str, Value] = {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
    }
    point = HistogramDataPoint(
        start_time_unix_nano=server.start_time_unix_nano - 1000 * MS,
        time_unix_nano=server.end_time_unix_nano + 5 * MS,
        count=1,
        sum=seconds,
        explicit_bounds=BOUNDS,
        bucket_counts=[int(index == bucket) for index in range(len(BOUNDS) + 1)],
        attributes=key_values(attributes),
        exemplars=[
            Exemplar(
                time_unix_nano=server.end_time_unix_nano,
                as_double=seconds,
                trace_id=trace_id,
                span_id=server.span_id,
            )
        ],
    )
    histogram = Histogram(
        aggregation_temporality=AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE, data_points=[point]
    )
    return Metric(name="http.server.request.duration", unit="s", histogram=histogram)
