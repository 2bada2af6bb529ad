"""Arrange the spans of a trace as a waterfall: a tree in order of time, on one time axis."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from modeltrace_hub.queries.reader import Record
from modeltrace_hub.sql_files import MAX_CLOCK_SKEW_NS

MAX_TICKS: Final = 5
MINUTE_NS: Final = 60 * 10**9
MAX_LOG_MARKS: Final = 20


@dataclass(frozen=True, slots=True)
class WaterfallRow:
    """One span."""

    span: Record
    depth: int  # number of its ancestors
    left: float  # start of the bar, in percent of the axis
    width: float  # length of the bar, in percent of the axis
    children: int  # number of its direct children
    parent_missing: bool  # whether its parent is not stored, for example because the caller sends to another backend
    enters_service: bool  # whether its parent belongs to another service, or is not stored
    duplicate_index: int  # number of earlier spans with the same ID
    log_marks: list[float] = field(default_factory=list)  # positions of its log records, in percent of the axis


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


def build_waterfall(spans: Sequence[Record], log_times: Mapping[str, Sequence[int]]) -> Waterfall:
    """Arrange spans.

    Args:
        spans: the spans, ordered by start.
        log_times: times of log records, by span ID.
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

    by_id: dict[str | None, list[Record]] = defaultdict(list)
    for span in spans:
        by_id[span["span_id"]].append(span)
    parents = {id(span): _find_parent(span, by_id.get(span["parent_span_id"], ())) for span in spans}
    children: dict[int | None, list[Record]] = defaultdict(list)
    for span in spans:
        parent = parents[id(span)]
        children[None if parent is None else id(parent)].append(span)
    rows: list[WaterfallRow] = []
    visited: set[int] = set()
    same_id: dict[str, int] = defaultdict(int)
    # No root has spans of a parent cycle as descendants. Add these spans after all others.
    for root in (*children[None], *spans):
        stack = [(root, 0)]
        while stack:
            span, depth = stack.pop()
            if id(span) in visited:
                continue
            visited.add(id(span))
            below = children.get(id(span), [])
            parent = parents[id(span)]
            left = percent(span["start_ns"])
            rows.append(
                WaterfallRow(
                    span,
                    depth,
                    left,
                    round(percent(span["end_ns"]) - left, 3) if span["duration_ns"] is not None else 0.0,
                    len(below),
                    parent_missing=span["parent_span_id"] is not None and span["parent_span_id"] not in by_id,
                    enters_service=parent is None or span["service_name"] != parent["service_name"],
                    duplicate_index=same_id[span["span_id"]],
                    log_marks=sorted({percent(ns) for ns in log_times.get(span["span_id"], ())})[:MAX_LOG_MARKS],
                )
            )
            same_id[span["span_id"]] += 1
            stack += [(child, depth + 1) for child in reversed(below)]
    duration = max(span["end_ns"] for span in timed) - min(span["start_ns"] for span in timed) if timed else None
    return Waterfall(rows, start, end - start, duration)


def _find_parent(span: Record, candidates: Sequence[Record]) -> Record | None:
    """Return the parent of a span. If several spans have its ID, prefer one of the same service."""
    others = [candidate for candidate in candidates if candidate is not span]
    same_service = (candidate for candidate in others if candidate["service_name"] == span["service_name"])
    return next(same_service, others[0] if others else None)
