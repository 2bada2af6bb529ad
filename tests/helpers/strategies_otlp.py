"""Strategies for valid OTLP requests of every shape."""

import math
from typing import Any

from google.protobuf.message import Message
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
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

MAX_NS = 2**63 - 1

# In JSON these words represent doubles and bytes, so a string or key with such a value is not decoded to itself.
_TAKEN = {"NaN", "Infinity", "-Infinity", "bytes"}

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: text not in _TAKEN)

_count = st.integers(0, 2**32 - 1)

_times = st.integers(0, MAX_NS)

_uint64 = st.integers(0, 2**64 - 1)

_int32 = st.integers(-(2**31), 2**31 - 1)

_int64 = st.integers(-(2**63), 2**63 - 1)

_doubles = st.floats(allow_nan=False) | st.just(math.nan)

_trace_ids = st.binary(min_size=16, max_size=16).filter(any)

_span_ids = st.binary(min_size=8, max_size=8).filter(any)


def _lists(items: st.SearchStrategy[Any], size: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=size)


def _array(items: list[AnyValue]) -> AnyValue:
    result = AnyValue()
    result.array_value.SetInParent()
    result.array_value.values.extend(items)
    return result


def _kvlist(items: dict[str, AnyValue]) -> AnyValue:
    result = AnyValue()
    result.kvlist_value.SetInParent()
    result.kvlist_value.values.extend(KeyValue(key=key, value=value) for key, value in items.items())
    return result


any_values: st.SearchStrategy[AnyValue] = st.recursive(
    st.one_of(
        st.just(AnyValue()),
        st.builds(AnyValue, string_value=_text),
        st.builds(AnyValue, bool_value=st.booleans()),
        st.builds(AnyValue, int_value=_int64),
        st.builds(AnyValue, double_value=_doubles),
        st.builds(AnyValue, bytes_value=st.binary(max_size=12)),
    ),
    lambda inner: st.one_of(
        _lists(inner).map(_array),
        st.dictionaries(_text, inner, max_size=3).map(_kvlist),
    ),
    max_leaves=6,
)

attribute_lists = st.dictionaries(_text, any_values, max_size=3).map(
    lambda items: [KeyValue(key=key, value=value) for key, value in items.items()]
)

_resources = st.builds(Resource, attributes=attribute_lists, dropped_attributes_count=_count)

_scopes = st.builds(
    InstrumentationScope, name=_text, version=_text, attributes=attribute_lists, dropped_attributes_count=_count
)

_events = st.builds(
    Span.Event, time_unix_nano=_uint64, name=_text, attributes=attribute_lists, dropped_attributes_count=_count
)

_links = st.builds(
    Span.Link,
    trace_id=_trace_ids,
    span_id=_span_ids,
    trace_state=_text,
    attributes=attribute_lists,
    dropped_attributes_count=_count,
    flags=_count,
)

_spans = st.builds(
    Span,
    trace_id=_trace_ids,
    span_id=_span_ids,
    parent_span_id=st.just(b"") | _span_ids,
    trace_state=_text,
    flags=_count,
    name=_text,
    kind=st.integers(0, 5) | _int32,
    start_time_unix_nano=_times,
    end_time_unix_nano=_times,
    attributes=attribute_lists,
    dropped_attributes_count=_count,
    events=_lists(_events, 2),
    dropped_events_count=_count,
    links=_lists(_links, 2),
    dropped_links_count=_count,
    status=st.builds(Status, message=_text, code=st.integers(0, 2) | _int32),
)

_records = st.builds(
    LogRecord,
    time_unix_nano=_times,
    observed_time_unix_nano=_times,
    severity_number=st.integers(0, 24) | _int32,
    severity_text=_text,
    body=st.none() | any_values,
    attributes=attribute_lists,
    dropped_attributes_count=_count,
    flags=_count,
    trace_id=st.just(b"") | _trace_ids,
    span_id=st.just(b"") | _span_ids,
    event_name=_text,
)


