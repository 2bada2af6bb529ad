"""Encode stored rows as requests in OTLP/JSON, the reverse of hub/modeltrace_hub/decode.

A double that is not finite, and bytes inside attributes, are stored as JSON that a text or a map could also have; they
are encoded as such.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, Final

import orjson

from modeltrace_hub.queries.reader import Record

_KINDS: Final = {"UNSPECIFIED": 0, "INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_STATUSES: Final = {"UNSET": 0, "OK": 1, "ERROR": 2}
_TEMPORALITIES: Final = {"UNSPECIFIED": 0, "DELTA": 1, "CUMULATIVE": 2}
_TYPE_FIELDS: Final = {
    "gauge": "gauge",
    "sum": "sum",
    "histogram": "histogram",
    "exponential_histogram": "exponentialHistogram",
    "summary": "summary",
}
# The columns that are equal for all points of a metric.
_METRIC_COLUMNS: Final = ("name", "description", "unit", "type", "temporality", "is_monotonic")


def encode_spans(rows: Iterable[Record]) -> Record:
    """Return spans, in the order of their resources and scopes, as an export request."""
    return {"resourceSpans": _encode_groups(rows, "scopeSpans", "spans", lambda group: map(_span, group))}


def encode_logs(rows: Iterable[Record]) -> Record:
    """Return log records, in the order of their resources and scopes, as an export request."""
    return {"resourceLogs": _encode_groups(rows, "scopeLogs", "logRecords", lambda group: map(_log, group))}


def encode_points(rows: Iterable[Record]) -> Record:
    """Return data points, in the order of their resources, scopes and metrics, as an export request."""
    return {"resourceMetrics": _encode_groups(rows, "scopeMetrics", "metrics", _metrics)}


def encode_value(value: Any) -> Record:  # noqa: ANN401  any JSON
    """Return a JSON value as AnyValue."""
    match value:
        case str():
            return {"stringValue": value}
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [encode_value(item) for item in value]}}
        case {"bytes": str(text)} if len(value) == 1:
            return {"bytesValue": text}
        case _:
            return {"kvlistValue": {"values": encode_attributes(value)}}


def encode_attributes(attributes: Mapping[str, Any]) -> list[Record]:
    """Return the object of attributes as a list of KeyValue."""
    return [{"key": key, "value": encode_value(value)} for key, value in attributes.items()]


def _encode_groups(
    rows: Iterable[Record],
    scopes_field: str,
    records_field: str,
    encode: Callable[[Iterable[Record]], Iterable[Record]],
) -> list[Record]:
    resources = []
    for _, of_resource in groupby(rows, lambda row: row["resource_id"]):
        scopes = []
        first: Record = {}
        for _, of_scope in groupby(of_resource, lambda row: row["scope_id"]):
            group = list(of_scope)
            first = group[0]
            scope = {
                "name": first["scope_name"],
                "version": first["scope_version"],
                "attributes": encode_attributes(first["scope_attributes"]),
                "droppedAttributesCount": first["scope_dropped_attributes_count"],
            }
            scopes.append({"scope": scope, "schemaUrl": first["scope_schema_url"], records_field: [*encode(group)]})
        resource = {
            "attributes": encode_attributes(first["resource_attributes"]),
            "droppedAttributesCount": first["resource_dropped_attributes_count"],
            "entityRefs": [
                {
                    "schemaUrl": entity["schema_url"],
                    "type": entity["type"],
                    "idKeys": entity["id_keys"],
                    "descriptionKeys": entity["description_keys"],
                }
                for entity in first["resource_entity_refs"]
            ],
        }
        resources.append({"resource": resource, "schemaUrl": first["resource_schema_url"], scopes_field: scopes})
    return resources


def _span(row: Record) -> Record:
    return {
        "traceId": row["trace_id"],
        "spanId": row["span_id"],
        "parentSpanId": row["parent_span_id"] or "",
        "traceState": row["trace_state"],
        "flags": row["flags"],
        "name": row["name"],
        "kind": _number(_KINDS, row["kind"]),
        "startTimeUnixNano": str(row["start_ns"]),
        "endTimeUnixNano": str(row["end_ns"]),
        "attributes": encode_attributes(row["attributes"]),
        "droppedAttributesCount": row["dropped_attributes_count"],
        "events": [
            {
                "timeUnixNano": str(event["time_ns"]),
                "name": event["name"],
                "attributes": encode_attributes(event["attributes"]),
                "droppedAttributesCount": event["dropped_attributes_count"],
            }
            for event in row["events"]
        ],
        "droppedEventsCount": row["dropped_events_count"],
        "links": [
            {
                "traceId": link["trace_id"],
                "spanId": link["span_id"],
                "traceState": link["trace_state"],
                "flags": link["flags"],
                "attributes": encode_attributes(link["attributes"]),
                "droppedAttributesCount": link["dropped_attributes_count"],
            }
            for link in row["links"]
        ],
        "droppedLinksCount": row["dropped_links_count"],
        "status": {"code": _number(_STATUSES, row["status_code"]), "message": row["status_message"]},
    }


def _log(row: Record) -> Record:
    body = orjson.loads(row["body"]) if row["body_structured"] else row["body"]
    return {
        "timeUnixNano": str(row["time_ns"]),
        "observedTimeUnixNano": str(row["observed_time_ns"] or 0),
        "traceId": row["trace_id"] or "",
        "spanId": row["span_id"] or "",
        "flags": row["flags"],
        "severityNumber": row["severity_number"],
        "severityText": row["severity_text"],
        "eventName": row["event_name"],
        **({} if row["body"] is None else {"body": encode_value(body)}),
        "attributes": encode_attributes(row["attributes"]),
        "droppedAttributesCount": row["dropped_attributes_count"],
    }


def _metrics(rows: Iterable[Record]) -> Iterable[Record]:
    for key, group in groupby(rows, lambda row: [row[name] for name in _METRIC_COLUMNS]):
        name, description, unit, type_, temporality, is_monotonic = key
        points = list(group)
        data: Record = {"dataPoints": [_point(row) for row in points]}
        if temporality is not None:
            data["aggregationTemporality"] = _number(_TEMPORALITIES, temporality)
        if is_monotonic is not None:
            data["isMonotonic"] = is_monotonic
        yield {
            "name": name,
            "description": description,
            "unit": unit,
            "metadata": encode_attributes(points[0]["metadata"]),
            _TYPE_FIELDS[type_]: data,
        }


def _point(row: Record) -> Record:
    point: Record = {
        "startTimeUnixNano": str(row["start_ns"] or 0),
        "timeUnixNano": str(row["time_ns"]),
        "flags": row["flags"],
        "attributes": encode_attributes(row["attributes"]),
    }
    if row["exemplars"]:
        point["exemplars"] = [_exemplar(exemplar) for exemplar in row["exemplars"]]
    if row["type"] in {"gauge", "sum"}:
        return {**point, **_number_value(row)}
    point["count"] = str(row["count"])
    point |= {name: _double(row[name]) for name in ("sum", "min", "max") if row[name] is not None}
    match row["type"]:
        case "histogram":
            point["bucketCounts"] = [str(count) for count in row["bucket_counts"]]
            point["explicitBounds"] = [_double(bound) for bound in row["explicit_bounds"]]
        case "summary":
            point["quantileValues"] = [
                {"quantile": _double(quantile), "value": _double(value)}
                for quantile, value in zip(row["quantiles"], row["quantile_values"], strict=True)
            ]
        case _:
            point |= {"scale": row["scale"], "zeroCount": str(row["zero_count"])}
            point["zeroThreshold"] = _double(row["zero_threshold"])
            for side in ("positive", "negative"):
                counts = [str(count) for count in row[f"{side}_counts"]]
                point[side] = {"offset": row[f"{side}_offset"], "bucketCounts": counts}
    return point


def _exemplar(exemplar: Record) -> Record:
    return {
        "traceId": exemplar["trace_id"] or "",
        "spanId": exemplar["span_id"] or "",
        "timeUnixNano": str(exemplar["time_ns"]),
        "filteredAttributes": encode_attributes(orjson.loads(exemplar["filtered_attributes"])),
        **_number_value(exemplar),
    }


def _number_value(row: Record) -> Record:
    if row["value_int"] is not None:
        return {"asInt": str(row["value_int"])}
    return {} if row["value"] is None else {"asDouble": _double(row["value"])}


def _double(value: float) -> float | str:
    """Return a double as JSON of protobuf: numbers that JSON lacks are texts."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _number(numbers: Mapping[str, int], name: str) -> int:
    """Return the number of an enum. A number that the decoder does not know is stored as its digits."""
    return numbers[name] if name in numbers else int(name)
