"""Spans to rows of the table `spans`.

A span without valid trace and span IDs is rejected, since the protocol requires both; a parent ID of all zeros is no
parent. Links and events belong to their span: a link whose ID is not one stays without it, and the sender is told.
"""

from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from modeltrace_hub.decode import ids
from modeltrace_hub.decode.batch import MAX_NS, Batch, Problems, RejectedError, Row
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.resource import length, resource_columns, scope_columns
from modeltrace_hub.decode.values import EMPTY_LIST, attributes, attributes_text, text

_KINDS: Final = {value: name.removeprefix("SPAN_KIND_") for name, value in Span.SpanKind.items()}
_STATUSES: Final = {value: name.removeprefix("STATUS_CODE_") for name, value in Status.StatusCode.items()}


def decode(
    request: ExportTraceServiceRequest,
    received_ns: int,
    size: int,
    budget: Budget | None = None,
    problems: Problems | None = None,
) -> Batch:
    """Make rows of a request.

    Args:
        request: the request.
        received_ns: when it arrived.
        size: its length in bytes.
        budget: what it may expand to; None for no limits.
        problems: counts what is not stored as it was sent.

    Raises:
        TooLargeError: it expands to more than it may.
    """
    budget, problems = budget or Budget.unlimited(), problems or Problems()
    rows: list[Row] = []
    budget.messages(len(request.resource_spans))
    for resource_spans in request.resource_spans:
        resource = resource_columns(resource_spans.resource, resource_spans.schema_url, budget)
        budget.messages(len(resource_spans.scope_spans))
        for scope_spans in resource_spans.scope_spans:
            origin = resource + scope_columns(scope_spans.scope, scope_spans.schema_url, budget)
            origin_length = length(origin)
            budget.records(len(scope_spans.spans))
            for span in scope_spans.spans:
                try:
                    rows.append(_row(span, received_ns, origin, origin_length, budget, problems))
                except RejectedError as error:
                    problems.reject(error)
    return Batch("traces", {"spans": rows}, len(rows), size, budget.bytes_used, problems)


def _row(span: Span, received_ns: int, origin: Row, origin_length: int, budget: Budget, problems: Problems) -> Row:
    """One row.

    Raises:
        RejectedError: an ID or a time is not one.
        TooLargeError: the request expands to more than it may.
    """
    trace_id, span_id = ids.trace_id(span.trace_id), ids.span_id(span.span_id)
    if trace_id is None:
        raise RejectedError("trace_id")
    if span_id is None:
        raise RejectedError("span_id")
    if len(span.parent_span_id) not in {0, 8}:
        raise RejectedError("parent_span_id")
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if start > MAX_NS or end > MAX_NS:
        raise RejectedError("time")
    status = span.status
    attributes = attributes_text(span.attributes, budget)
    events = _events(span, budget) if span.events else EMPTY_LIST
    links = _links(span, budget, problems) if span.links else EMPTY_LIST
    budget.bytes(origin_length + len(span.name) + len(attributes) + len(events) + len(links))
    return (
        received_ns,
        trace_id,
        span_id,
        ids.span_id(span.parent_span_id),
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
        *origin,
    )


def _events(span: Span, budget: Budget) -> str:
    budget.messages(len(span.events))
    return text(
        [
            {
                "time_ns": event.time_unix_nano,
                "name": event.name,
                "attributes": attributes(event.attributes, budget),
                "dropped_attributes_count": event.dropped_attributes_count,
            }
            for event in span.events
        ]
    )


def _links(span: Span, budget: Budget, problems: Problems) -> str:
    budget.messages(len(span.links))
    problems.warn("links", count=sum(ids.detached(link.trace_id, link.span_id) for link in span.links))
    return text(
        [
            {
                "trace_id": ids.trace_id(link.trace_id) or "",
                "span_id": ids.span_id(link.span_id) or "",
                "trace_state": link.trace_state,
                "flags": link.flags,
                "attributes": attributes(link.attributes, budget),
                "dropped_attributes_count": link.dropped_attributes_count,
            }
            for link in span.links
        ]
    )
