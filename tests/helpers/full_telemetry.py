"""A request of each signal with every field that OTLP has."""

from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    EntityRef,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
    Summary,
    SummaryDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tests.helpers.otlp_messages import attribute, span

TRACE_ID = "ab" * 16
SPAN_ID = "01" * 8
SECOND = 10**9
START = 1_700_000_000 * SECOND

ATTRIBUTES = [
    attribute("text", "<b>é\n"),
    KeyValue(key="int", value=AnyValue(int_value=2**62)),
    KeyValue(key="double", value=AnyValue(double_value=1.0)),
    KeyValue(key="bool", value=AnyValue(bool_value=False)),
    KeyValue(key="bytes", value=AnyValue(bytes_value=b"\x00\xff")),
    KeyValue(key="none", value=AnyValue()),
    KeyValue(key="list", value=AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue()]))),
    KeyValue(key="map", value=AnyValue(kvlist_value=KeyValueList(values=[attribute("k", "v")]))),
]
RESOURCE = Resource(
    attributes=[attribute("service.name", "shop"), *ATTRIBUTES],
    dropped_attributes_count=1,
    entity_refs=[EntityRef(schema_url="u", type="service", id_keys=["service.name"], description_keys=["text"])],
)
SCOPE = InstrumentationScope(name="scope", version="1", attributes=ATTRIBUTES, dropped_attributes_count=2)
IDS = {"trace_id": bytes.fromhex(TRACE_ID), "span_id": bytes.fromhex(SPAN_ID)}


def full_requests() -> dict[str, Any]:
    """Return a request of each signal with every field that OTLP has."""
    spans = [
        Span(
            **IDS,
            trace_state="a=b",
            flags=257,
            name="root",
            kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=START,
            end_time_unix_nano=START + SECOND,
            attributes=ATTRIBUTES,
            dropped_attributes_count=1,
            events=[Span.Event(time_unix_nano=START, name="event", attributes=ATTRIBUTES, dropped_attributes_count=3)],
            dropped_events_count=2,
            links=[Span.Link(**IDS, trace_state="c=d", attributes=ATTRIBUTES, dropped_attributes_count=4, flags=1)],
            dropped_links_count=5,
            status=Status(code=Status.STATUS_CODE_ERROR, message="it failed"),
        ),
        span(trace_id=IDS["trace_id"], parent_span_id=IDS["span_id"], start_time_unix_nano=START, kind=9),
    ]
    log = LogRecord(
        **IDS,
        time_unix_nano=START,
        observed_time_unix_nano=START + 1,
        severity_number=17,
        severity_text="ERROR",
        event_name="event",
        body=AnyValue(kvlist_value=KeyValueList(values=ATTRIBUTES)),
        attributes=ATTRIBUTES,
        dropped_attributes_count=1,
        flags=1,
    )
    times = {"start_time_unix_nano": START - SECOND, "time_unix_nano": START + 2 * SECOND, "flags": 0}
    exemplar = Exemplar(**IDS, time_unix_nano=START, as_double=0.5, filtered_attributes=ATTRIBUTES)
    point = {**times, "attributes": ATTRIBUTES, "exemplars": [exemplar]}
    buckets = ExponentialHistogramDataPoint.Buckets(offset=-3, bucket_counts=[1, 0, 2])
    metrics = [
        Metric(name="gauge", unit="s", gauge=Gauge(data_points=[NumberDataPoint(**point, as_double=float("inf"))])),
        Metric(
            name="sum",
            description="d",
            metadata=ATTRIBUTES,
            sum=Sum(aggregation_temporality=1, is_monotonic=True, data_points=[NumberDataPoint(**point, as_int=2**62)]),
        ),
        Metric(
            name="histogram",
            histogram=Histogram(
                aggregation_temporality=2,
                data_points=[
                    HistogramDataPoint(
                        **point, count=3, sum=1.5, min=0, max=1, bucket_counts=[1, 2], explicit_bounds=[0.5]
                    )
                ],
            ),
        ),
        Metric(
            name="exponential",
            exponential_histogram=ExponentialHistogram(
                aggregation_temporality=2,
                data_points=[
                    ExponentialHistogramDataPoint(
                        **point, count=7, scale=2, zero_count=1, zero_threshold=0.1, positive=buckets, negative=buckets
                    )
                ],
            ),
        ),
        Metric(
            name="summary",
            summary=Summary(
                data_points=[
                    SummaryDataPoint(
                        **times,
                        attributes=ATTRIBUTES,
                        count=2,
                        sum=3,
                        quantile_values=[SummaryDataPoint.ValueAtQuantile(quantile=0.5, value=1.5)],
                    )
                ]
            ),
        ),
    ]
    shared = {"resource": RESOURCE, "schema_url": "r"}
    scope = {"scope": SCOPE, "schema_url": "s"}
    return {
        "traces": ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(**shared, scope_spans=[ScopeSpans(**scope, spans=spans)])]
        ),
        "logs": ExportLogsServiceRequest(
            resource_logs=[ResourceLogs(**shared, scope_logs=[ScopeLogs(**scope, log_records=[log])])]
        ),
        "metrics": ExportMetricsServiceRequest(
            resource_metrics=[ResourceMetrics(**shared, scope_metrics=[ScopeMetrics(**scope, metrics=metrics)])]
        ),
    }
