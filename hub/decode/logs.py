"""Log records to rows of the table `logs`.

A trace or span ID that is not one does not cost the record: the protocol has receivers assume that such a record was
written outside of a trace. It is counted as detached and the sender is told.
"""

from collections import Counter

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from hub.decode import ids
from hub.decode.batch import MAX_NS, Batch, RejectedError, Row
from hub.decode.origin import resource_columns, scope_columns
from hub.decode.values import attributes_text, text, to_json


def count(request: ExportLogsServiceRequest) -> int:
    """How many log records there are."""
    return sum(len(scope.log_records) for resource in request.resource_logs for scope in resource.scope_logs)


def decode(request: ExportLogsServiceRequest, received_ns: int, size: int) -> Batch:
    """Make rows of a request."""
    rows: list[Row] = []
    rejected: Counter[str] = Counter()
    detached = 0
    for resource_logs in request.resource_logs:
        resource = resource_columns(resource_logs.resource, resource_logs.schema_url)
        for scope_logs in resource_logs.scope_logs:
            origin = resource + scope_columns(scope_logs.scope, scope_logs.schema_url)
            for record in scope_logs.log_records:
                try:
                    rows.append(_row(record, received_ns, origin))
                except RejectedError as error:
                    rejected[error.reason] += 1
                else:
                    detached += ids.detached(record.trace_id, record.span_id)
    return Batch("logs", {"logs": rows}, accepted=len(rows), size=size, rejected=rejected, detached=detached)


def _row(record: LogRecord, received_ns: int, origin: Row) -> Row:
    """One row.

    Raises:
        RejectedError: a time is not one.
    """
    time, observed = record.time_unix_nano, record.observed_time_unix_nano
    if time > MAX_NS or observed > MAX_NS:
        raise RejectedError("time")
    body, structured = _body(record.body)
    return (
        received_ns,
        time or observed or received_ns,
        observed or None,
        ids.trace_id(record.trace_id),
        ids.span_id(record.span_id),
        record.flags,
        record.severity_number,
        record.severity_text,
        record.event_name,
        body,
        structured,
        attributes_text(record.attributes),
        record.dropped_attributes_count,
        *origin,
    )


def _body(body: AnyValue) -> tuple[str | None, bool]:
    """The body as text, and whether the text is JSON."""
    which = body.WhichOneof("value")
    if which == "string_value":
        return body.string_value, False
    return (None, False) if which is None else (text(to_json(body)), True)
