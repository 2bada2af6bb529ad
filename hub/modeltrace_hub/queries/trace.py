"""One trace: all that is kept under its ID, and in words why some of it is not there."""

from dataclasses import dataclass
from typing import Final

from modeltrace_hub.queries.contributions import contributions
from modeltrace_hub.queries.queries import Reader, Record
from modeltrace_hub.retention import Kept

SAMPLED: Final = 1


@dataclass(frozen=True, slots=True)
class Counted:
    """How much there is of one trace."""

    span_count: int
    log_count: int
    prediction_count: int
    exemplar_count: int

    @property
    def nothing(self) -> bool:
        """Whether nothing is kept under the ID."""
        return not (self.span_count or self.log_count or self.exemplar_count)


def count(reader: Reader, trace_id: str) -> Counted:
    """Count what there is."""
    return Counted(**reader.one("trace_counts", trace_id=trace_id))


def read_trace(reader: Reader, kept: Kept, trace_id: str, limit: int) -> Record | None:
    """The trace as the API answers it, at most `limit` of each kind; None when nothing is kept under the ID."""
    counted = count(reader, trace_id)
    if counted.nothing:
        return None
    spans = reader.records("trace_spans", trace_id=trace_id, limit=limit)
    logs = reader.records("trace_logs", trace_id=trace_id, span_id=None, with_predictions=True, limit=limit)
    exemplars = reader.records("trace_exemplars", trace_id=trace_id, limit=limit)
    metrics = contributions(reader, trace_id, spans, exemplars)
    return {
        "trace_id": trace_id,
        "span_count": counted.span_count,
        "log_count": counted.log_count,
        "exemplar_count": counted.exemplar_count,
        "prediction_count": counted.prediction_count,
        "spans": spans,
        "logs": logs,
        "exemplars": exemplars,
        "predictions": reader.records("trace_predictions", trace_id=trace_id, limit=limit, offset=0),
        "metrics": metrics,
        "status": status(reader, kept, counted, spans, logs, metrics),
    }


def status(
    reader: Reader, kept: Kept, counted: Counted, spans: list[Record], logs: list[Record], metrics: list[Record]
) -> dict[str, str | None]:
    """Why a part is empty, for a person; None for what is there."""
    return {
        "spans": None if counted.span_count else _no_spans(kept, logs),
        "logs": None
        if counted.log_count
        else "No log records have arrived. Senders hand them over about once a second.",
        "predictions": None
        if counted.prediction_count
        else "No prediction record has arrived: this was no prediction, it was refused, or its record is on its way.",
        "metrics": None if metrics else _no_metrics(reader, spans),
        "exemplars": None
        if counted.exemplar_count
        else "No metric point names this trace as its exemplar. One is kept a bucket and export interval; the others "
        "counted, but another request holds the place.",
    }


def _no_spans(kept: Kept, logs: list[Record]) -> str:
    if logs and not any(log["flags"] & SAMPLED for log in logs):
        return "The trace was not sampled: its log records say so, and no spans will come."
    if kept.pruned_before_ns is not None and any(log["received_ns"] <= kept.pruned_before_ns for log in logs):
        return "The spans were deleted with everything else over the limits of age and size."
    return "No spans have arrived. Senders hand them over within about 5 s; a sampler may have left this trace out."


def _no_metrics(reader: Reader, spans: list[Record]) -> str:
    if not spans:
        return "Metric points are found by what the spans say, and there are none."
    newest = reader.one("newest_point", instances=sorted({span["service_instance_id"] for span in spans}))["time_ns"]
    if newest is None:
        return "The services of this trace have sent no metrics."
    if newest < max(span["end_ns"] for span in spans):
        return "The metrics of this moment have not been exported yet. Senders do so at intervals, of 60 s unless set."
    return (
        "No histogram or counter exported after this trace has attributes that match one of its spans or log records."
    )


def absence(reader: Reader, kept: Kept) -> str:
    """Why there may be nothing at all under an ID."""
    oldest = reader.one("kept")["oldest_ns"]
    if oldest is None:
        return "Nothing at all has arrived here yet."
    words = (
        "Nothing is kept under this ID. If the request is only seconds old, it is on its way: senders hand spans over "
        "within about 5 s. If not, a sampler left it out, or its sender sends elsewhere."
    )
    if kept.pruned_before_ns is not None:
        words += " Or it was deleted: older data has been, to stay within the limits of age and size."
    return words
