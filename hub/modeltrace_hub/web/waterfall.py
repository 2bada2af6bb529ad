"""Arrange the spans of a trace as a waterfall: a tree in order of time, on one time axis."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.span_times import critical_path, self_times
from modeltrace_hub.queries.span_tree import build_tree
from modeltrace_hub.sql_files import MAX_CLOCK_SKEW_NS

MAX_SPANS: Final = 100_000
MAX_LOGS: Final = 500
MAX_TICKS: Final = 5
MINUTE_NS: Final = 60 * 10**9
MAX_LOG_MARKS: Final = 20
MAX_LOG_TEXT: Final = 120


@dataclass(frozen=True, slots=True)
class LogMark:
    """A log record on the row of its span."""

    left: float  # in percent of the axis
    severity_number: int
    text: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class WaterfallRow:
    """One span. Positions and lengths are in percent of the axis."""

    span: Record
    depth: int  # number of its ancestors
    left: float  # start of the bar
    width: float  # length of the bar
    children: int  # number of its direct children
    parent_missing: bool  # whether its parent is not stored, for example because the caller sends to another backend
    enters_service: bool  # whether its parent belongs to another service, or is not stored
    duplicate_index: int  # number of earlier spans with the same ID
    log_marks: Sequence[LogMark]
    self_ns: int | None  # the time in which none of its children ran
    critical: Sequence[tuple[float, float]]  # position and length of its parts on the critical path

    @property
    def failed(self) -> bool:
        """Whether the span has the status ERROR."""
        return bool(self.span["status_code"] == "ERROR")


@dataclass(frozen=True, slots=True)
class Waterfall:
    """All rows, the axis, and the duration of the trace if its spans have valid times."""

    rows: list[WaterfallRow]
    start_ns: int
    duration_ns: int
    trace_duration_ns: int | None = None

    @property
    def ticks(self) -> list[tuple[float, int]]:
        """Positions of the ticks in percent, and their times after the start in nanoseconds, in round steps."""
        if self.duration_ns <= 0:
            return [(0.0, 0)]
        step = _round_step(self.duration_ns / MAX_TICKS)
        return [(round(100 * ns / self.duration_ns, 3), ns) for ns in range(0, self.duration_ns + 1, step)]


def _round_step(min_ns: float) -> int:
    """Return the smallest round duration of at least `min_ns`: 1, 2 or 5 times a power of ten of ns, or of minutes."""
    unit = MINUTE_NS if min_ns > MINUTE_NS / 2 else 1
    power: int = 10 ** max(math.floor(math.log10(max(min_ns / unit, 1))), 0)
    return unit * next(factor * power for factor in (1, 2, 5, 10) if factor * power * unit >= min_ns)


def read_waterfall(reader: Reader, trace: Record, *, with_predictions: bool) -> tuple[Waterfall, list[Record]]:
    """Return the waterfall of a trace, and its first log records.

    Args:
        reader: runs the queries.
        trace: the result of `locate_trace`.
        with_predictions: whether the log records include the prediction log records.
    """
    spans = reader.fetch_all("list_waterfall_spans", **trace, limit=MAX_SPANS)
    logs = reader.fetch_all("list_trace_logs", **trace, span_id=None, with_predictions=with_predictions, limit=MAX_LOGS)
    by_span: dict[str, list[Record]] = defaultdict(list)
    for log in logs:
        by_span[log["span_id"]].append(log)
    return build_waterfall(spans, by_span), logs


def build_waterfall(spans: Sequence[Record], logs: Mapping[str, Sequence[Record]]) -> Waterfall:
    """Arrange spans.

    Args:
        spans: the spans, ordered by start.
        logs: log records by span ID.
    """
    if not spans:
        return Waterfall([], 0, 0)
    timed = [span for span in spans if span["duration_ns"] is not None]
    started = [span for span in spans if span["start_ns"] > 0]
    # Ignore spans that start long after their arrival (a wrong clock), so that they do not stretch the axis.
    plausible = [span for span in started if span["start_ns"] <= span["received_ns"] + MAX_CLOCK_SKEW_NS] or started
    start: int = min((span["start_ns"] for span in plausible), default=0)
    end: int = max((max(span["end_ns"], span["start_ns"]) for span in plausible), default=0)
    length = max(end - start, 1)

    def percent(ns: int) -> float:
        return round(min(max(100.0 * (ns - start) / length, 0.0), 100.0), 3)

    tree = build_tree(spans)
    own_times, path = self_times(tree), critical_path(tree)
    rows: list[WaterfallRow] = []
    same_id: dict[str, int] = defaultdict(int)
    for index, (span, parent) in enumerate(zip(tree.spans, tree.parents, strict=True)):
        left = percent(span["start_ns"])
        rows.append(
            WaterfallRow(
                span,
                tree.depths[index],
                left,
                round(percent(span["end_ns"]) - left, 3) if span["duration_ns"] is not None else 0.0,
                len(tree.children[index]),
                parent_missing=tree.parent_missing[index],
                enters_service=parent is None or span["service_name"] != tree.spans[parent]["service_name"],
                duplicate_index=same_id[span["span_id"]],
                log_marks=[
                    _mark(log, percent(log["time_ns"])) for log in logs.get(span["span_id"], ())[:MAX_LOG_MARKS]
                ],
                self_ns=own_times[index],
                critical=[(percent(since), round(percent(until) - percent(since), 3)) for since, until in path[index]],
            )
        )
        same_id[span["span_id"]] += 1
    duration = max(span["end_ns"] for span in timed) - min(span["start_ns"] for span in timed) if timed else None
    return Waterfall(rows, start, end - start, duration)


def _mark(log: Record, left: float) -> LogMark:
    text = f"{log['severity_text']} {log['body'] or log['event_name']}".strip()
    return LogMark(left, log["severity_number"], text[:MAX_LOG_TEXT], log["time_ns"])