def _numbers(type_: type[Message], **fields: object) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(type_, as_double=_doubles, **fields),
        st.builds(type_, as_int=_int64, **fields),
        st.builds(type_, **fields),
    )


_exemplars = _numbers(
    Exemplar,
    filtered_attributes=attribute_lists,
    time_unix_nano=_times,
    trace_id=st.just(b"") | _trace_ids,
    span_id=st.just(b"") | _span_ids,
)

_point = {
    "attributes": attribute_lists,
    "start_time_unix_nano": _times,
    "time_unix_nano": _times,
    "flags": _count,
}

_number_points = _numbers(NumberDataPoint, exemplars=_lists(_exemplars, 2), **_point)

_optional = {name: st.none() | _doubles for name in ("sum", "min", "max")}

_histogram_points = st.lists(_doubles, max_size=3).flatmap(
    lambda bounds: st.builds(
        HistogramDataPoint,
        explicit_bounds=st.just(bounds),
        bucket_counts=st.lists(_uint64, min_size=len(bounds) + 1, max_size=len(bounds) + 1),
        count=_uint64,
        exemplars=_lists(_exemplars, 2),
        **_optional,
        **_point,
    )
)

_buckets = st.builds(ExponentialHistogramDataPoint.Buckets, offset=_int32, bucket_counts=_lists(_uint64))

_exponential_points = st.builds(
    ExponentialHistogramDataPoint,
    count=_uint64,
    scale=_int32,
    zero_count=_uint64,
    zero_threshold=_doubles,
    positive=_buckets,
    negative=_buckets,
    exemplars=_lists(_exemplars, 2),
    **_optional,
    **_point,
)

_summary_points = st.builds(
    SummaryDataPoint,
    count=_uint64,
    sum=_doubles,
    quantile_values=_lists(st.builds(SummaryDataPoint.ValueAtQuantile, quantile=_doubles, value=_doubles)),
    **_point,
)

_temporality = st.integers(0, 2) | _int32

_about = {"name": _text, "description": _text, "unit": _text, "metadata": attribute_lists}

_metrics = st.one_of(
    st.builds(Metric, gauge=st.builds(Gauge, data_points=_lists(_number_points, 2)), **_about),
    st.builds(
        Metric,
        sum=st.builds(
            Sum,
            data_points=_lists(_number_points, 2),
            aggregation_temporality=_temporality,
            is_monotonic=st.booleans(),
        ),
        **_about,
    ),
    st.builds(
        Metric,
        histogram=st.builds(Histogram, data_points=_lists(_histogram_points, 2), aggregation_temporality=_temporality),
        **_about,
    ),
    st.builds(
        Metric,
        exponential_histogram=st.builds(
            ExponentialHistogram, data_points=_lists(_exponential_points, 2), aggregation_temporality=_temporality
        ),
        **_about,
    ),
    st.builds(Metric, summary=st.builds(Summary, data_points=_lists(_summary_points, 2)), **_about),
)

trace_requests = st.builds(
    ExportTraceServiceRequest,
    resource_spans=_lists(
        st.builds(
            ResourceSpans,
            resource=_resources,
            schema_url=_text,
            scope_spans=_lists(st.builds(ScopeSpans, scope=_scopes, schema_url=_text, spans=_lists(_spans)), 2),
        ),
        2,
    ),
)

log_requests = st.builds(
    ExportLogsServiceRequest,
    resource_logs=_lists(
        st.builds(
            ResourceLogs,
            resource=_resources,
            schema_url=_text,
            scope_logs=_lists(st.builds(ScopeLogs, scope=_scopes, schema_url=_text, log_records=_lists(_records)), 2),
        ),
        2,
    ),
)

metric_requests = st.builds(
    ExportMetricsServiceRequest,
    resource_metrics=_lists(
        st.builds(
            ResourceMetrics,
            resource=_resources,
            schema_url=_text,
            scope_metrics=_lists(st.builds(ScopeMetrics, scope=_scopes, schema_url=_text, metrics=_lists(_metrics)), 2),
        ),
        2,
    ),
)
