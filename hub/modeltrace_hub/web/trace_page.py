"""Collect the content of the page of one trace. Long lists are cut; the API returns all items."""

import time
from collections import defaultdict
from typing import Any, Final

from modeltrace_hub.queries import trace_metrics
from modeltrace_hub.queries.filters import TracePageView
from modeltrace_hub.queries.model_schema import read_schema
from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.trace import empty_reasons, locate_trace
from modeltrace_hub.queries.values import int_attribute
from modeltrace_hub.retention import RetentionState
from modeltrace_hub.web.inputs import Input, describe_inputs
from modeltrace_hub.web.metric_points import group_by_metric
from modeltrace_hub.web.prediction import Prediction, read_prediction
from modeltrace_hub.web.waterfall import WaterfallRow, build_waterfall

SPANS_PER_PAGE: Final = 500
MAX_SPANS: Final = 20_000
MAX_SPANS_PER_ID: Final = 20
MAX_LOGS: Final = 500
# If a trace has more predictions, the list of log records omits the prediction log records.
MAX_PREDICTIONS_IN_LOGS: Final = 20
PREDICTIONS_PER_PAGE: Final = 50
MAX_EXEMPLARS: Final = 1000
MAX_LABELS: Final = 500

# If the newest record is younger than this, the trace may still grow, so its page updates itself.
RECENT_NS: Final = 180 * 10**9


def trace_page_context(
    reader: Reader, retention: RetentionState, trace_id: str, view: TracePageView
) -> dict[str, Any] | None:
    """Return the variables of the template; None if nothing is stored under the ID."""
    trace = locate_trace(reader, trace_id)
    counts = reader.fetch_one("count_trace_records", **trace)
    if not any(counts.values()):
        return None
    outline = reader.fetch_all("list_waterfall_spans", **trace, limit=MAX_SPANS)
    spans = reader.fetch_all("list_trace_spans", **trace, limit=trace_metrics.MAX_SPANS)
    with_predictions = counts["prediction_count"] <= MAX_PREDICTIONS_IN_LOGS

    def read_logs(span_id: str | None) -> list[Record]:
        return reader.fetch_all(
            "list_trace_logs",
            **trace,
            span_id=span_id,
            with_predictions=with_predictions,
            limit=MAX_LOGS,
        )

    logs = read_logs(None)
    log_times = defaultdict(list)
    for log in logs:
        log_times[log["span_id"]].append(log["time_ns"])
    waterfall = build_waterfall(outline, log_times)
    selected = view.span or _default_span(waterfall.rows)
    span_logs = [log for log in logs if log["span_id"] == selected]
    if view.logs == "span" and len(logs) == MAX_LOGS:
        span_logs = read_logs(selected)
    exemplars = reader.fetch_all("list_trace_exemplars", trace_id=trace_id, limit=MAX_EXEMPLARS)
    metrics = trace_metrics.find_contributions(reader, trace, spans, exemplars)
    records = reader.fetch_all("list_trace_predictions", **trace, limit=PREDICTIONS_PER_PAGE, offset=view.offset)
    predictions = [read_prediction(record) for record in records]
    selected_prediction = next((item for item in predictions if _is_selected(item, view)), None)
    selected_prediction = selected_prediction or next(iter(predictions), None)
    labels = reader.fetch_all("list_trace_labels", trace_id=trace_id, limit=MAX_LABELS)
    newest = max([span["received_ns"] for span in spans] + [log["received_ns"] for log in logs], default=0)
    first = view.page * SPANS_PER_PAGE
    server = next((span for span in spans if span["kind"] == "SERVER"), None)
    selected_spans = reader.fetch_all("get_span", **trace, span_id=selected, limit=MAX_SPANS_PER_ID) if selected else []
    return {
        "counts": counts,
        "waterfall": waterfall,
        "rows": waterfall.rows[first : first + SPANS_PER_PAGE],
        "first_row": first,
        "root_span": waterfall.rows[0].span if waterfall.rows else None,
        "http_status": int_attribute(server["attributes"], "http.response.status_code") if server else None,
        "services": sorted({span["service_name"] for span in outline} | {log["service_name"] for log in logs}),
        "errors": sum(span["status_code"] == "ERROR" for span in outline),
        "start_ns": waterfall.start_ns or (logs[0]["time_ns"] if logs else 0),
        "selected": selected,
        "selected_spans": selected_spans,
        "logs": span_logs if view.logs == "span" else logs,
        "total_logs_shown": len(logs),
        "with_predictions": with_predictions,
        "predictions": predictions,
        "selected_prediction": selected_prediction,
        "has_versions": len({prediction.version for prediction in predictions}) > 1,
        "inputs": _inputs(reader, selected_prediction) if selected_prediction else [],
        "labels": {label["prediction_id"]: label for label in reversed(labels) if label["trace_id"] == trace_id},
        "sent_labels": [label for label in labels if label["feedback_trace_id"] == trace_id],
        "predictions_per_page": PREDICTIONS_PER_PAGE,
        "spans_per_page": SPANS_PER_PAGE,
        "metrics": group_by_metric(metrics),
        "empty_reasons": empty_reasons(reader, retention, counts, spans, logs, metrics),
        "expects_prediction": any(_has_prediction(span) for span in spans),
        "is_recent": time.time_ns() - newest < RECENT_NS,
    }


def _has_prediction(span: Record) -> bool:
    """Whether the request of a SERVER span was answered with predictions."""
    attributes = span["attributes"]
    return span["kind"] == "SERVER" and ("ml.prediction.id" in attributes or "ml.inference.batch.size" in attributes)


def _is_selected(prediction: Prediction, view: TracePageView) -> bool:
    """Whether the page shows this prediction. A challenger predicts the same row with another version."""
    return prediction.row == view.row and view.version in {None, prediction.version}


def _inputs(reader: Reader, prediction: Prediction) -> list[Input]:
    """Return the inputs of a prediction, with their positions among the training data of its model."""
    if not prediction.inputs:
        return []
    schema = read_schema(reader, prediction.model, prediction.version) if prediction.model else {}
    return describe_inputs(prediction.inputs, schema)


def _default_span(rows: list[WaterfallRow]) -> str | None:
    """Return the span that is selected by default: the origin of an error, a SERVER span, or the first span."""
    failed = [row.span for row in rows if row.span["status_code"] == "ERROR"]
    parents_of_failed = {span["parent_span_id"] for span in failed}
    origins = [span for span in failed if span["span_id"] not in parents_of_failed]
    servers = [row.span for row in rows if row.span["kind"] == "SERVER"]
    span: Record | None = next(iter([*origins, *servers, *(row.span for row in rows)]), None)
    return None if span is None else str(span["span_id"])
