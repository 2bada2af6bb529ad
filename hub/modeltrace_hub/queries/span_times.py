"""Compute where the time of a trace was spent: the self time of spans, and the critical path.

Both include only spans with a valid duration. The descendants of a span without one count as children of its nearest
ancestor that has one.
"""

from collections.abc import Iterable, Sequence

from modeltrace_hub.queries.reader import Record
from modeltrace_hub.queries.span_tree import SpanTree

Interval = tuple[int, int]


def self_time(span: Record, children: Iterable[Record]) -> int | None:
    """Return the time of a span, in nanoseconds, in which none of its children ran; None without a valid duration."""
    if span["duration_ns"] is None:
        return None
    intervals = [(child["start_ns"], child["end_ns"]) for child in children if child["duration_ns"] is not None]
    covered, reached = 0, span["start_ns"]
    for start, end in sorted(intervals):
        uncovered_start, uncovered_end = max(start, reached), min(end, span["end_ns"])
        if uncovered_end > uncovered_start:
            covered += uncovered_end - uncovered_start
            reached = uncovered_end
    return int(span["duration_ns"] - covered)


def self_times(tree: SpanTree) -> list[int | None]:
    """Return the self time of each span of a tree."""
    children = _timed_children(tree)[0]
    return [self_time(span, [tree.spans[child] for child in children[index]]) for index, span in enumerate(tree.spans)]


def critical_path(tree: SpanTree) -> list[list[Interval]]:
    """Return the intervals of each span, in unix nanoseconds, that are on the critical path, the last one first.

    The critical path is found from the end of the trace to its start, as in CRISP (Zhang et al., USENIX ATC 2022): from
    the end of a span, the path enters the child that ended last; from the start of that child, the child that ended
    last before it; and so on. The rest of the time belongs to the span itself. Shortening a span that is not on the
    path does not shorten the trace. The part of a child after the end of its parent is ignored.
    """
    children, roots = _timed_children(tree)
    path: list[list[Interval]] = [[] for _ in tree.spans]
    spans = tree.spans
    windows: list[tuple[int | None, int, int]] = []
    if roots:
        windows.append((None, min(spans[i]["start_ns"] for i in roots), max(spans[i]["end_ns"] for i in roots)))
    while windows:
        index, start, end = windows.pop()
        own: list[Interval] = [] if index is None else path[index]
        time = end
        for child in sorted(
            roots if index is None else children[index], key=lambda i: spans[i]["end_ns"], reverse=True
        ):
            child_start, child_end = max(spans[child]["start_ns"], start), min(spans[child]["end_ns"], end)
            if child_end > time or child_end <= child_start:
                continue
            if time > child_end:
                own.append((child_end, time))
            windows.append((child, child_start, child_end))
            time = child_start
        if time > start:
            own.append((start, time))
    return path


def _timed_children(tree: SpanTree) -> tuple[Sequence[list[int]], list[int]]:
    """Return the children of each span, and the roots, among the spans with a valid duration."""
    children: list[list[int]] = [[] for _ in tree.spans]
    roots: list[int] = []
    nearest: list[int | None] = []  # the span itself if it has a duration, or its nearest ancestor that has one
    for index, span in enumerate(tree.spans):
        parent_index = tree.parents[index]
        parent = None if parent_index is None else nearest[parent_index]
        timed = span["duration_ns"] is not None
        nearest.append(index if timed else parent)
        if timed:
            (roots if parent is None else children[parent]).append(index)
    return children, roots
