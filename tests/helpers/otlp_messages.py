"""OTLP messages with defaults for what a test does not name."""

import os

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span


def attribute(key: str, value: str) -> KeyValue:
    """Return an attribute."""
    return KeyValue(key=key, value=AnyValue(string_value=value))


def resource(service: str = "svc", instance: str = "one") -> Resource:
    """Return a resource with the name and instance of a service."""
    return Resource(attributes=[attribute("service.name", service), attribute("service.instance.id", instance)])


def span(**fields: object) -> Span:
    """Return a valid span with random IDs."""
    return Span(
        **{
            "trace_id": os.urandom(15) + b"\1",
            "span_id": os.urandom(7) + b"\1",
            "name": "work",
            "start_time_unix_nano": 1_000,
            "end_time_unix_nano": 3_500,
            **fields,
        }
    )


def trace_request(*spans: Span) -> ExportTraceServiceRequest:
    """Return an export request with these spans, or with a default span."""
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource(), scope_spans=[ScopeSpans(spans=spans or [span()])])]
    )


def log_request(*records: LogRecord) -> ExportLogsServiceRequest:
    """Return an export request with these log records, or with one."""
    records = records or (LogRecord(time_unix_nano=5, body=AnyValue(string_value="hello")),)
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=resource(), scope_logs=[ScopeLogs(log_records=records)])]
    )


def metric_request(*items: Metric) -> ExportMetricsServiceRequest:
    """Return an export request with these metrics, or with one gauge."""
    items = items or (Metric(name="g", gauge=Gauge(data_points=[NumberDataPoint(time_unix_nano=5, as_int=1)])),)
    return ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(resource=resource(), scope_metrics=[ScopeMetrics(metrics=items)])]
    )
