"""Decode log records into rows of the table `logs`.

A log record with an invalid trace or span ID is not rejected. By the specification, it is treated as if it was written
outside a trace. The response has a warning.
"""

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from modeltrace_hub.decode import ids
from modeltrace_hub.decode.batch import Problems, RecordRejectedError, Row, Tables
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.resource import Scope, iter_scopes
from modeltrace_hub.decode.values import attributes_text, dump_json, to_json
from modeltrace_hub.durations import MAX_NS


def decode(request: ExportLogsServiceRequest, received_ns: int, budget: Budget, problems: Problems) -> Tables:
    """Decode a request into rows; see `modeltrace_hub.decode.traces.decode`."""
    rows: list[Row] = []
    tables = {"logs": rows}
    for scope in iter_scopes(request.resource_logs, "scope_logs", "log_records", budget, tables, "logs", problems):
        budget.count_records(len(scope.records))
        for record in scope.records:
            try:
                rows.append(_row(record, received_ns, scope, budget))
            except RecordRejectedError as error:
                problems.reject(error)
            else:
                problems.warn("ids", count=ids.has_invalid_id(record.trace_id, record.span_id))
    return tables


def _row(record: LogRecord, received_ns: int, scope: Scope, budget: Budget) -> Row:
    """Return the row of a record.

    Raises:
        RecordRejectedError: a time is out of range.
        TooLargeError: the request exceeds its limits.
    """
    time, observed = record.time_unix_nano, record.observed_time_unix_nano
    if time > MAX_NS or observed > MAX_NS:
        raise RecordRejectedError("time")
    body, structured = _body(record.body, budget)
    attributes = attributes_text(record.attributes, budget)
    budget.count_bytes(scope.text_bytes + len(body or "") + len(attributes))
    return (
        received_ns,
        time or observed or received_ns,
        observed or None,
        ids.trace_id_hex(record.trace_id),
        ids.span_id_hex(record.span_id),
        record.flags,
        record.severity_number,
        record.severity_text,
        record.event_name,
        body,
        structured,
        attributes,
        record.dropped_attributes_count,
        *scope.columns,
    )


def _body(body: AnyValue, budget: Budget) -> tuple[str | None, bool]:
    """Return the body as text, and whether the text is JSON."""
    kind = body.WhichOneof("value")
    if kind == "string_value":
        return body.string_value, False
    return (None, False) if kind is None else (dump_json(to_json(body, budget)), True)
