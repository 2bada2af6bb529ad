"""Collect the content of the page of one trace. Long lists are cut; the API returns all items."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Final

from modeltrace_hub.queries import trace_metrics
from modeltrace_hub.queries.attribute_values import int_attribute
from modeltrace_hub.queries.model_schema import read_schema
from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.span_search import search_spans
from modeltrace_hub.queries.trace import empty_reasons, locate_trace
from modeltrace_hub.queries.trace_parameters import TracePageView
from modeltrace_hub.retention import RetentionState
from modeltrace_hub.web.metric_points import group_by_metric
from modeltrace_hub.web.prediction import Prediction, read_prediction
from modeltrace_hub.web.prediction_inputs import Input, describe_inputs
from modeltrace_hub.web.span_details import find_linking_spans, group_links, span_details
from modeltrace_hub.web.waterfall import MAX_LOGS, WaterfallRow
from modeltrace_hub.web.waterfall_cache import WaterfallCache

SPANS_PER_PAGE: Final = 500
# The page of a larger trace updates itself less often.
MANY_SPANS: Final = 2000
# If a trace has more predictions, the list of log records omits the prediction log records.
MAX_PREDICTIONS_IN_LOGS: Final = 20
PREDICTIONS_PER_PAGE: Final = 50
MAX_EXEMPLARS: Final = 1000
MAX_LABELS: Final = 500
MAX_SERVICES: Final = 200

# If the newest record is younger than this, the trace may still grow, so its page updates itself.
RECENT_NS: Final = 180 * 10**9


def trace_page_context(
    reader: Reader, waterfalls: WaterfallCache, retention: RetentionState, trace_id: str, view: TracePageView
) -> dict[str, Any] | None:
    """Return the variables of the template; None if nothing is stored under the ID."""
    trace = locate_trace(reader, trace_id)
    counts = reader.fetch_one("count_trace_records", **trace)
    if not any(counts.values()):
        return None
    spans = reader.fetch_all("list_trace_spans", **trace, limit=trace_metrics.MAX_SPANS)
    with_predictions = lists_predictions(counts)
    waterfall, logs = waterfalls.read(reader, trace, counts, with_predictions=with_predictions)
    rows = waterfall.rows
    matches = set(search_spans(reader, trace, view.q))
    matching = [index for index, row in enumerate(rows) if row.span["span_id"] in matches]
    failed = [index for index, row in enumerate(rows) if row.failed]
    selected = view.span or (rows[matching[0]].span["span_id"] if matching else _default_span(rows))
    position = next((index for index, row in enumerate(rows) if row.span["span_id"] == selected), 0)
    page = position // SPANS_PER_PAGE if view.page is None else view.page
    span_logs = [log for log in logs if log["span_id"] == selected]
    if view.logs == "span" and len(logs) == MAX_LOGS:
        span_logs = reader.fetch_all(
            "list_trace_logs", **trace, span_id=selected, with_predictions=with_predictions, limit=MAX_LOGS
        )
    exemplars = reader.fetch_all("list_trace_exemplars", trace_id=trace_id, limit=MAX_EXEMPLARS)
    metrics = trace_metrics.find_contributions(reader, trace, spans, exemplars)
    labels = reader.fetch_all("list_trace_labels", trace_id=trace_id, limit=MAX_LABELS)
    newest = max([span["received_ns"] for span in spans] + [log["received_ns"] for log in logs], default=0)
    server = next((span for span in spans if span["kind"] == "SERVER"), None)
    linking = [] if not rows else find_linking_spans(reader, trace)
    return {
        "counts": counts,
        "waterfall": waterfall,
        "rows": rows[page * SPANS_PER_PAGE : (page + 1) * SPANS_PER_PAGE],
        "page": page,
        "first_row": page * SPANS_PER_PAGE,
        "root_span": rows[0].span if rows else None,
        "http_status": int_attribute(server["attributes"], "http.response.status_code") if server else None,
        "services": list_services(reader, trace),
        "errors": len(failed),
        "error_steps": find_neighbours(rows, failed, position),
        "matches": matches,
        "match_steps": find_neighbours(rows, matching, position),
        "start_ns": waterfall.start_ns or (logs[0]["time_ns"] if logs else 0),
        "selected": selected,
        "linking_traces": group_links(linking, "trace_id"),
        **span_details(reader, trace, selected, linking),
        "logs": span_logs if view.logs == "span" else logs,
        "total_logs_shown": len(logs),
        "with_predictions": with_predictions,
        **_prediction_context(reader, trace, view),
        "labels": {label["prediction_id"]: label for label in reversed(labels) if label["trace_id"] == trace_id},
        "sent_labels": [label for label in labels if label["feedback_trace_id"] == trace_id],
        "predictions_per_page": PREDICTIONS_PER_PAGE,
        "spans_per_page": SPANS_PER_PAGE,
        "metrics": group_by_metric(metrics),
        "empty_reasons": empty_reasons(reader, retention, counts, spans, logs, metrics),
        "expects_prediction": any(_has_prediction(span) for span in spans),
        "live_interval_ms": _live_interval(newest, len(rows)),
    }


def span_context(reader: Reader, trace_id: str, view: TracePageView) -> dict[str, Any]:
    """Return the variables of the template `_span.html`, the part of the page about the selected span."""
    trace = locate_trace(reader, trace_id)
    return {
        "selected": view.span,
        "services": list_services(reader, trace),
        **span_details(reader, trace, view.span, find_linking_spans(reader, trace)),
    }


def list_services(reader: Reader, trace: Record) -> list[str]:
    """Return the names of the services of a trace."""
    return [row["service_name"] for row in reader.fetch_all("list_trace_services", **trace, limit=MAX_SERVICES)]


def lists_predictions(counts: Record) -> bool:
    """Whether the list of log records of a trace includes the prediction log records."""
    return bool(counts["prediction_count"] <= MAX_PREDICTIONS_IN_LOGS)


def find_neighbours(rows: Sequence[WaterfallRow], indexes: Sequence[int], position: int) -> dict[str, Any]:
    """Return the IDs of the spans of `indexes` before and after a row. The last one is followed by the first.

    Args:
        rows: all rows of the waterfall.
        indexes: the rows to step through, in ascending order.
        position: the row to start from.
    """
    if not indexes:
        return {"count": 0, "number": None, "previous": None, "next": None}
    before, after = bisect_left(indexes, position), bisect_right(indexes, position)
    return {
        "count": len(indexes),
        "number": after if after > before else None,
        "previous": rows[indexes[before - 1]].span["span_id"],
        "next": rows[indexes[after % len(indexes)]].span["span_id"],
    }


def _prediction_context(reader: Reader, trace: Record, view: TracePageView) -> dict[str, Any]:
    """Return the variables of the section about predictions."""
    records = reader.fetch_all(
        "list_trace_predictions", **trace, sort=view.sort, limit=PREDICTIONS_PER_PAGE, offset=view.offset
    )
    predictions = [read_prediction(record) for record in records]
    selected = next((item for item in predictions if _is_selected(item, view)), next(iter(predictions), None))
    return {
        "predictions": predictions,
        "selected_prediction": selected,
        "has_confidence": any(prediction.confidence is not None for prediction in predictions),
        "has_versions": len({prediction.version for prediction in predictions}) > 1,
        "inputs": _inputs(reader, selected) if selected else [],
    }


def _live_interval(newest_ns: int, row_count: int) -> int | None:
    """Return the interval in milliseconds in which the page updates itself; None if the trace no longer grows."""
    if time.time_ns() - newest_ns >= RECENT_NS:
        return None
    return 1000 if row_count <= MANY_SPANS else 5000


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
