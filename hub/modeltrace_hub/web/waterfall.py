"""The waterfall of a trace: spans as a tree in the order of time, placed on one time axis."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from modeltrace_hub.queries.queries import SLACK_NS, Record

TICKS: Final = 4
MOST_MARKS: Final = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One span: `left`, `width` and `marks` (log records) are percentages of the axis.

    `detached`: it names a parent that is not here, its caller's for example. `entered`: its parent is of another
    service, or not here. `children` counts those below it. `twin` counts the spans before it that have its ID.
    """

    span: Record
    depth: int
    left: float
    width: float
    children: int
    detached: bool
    entered: bool
    twin: int
    marks: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Waterfall:
    """All rows, top to bottom, and the axis; how long the trace took if its spans say so."""

    rows: list[Row]
    start_ns: int
    duration_ns: int
    trace_duration_ns: int | None = None

    @property
    def ticks(self) -> list[tuple[float, float]]:
        """Places on the axis in percent, and what time it is there, in nanoseconds."""
        return [(100 * n / TICKS, self.duration_ns * n / TICKS) for n in range(TICKS + 1)]


def build(spans: Sequence[Record], log_times: Mapping[str, Sequence[int]]) -> Waterfall:
    """Place the spans, ordered by start; `log_times` are those of log records by span ID."""
    if not spans:
        return Waterfall([], 0, 0)
    timed = [span for span in spans if span["duration_ns"] is not None]
    # A span with a start that cannot be right, far ahead of its arrival, does not stretch the axis.
    started = [span for span in spans if span["start_ns"] > 0]
    placed = [span for span in started if span["start_ns"] <= span["received_ns"] + SLACK_NS] or started
    start: int = min((span["start_ns"] for span in placed), default=0)
    end: int = max((max(span["end_ns"], span["start_ns"]) for span in placed), default=0)
    length = max(end - start, 1)

    def place(ns: int) -> float:
        return round(min(max(100.0 * (ns - start) / length, 0.0), 100.0), 3)

    by_id: dict[str | None, list[Record]] = defaultdict(list)
    for span in spans:
        by_id[span["span_id"]].append(span)
    parents = {id(span): _parent(span, by_id.get(span["parent_span_id"], ())) for span in spans}
    below: dict[int | None, list[Record]] = defaultdict(list)
    for span in spans:
        parent = parents[id(span)]
        below[None if parent is None else id(parent)].append(span)
    rows: list[Row] = []
    seen: set[int] = set()
    twins: dict[str, int] = defaultdict(int)
    # Spans that are each other's parent hang from no root; they are taken in order after all others.
    for top in (*below[None], *spans):
        waiting = [(top, 0)]
        while waiting:
            span, depth = waiting.pop()
            if id(span) in seen:
                continue
            seen.add(id(span))
            children = below.get(id(span), [])
            parent = parents[id(span)]
            left = place(span["start_ns"])
            rows.append(
                Row(
                    span,
                    depth,
                    left,
                    round(place(span["end_ns"]) - left, 3) if span["duration_ns"] is not None else 0.0,
                    len(children),
                    entered=parent is None or span["service_name"] != parent["service_name"],
                    detached=span["parent_span_id"] is not None and span["parent_span_id"] not in by_id,
                    twin=twins[span["span_id"]],
                    marks=sorted({place(ns) for ns in log_times.get(span["span_id"], ())})[:MOST_MARKS],
                )
            )
            twins[span["span_id"]] += 1
            waiting += [(child, depth + 1) for child in reversed(children)]
    took = max(span["end_ns"] for span in timed) - min(span["start_ns"] for span in timed) if timed else None
    return Waterfall(rows, start, end - start, took)


def _parent(span: Record, candidates: Sequence[Record]) -> Record | None:
    """The span that another one names as its parent: of several, the one of the same service, else the first."""
    others = [candidate for candidate in candidates if candidate is not span]
    own = (candidate for candidate in others if candidate["service_name"] == span["service_name"])
    return next(own, others[0] if others else None)
