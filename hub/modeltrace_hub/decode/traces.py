"""Decode spans into rows of the table `spans`.

A span without valid trace and span IDs is rejected, because the protocol requires both. A parent ID of zeros means no
parent. A link with an invalid ID is stored without the ID, and the response has a warning.
"""

from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from modeltrace_hub.decode import ids
from modeltrace_hub.decode.batch import Problems, RecordRejectedError, Row, Tables
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.resource import Scope, iter_scopes
from modeltrace_hub.decode.values import EMPTY_LIST, attributes_text, attributes_to_json, dump_json
from modeltrace_hub.durations import MAX_NS

_KINDS: Final = {value: name.removeprefix("SPAN_KIND_") for name, value in Span.SpanKind.items()}
_STATUSES: Final = {value: name.removeprefix("STATUS_CODE_") for name, value in Status.StatusCode.items()}


def decode(request: ExportTraceServiceRequest, received_ns: int, budget: Budget, problems: Problems) -> Tables:
    """Decode a request into rows.

    Args:
        request: the request.
        received_ns: time of arrival, in unix nanoseconds.
        budget: limits of the request.
        problems: collects rejected and changed records.

    Raises:
        TooLargeError: the request exceeds its limits.
    """
    rows: list[Row] = []
    tables = {"spans": rows}
    for scope in iter_scopes(request.resource_spans, "scope_spans", "spans", budget, tables, "spans", problems):
        budget.count_records(len(scope.records))
        for span in scope.records:
            try:
                rows.append(_row(span, received_ns, scope, budget, problems))
            except RecordRejectedError as error:
                problems.reject(error)
    return tables


def _row(span: Span, received_ns: int, scope: Scope, budget: Budget, problems: Problems) -> Row:
    """Return the row of a span.

    Raises:
        RecordRejectedError: an ID or a time is invalid.
        TooLargeError: the request exceeds its limits.
    """
    trace_id, span_id = ids.trace_id_hex(span.trace_id), ids.span_id_hex(span.span_id)
    if trace_id is None:
        raise RecordRejectedError("trace_id")
    if span_id is None:
        raise RecordRejectedError("span_id")
    if len(span.parent_span_id) not in {0, 8}:
        raise RecordRejectedError("parent_span_id")
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if start > MAX_NS or end > MAX_NS:
        raise RecordRejectedError("time")
    status = span.status
    attributes = attributes_text(span.attributes, budget)
    events = _events(span, budget) if span.events else EMPTY_LIST
    links = _links(span, budget, problems) if span.links else EMPTY_LIST
    budget.count_bytes(scope.text_bytes + len(span.name) + len(attributes) + len(events) + len(links))
    return (
        received_ns,
        trace_id,
        span_id,
        ids.span_id_hex(span.parent_span_id),
        span.trace_state,
        span.flags,
        span.name,
        _KINDS.get(span.kind) or str(span.kind),
        start,
        end,
        end - start,
        _STATUSES.get(status.code) or str(status.code),
        status.message,
        attributes,
        span.dropped_attributes_count,
        events,
        span.dropped_events_count,
        links,
        span.dropped_links_count,
        *scope.columns,
    )


def _events(span: Span, budget: Budget) -> str:
    budget.count_messages(len(span.events))
    return dump_json(
        [
            {
                "time_ns": event.time_unix_nano,
                "name": event.name,
                "attributes": attributes_to_json(event.attributes, budget),
                "dropped_attributes_count": event.dropped_attributes_count,
            }
            for event in span.events
        ]
    )


def _links(span: Span, budget: Budget, problems: Problems) -> str:
    budget.count_messages(len(span.links))
    problems.warn("links", count=sum(ids.has_invalid_id(link.trace_id, link.span_id) for link in span.links))
    return dump_json(
        [
            {
                "trace_id": ids.trace_id_hex(link.trace_id) or "",
                "span_id": ids.span_id_hex(link.span_id) or "",
                "trace_state": link.trace_state,
                "flags": link.flags,
                "attributes": attributes_to_json(link.attributes, budget),
                "dropped_attributes_count": link.dropped_attributes_count,
            }
            for link in span.links
        ]
    )
