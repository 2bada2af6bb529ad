"""What the page of one trace shows: a bounded part of it, the rest a link away."""

import time
from collections import defaultdict
from typing import Any, Final

from modeltrace_hub.queries.contributions import MOST_SPANS as MOST_MATCHED
from modeltrace_hub.queries.contributions import contributions
from modeltrace_hub.queries.filters import PageView
from modeltrace_hub.queries.model_schema import read_schema
from modeltrace_hub.queries.queries import Reader, Record
from modeltrace_hub.queries.trace import count, status
from modeltrace_hub.queries.values import whole_of
from modeltrace_hub.retention import Kept
from modeltrace_hub.web.inputs import Input, mark_inputs
from modeltrace_hub.web.metric_points import by_metric
from modeltrace_hub.web.prediction import Prediction, prediction_of
from modeltrace_hub.web.waterfall import Row, build

SPANS_A_PAGE: Final = 500
MOST_SPANS: Final = 20_000
MOST_OF_ONE_ID: Final = 20
MOST_LOGS: Final = 500
# More audit records than this are shown with the predictions only.
MOST_PREDICTIONS_IN_LOGS: Final = 20
PREDICTIONS_A_PAGE: Final = 50
MOST_EXEMPLARS: Final = 1000
MOST_LABELS: Final = 500

# A younger trace may still grow.
YOUNG_NS: Final = 180 * 10**9


def read_page(reader: Reader, kept: Kept, trace_id: str, view: PageView) -> dict[str, Any] | None:
    """All that the template takes; None when nothing is kept under the ID."""
    counted = count(reader, trace_id)
    if counted.nothing:
        return None
    outline = reader.records("trace_outline", trace_id=trace_id, limit=MOST_SPANS)
    spans = reader.records("trace_spans", trace_id=trace_id, limit=MOST_MATCHED)
    with_predictions = counted.prediction_count <= MOST_PREDICTIONS_IN_LOGS
    logs = reader.records(
        "trace_logs", trace_id=trace_id, span_id=None, with_predictions=with_predictions, limit=MOST_LOGS
    )
    times = defaultdict(list)
    for log in logs:
        times[log["span_id"]].append(log["time_ns"])
    drawn = build(outline, times)
    selected = view.span or _head(drawn.rows)
    logs_of_span = [log for log in logs if log["span_id"] == selected]
    if view.logs == "span" and len(logs) == MOST_LOGS:
        logs_of_span = reader.records(
            "trace_logs", trace_id=trace_id, span_id=selected, with_predictions=with_predictions, limit=MOST_LOGS
        )
    exemplars = reader.records("trace_exemplars", trace_id=trace_id, limit=MOST_EXEMPLARS)
    metrics = contributions(reader, trace_id, spans, exemplars)
    found = reader.records("trace_predictions", trace_id=trace_id, limit=PREDICTIONS_A_PAGE, offset=view.offset)
    predictions = [prediction_of(record) for record in found]
    chosen = next((one for one in predictions if _is_chosen(one, view)), None)
    chosen = chosen or next(iter(predictions), None)
    labels = reader.records("trace_labels", trace_id=trace_id, limit=MOST_LABELS)
    newest = max([span["received_ns"] for span in spans] + [log["received_ns"] for log in logs], default=0)
    first = view.page * SPANS_A_PAGE
    return {
        "counted": counted,
        "waterfall": drawn,
        "rows": drawn.rows[first : first + SPANS_A_PAGE],
        "first_row": first,
        "head": drawn.rows[0].span if drawn.rows else None,
        "http_status": next((_http_status(span) for span in spans if span["kind"] == "SERVER"), None),
        "services": sorted({span["service_name"] for span in outline} | {log["service_name"] for log in logs}),
        "errors": sum(span["status_code"] == "ERROR" for span in outline),
        "start_ns": drawn.start_ns or (logs[0]["time_ns"] if logs else 0),
        "selected": selected,
        "opened": reader.records("span", trace_id=trace_id, span_id=selected, limit=MOST_OF_ONE_ID) if selected else [],
        "logs": logs_of_span if view.logs == "span" else logs,
        "logs_shown": len(logs),
        "with_predictions": with_predictions,
        "predictions": predictions,
        "chosen": chosen,
        "several_versions": len({one.version for one in predictions}) > 1,
        "inputs": _inputs(reader, chosen) if chosen else [],
        "labels": {one["prediction_id"]: one for one in reversed(labels) if one["trace_id"] == trace_id},
        "brought": [one for one in labels if one["feedback_trace_id"] == trace_id],
        "predictions_a_page": PREDICTIONS_A_PAGE,
        "spans_a_page": SPANS_A_PAGE,
        "metrics": by_metric(metrics),
        "status": status(reader, kept, counted, spans, logs, metrics),
        "young": time.time_ns() - newest < YOUNG_NS,
    }


def _http_status(span: Record) -> int | None:
    return whole_of(span["attributes"], "http.response.status_code")


def _is_chosen(prediction: Prediction, view: PageView) -> bool:
    """Whether a prediction is the one that is looked at: a row may have been answered by a challenger, too."""
    return prediction.row == view.row and view.version in {None, prediction.version}


def _inputs(reader: Reader, prediction: Prediction) -> list[Input]:
    """The inputs of a prediction beside the training data of its model."""
    if not prediction.inputs:
        return []
    schema = read_schema(reader, prediction.model, prediction.version) if prediction.model else {}
    return mark_inputs(prediction.inputs, schema)


def _head(rows: list[Row]) -> str | None:
    """The span that is open at first: where an error began, else the request as the service saw it, else the first."""
    failed = [row.span for row in rows if row.span["status_code"] == "ERROR"]
    parents = {span["parent_span_id"] for span in failed}
    began = [span for span in failed if span["span_id"] not in parents]
    served = [row.span for row in rows if row.span["kind"] == "SERVER"]
    span: Record | None = next(iter([*began, *served, *(row.span for row in rows)]), None)
    return None if span is None else str(span["span_id"])
