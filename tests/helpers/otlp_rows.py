"""Convert stored rows back to OTLP messages, to compare a round trip."""

from typing import Any

import orjson
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, EntityRef, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.helpers.decoding import from_json

Columns = dict[str, Any]


def attributes(text: str) -> list[KeyValue]:
    """Return attributes from the text of a JSON object."""
    return _pairs(orjson.loads(text))


def _pairs(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=from_json(value)) for key, value in values.items()]


def _enum(enum: EnumTypeWrapper, prefix: str, word: str) -> int:
    return enum.Value(prefix + word) if word.isalpha() else int(word)


def resource(row: Columns) -> Resource:
    """Return the resource of a row."""
    return Resource(
        attributes=attributes(row["resource_attributes"]),
        dropped_attributes_count=row["resource_dropped_attributes_count"],
        entity_refs=[EntityRef(**ref) for ref in orjson.loads(row["resource_entity_refs"])],
    )


def scope(row: Columns) -> InstrumentationScope:
    """Return the scope of a row."""
    return InstrumentationScope(
        name=row["scope_name"],
        version=row["scope_version"],
        attributes=attributes(row["scope_attributes"]),
        dropped_attributes_count=row["scope_dropped_attributes_count"],
    )


def span(row: Columns) -> Span:
    """Return the span of a row of `spans`."""
    return Span(
        trace_id=bytes.fromhex(row["trace_id"]),
        span_id=bytes.fromhex(row["span_id"]),
        parent_span_id=bytes.fromhex(row["parent_span_id"] or ""),
        trace_state=row["trace_state"],
        flags=row["flags"],
        name=row["name"],
        kind=_enum(Span.SpanKind, "SPAN_KIND_", row["kind"]),
        start_time_unix_nano=row["start_ns"],
        end_time_unix_nano=row["end_ns"],
        attributes=attributes(row["attributes"]),
        dropped_attributes_count=row["dropped_attributes_count"],
        events=[
            Span.Event(
                time_unix_nano=event["time_ns"],
                name=event["name"],
                attributes=_pairs(event["attributes"]),
                dropped_attributes_count=event["dropped_attributes_count"],
            )
            for event in orjson.loads(row["events"])
        ],
        dropped_events_count=row["dropped_events_count"],
        links=[
            Span.Link(
                trace_id=bytes.fromhex(link["trace_id"]),
                span_id=bytes.fromhex(link["span_id"]),
                trace_state=link["trace_state"],
                attributes=_pairs(link["attributes"]),
                dropped_attributes_count=link["dropped_attributes_count"],
                flags=link["flags"],
            )
            for link in orjson.loads(row["links"])
        ],
        dropped_links_count=row["dropped_links_count"],
        status=Status(message=row["status_message"], code=_enum(Status.StatusCode, "STATUS_CODE_", row["status_code"])),
    )


def record(row: Columns) -> LogRecord:
    """Return the log record of a row of `logs`."""
    body = None
    if row["body"] is not None:
        structured = row["body_structured"]
        body = from_json(orjson.loads(row["body"])) if structured else AnyValue(string_value=row["body"])
    return LogRecord(
        time_unix_nano=row["time_ns"],
        observed_time_unix_nano=row["observed_time_ns"] or 0,
        severity_number=row["severity_number"],
        severity_text=row["severity_text"],
        body=body,
        attributes=attributes(row["attributes"]),
        dropped_attributes_count=row["dropped_attributes_count"],
        flags=row["flags"],
        trace_id=bytes.fromhex(row["trace_id"] or ""),
        span_id=bytes.fromhex(row["span_id"] or ""),
        event_name=row["event_name"],
    )


def _number(row: Columns) -> dict[str, Any]:
    if row["value_int"] is not None:
        return {"as_int": row["value_int"]}
    return {} if row["value"] is None else {"as_double": row["value"]}


def metric(row: Columns, exemplars: list[Columns]) -> Metric:
    """Return a metric with the data point of a row of `metric_points`, and its exemplars."""
    point: dict[str, Any] = {
        "attributes": attributes(row["attributes"]),
        "start_time_unix_nano": row["start_ns"] or 0,
        "time_unix_nano": row["time_ns"],
        "flags": row["flags"],
    }
    if row["type"] != "summary":
        point["exemplars"] = [
            Exemplar(
                filtered_attributes=attributes(item["filtered_attributes"]),
                time_unix_nano=item["time_ns"],
                trace_id=bytes.fromhex(item["trace_id"] or ""),
                span_id=bytes.fromhex(item["span_id"] or ""),
                **_number(item),
            )
            for item in exemplars
        ]
    limits = {name: row[name] for name in ("sum", "min", "max")}
    data: Any
    match row["type"]:
        case "gauge" | "sum":
            data = NumberDataPoint(**_number(row), **point)
        case "histogram":
            data = HistogramDataPoint(
                count=row["count"],
                bucket_counts=row["bucket_counts"],
                explicit_bounds=row["explicit_bounds"],
                **limits,
                **point,
            )
        case "exponential_histogram":
            buckets = ExponentialHistogramDataPoint.Buckets
            data = ExponentialHistogramDataPoint(
                count=row["count"],
                scale=row["scale"],
                zero_count=row["zero_count"],
                zero_threshold=row["zero_threshold"],
                positive=buckets(offset=row["positive_offset"], bucket_counts=row["positive_counts"]),
                negative=buckets(offset=row["negative_offset"], bucket_counts=row["negative_counts"]),
                **limits,
                **point,
            )
        case "summary":
            values = zip(row["quantiles"], row["quantile_values"], strict=True)
            data = SummaryDataPoint(
                count=row["count"],
                sum=row["sum"],
                quantile_values=[SummaryDataPoint.ValueAtQuantile(quantile=q, value=v) for q, v in values],
                **point,
            )
    result = Metric(
        name=row["name"],
        description=row["description"],
        unit=row["unit"],
        metadata=attributes(row["metadata"]),
        **{row["type"]: {"data_points": [data]}},
    )
    holder = getattr(result, row["type"])
    if row["temporality"] is not None:
        holder.aggregation_temporality = _enum(AggregationTemporality, "AGGREGATION_TEMPORALITY_", row["temporality"])
    if row["is_monotonic"] is not None:
        holder.is_monotonic = row["is_monotonic"]
    return result
