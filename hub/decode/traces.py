"""Spans to rows of the table `spans`.

A span without valid trace and span IDs is rejected, since the protocol requires both; a parent ID of all zeros is no
parent. Links and events stay as they were sent, whatever their IDs: they belong to their span.
"""

from collections import Counter
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from hub.decode import ids
from hub.decode.batch import MAX_NS, Batch, RejectedError, Row
from hub.decode.origin import resource_columns, scope_columns
from hub.decode.values import EMPTY_LIST, attributes, attributes_text, text

_KINDS: Final = {value: name.removeprefix("SPAN_KIND_") for name, value in Span.SpanKind.items()}
_STATUSES: Final = {value: name.removeprefix("STATUS_CODE_") for name, value in Status.StatusCode.items()}


def count(request: ExportTraceServiceRequest) -> int:
    """How many spans there are."""
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def decode(request: ExportTraceServiceRequest, received_ns: int, size: int) -> Batch:
    """Make rows of a request."""
    rows: list[Row] = []
    rejected: Counter[str] = Counter()
    for resource_spans in request.resource_spans:
        resource = resource_columns(resource_spans.resource, resource_spans.schema_url)
        for scope_spans in resource_spans.scope_spans:
            origin = resource + scope_columns(scope_spans.scope, scope_spans.schema_url)
            for span in scope_spans.spans:
                try:
                    rows.append(_row(span, received_ns, origin))
                except RejectedError as error:
                    rejected[error.reason] += 1
    return Batch("traces", {"spans": rows}, accepted=len(rows), size=size, rejected=rejected)


def _row(span: Span, received_ns: int, origin: Row) -> Row:
    """One row.

    Raises:
        RejectedError: an ID or a time is not one.
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
        attributes_text(span.attributes),
        span.dropped_attributes_count,
        _events(span) if span.events else EMPTY_LIST,
        span.dropped_events_count,
        _links(span) if span.links else EMPTY_LIST,
        span.dropped_links_count,
        *origin,
    )


def _events(span: Span) -> str:
    return text(
        [
            {
                "time_ns": event.time_unix_nano,
                "name": event.name,
                "attributes": attributes(event.attributes),
                "dropped_attributes_count": event.dropped_attributes_count,
            }
            for event in span.events
        ]
    )


def _links(span: Span) -> str:
    return text(
        [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "trace_state": link.trace_state,
                "flags": link.flags,
                "attributes": attributes(link.attributes),
                "dropped_attributes_count": link.dropped_attributes_count,
            }
            for link in span.links
        ]
    )
