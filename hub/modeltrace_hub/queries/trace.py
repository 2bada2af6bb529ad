"""Read one trace: all records stored under its ID, and explanations for the parts that are empty."""

from collections.abc import Collection
from typing import Final

from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.spooled import describe_spooled_items
from modeltrace_hub.queries.trace_metrics import find_contributions
from modeltrace_hub.retention import RetentionState

SAMPLED_FLAG: Final = 1


def locate_trace(reader: Reader, trace_id: str) -> Record:
    """Return the parameters of queries about one trace: its ID, and when its spans and log records arrived.

    The time of a trace without spans and log records is empty.
    """
    rows = reader.fetch_all("locate_trace", trace_id=trace_id)
    return {"trace_id": trace_id, **(rows[0] if rows else {"first_received_ns": 1, "last_received_ns": 0})}


def read_trace(reader: Reader, retention: RetentionState, trace_id: str, limit: int) -> Record | None:
    """Return a trace for the API, with at most `limit` records of each kind; None if nothing is stored under the ID."""
    trace = locate_trace(reader, trace_id)
    counts = reader.fetch_one("count_trace_records", **trace)
    if not any(counts.values()):
        return None
    spans = reader.fetch_all("list_trace_spans", **trace, limit=limit)
    logs = reader.fetch_all("list_trace_logs", **trace, span_id=None, with_predictions=True, limit=limit)
    exemplars = reader.fetch_all("list_trace_exemplars", trace_id=trace_id, limit=limit)
    metrics = find_contributions(reader, trace, spans, exemplars)
    return {
        "trace_id": trace_id,
        **counts,
        "spans": spans,
        "logs": logs,
        "exemplars": exemplars,
        "predictions": reader.fetch_all("list_trace_predictions", **trace, sort="row", limit=limit, offset=0),
        "metrics": metrics,
        "empty_reasons": empty_reasons(reader, retention, counts, spans, logs, metrics),
    }


def empty_reasons(
    reader: Reader,
    retention: RetentionState,
    counts: Record,
    spans: list[Record],
    logs: list[Record],
    metrics: list[Record],
) -> dict[str, str | None]:
    """Explain why parts of a trace are empty. The value of a part that is not empty is None."""
    services = {record["service_name"] for record in (*spans, *logs)}
    needs_logs = not (counts["log_count"] and counts["prediction_count"])
    spooled_logs = describe_spooled_items(reader, ["logs"], services) if needs_logs else ""
    return {
        "spans": None if counts["span_count"] else _no_spans_reason(reader, retention, logs, services),
        "logs": None
        if counts["log_count"]
        else f"No log records have arrived. {spooled_logs or 'Senders export them about once a second.'}",
        "predictions": None
        if counts["prediction_count"]
        else f"No prediction log record has arrived. {spooled_logs}"
        if spooled_logs
        else "No prediction log record has arrived: the request was not a prediction, it was rejected, or the record "
        "has not been exported yet.",
        "metrics": None if metrics else _no_metrics_reason(reader, spans),
        "exemplars": None
        if counts["exemplar_count"]
        else "No metric point has this trace as its exemplar. A point has one exemplar per bucket and export interval, "
        "so most requests have none.",
    }


def _no_spans_reason(reader: Reader, retention: RetentionState, logs: list[Record], services: Collection[str]) -> str:
    if logs and not any(log["flags"] & SAMPLED_FLAG for log in logs):
        return "The trace was not sampled: its log records lack the sampled flag, so no spans will arrive."
    deleted_before = retention.deleted_before_ns
    if deleted_before is not None and any(log["received_ns"] <= deleted_before for log in logs):
        return "The spans were deleted because they were over the age or size limit."
    spooled = describe_spooled_items(reader, ["traces"], services)
    hint = spooled or "Senders export them within about 5 s; a sampler may have dropped this trace."
    return f"No spans have arrived. {hint}"


def _no_metrics_reason(reader: Reader, spans: list[Record]) -> str:
    if not spans:
        return "Metric points are matched by the attributes of spans, and this trace has no spans."
    instances = sorted({span["service_instance_id"] for span in spans})
    newest = reader.fetch_one("get_newest_point_time", instances=instances)["time_ns"]
    if newest is None:
        return "The services of this trace have sent no metrics."
    if newest < max(span["end_ns"] for span in spans):
        return "The metrics of this time have not been exported yet. The default export interval is 60 s."
    return (
        "No histogram or counter exported after this trace has attributes that match one of its spans or log records."
    )


def explain_missing_trace(reader: Reader, retention: RetentionState) -> str:
    """Explain why nothing is stored under a trace ID."""
    oldest = reader.fetch_one("count_rows")["oldest_ns"]
    if oldest is None:
        return "No telemetry has arrived yet."
    if spooled := describe_spooled_items(reader):
        return f"Nothing is stored under this ID. {spooled}"
    text = (
        "Nothing is stored under this ID. If the request is only seconds old, its spans have not been exported yet: "
        "senders export within about 5 s. Otherwise a sampler dropped the trace, or its service sends elsewhere."
    )
    if retention.deleted_before_ns is not None:
        text += " The trace may also have been deleted: older data was over the age or size limit."
    return text
