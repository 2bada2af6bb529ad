"""Log records to rows of the table `logs`.

A trace or span ID that is not one does not cost the record: the protocol has receivers assume that such a record was
written outside of a trace. It is counted as detached and the sender is told.
"""

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from modeltrace_hub.decode import ids
from modeltrace_hub.decode.batch import MAX_NS, Batch, Problems, RejectedError, Row
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.resource import length, resource_columns, scope_columns
from modeltrace_hub.decode.values import attributes_text, text, to_json


def decode(
    request: ExportLogsServiceRequest,
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
    budget.messages(len(request.resource_logs))
    for resource_logs in request.resource_logs:
        resource = resource_columns(resource_logs.resource, resource_logs.schema_url, budget)
        budget.messages(len(resource_logs.scope_logs))
        for scope_logs in resource_logs.scope_logs:
            origin = resource + scope_columns(scope_logs.scope, scope_logs.schema_url, budget)
            origin_length = length(origin)
            budget.records(len(scope_logs.log_records))
            for record in scope_logs.log_records:
                try:
                    rows.append(_row(record, received_ns, origin, origin_length, budget))
                except RejectedError as error:
                    problems.reject(error)
                else:
                    problems.warn("ids", count=ids.detached(record.trace_id, record.span_id))
    return Batch("logs", {"logs": rows}, len(rows), size, budget.bytes_used, problems)


def _row(record: LogRecord, received_ns: int, origin: Row, origin_length: int, budget: Budget) -> Row:
    """One row.

    Raises:
        RejectedError: a time is not one.
        TooLargeError: the request expands to more than it may.
    """
    time, observed = record.time_unix_nano, record.observed_time_unix_nano
    if time > MAX_NS or observed > MAX_NS:
        raise RejectedError("time")
    body, structured = _body(record.body, budget)
    attributes = attributes_text(record.attributes, budget)
    budget.bytes(origin_length + len(body or "") + len(attributes))
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
        attributes,
        record.dropped_attributes_count,
        *origin,
    )


def _body(body: AnyValue, budget: Budget) -> tuple[str | None, bool]:
    """The body as text, and whether the text is JSON."""
    which = body.WhichOneof("value")
    if which == "string_value":
        return body.string_value, False
    return (None, False) if which is None else (text(to_json(body, budget)), True)
