"""Compare two traces by structure: their spans are matched by the path of services and names from the root."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.span_times import self_times
from modeltrace_hub.queries.span_tree import SpanTree, build_tree
from modeltrace_hub.queries.trace import locate_trace

MAX_SPANS: Final = 100_000
# A path is slower or faster if its total duration differs by this share of the smaller one, and by this share of the
# longer trace.
MIN_CHANGE: Final = 0.1
MIN_SHARE_OF_TRACE: Final = 0.01

State = Literal["added", "missing", "slower", "faster", "similar"]


@dataclass(slots=True)
class PathTotals:
    """The spans of one trace with the same path."""

    count: int = 0
    errors: int = 0
    duration_ns: int = 0  # sum of the durations that are valid
    self_ns: int = 0
    first_span_id: str = ""


@dataclass(slots=True)
class PathNode:
    """A path of services and names, and its spans in both traces."""

    service: str
    name: str
    depth: int
    a: PathTotals = field(default_factory=PathTotals)
    b: PathTotals = field(default_factory=PathTotals)
    children: dict[tuple[str, str], "PathNode"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PathComparison:
    """One path: its spans in both traces, the difference of its total durations (b - a), and what has changed."""

    service: str
    name: str
    depth: int
    a: PathTotals
    b: PathTotals
    difference_ns: int
    state: State


@dataclass(frozen=True, slots=True)
class TraceComparison:
    """Two traces: the totals of each, and their paths in order of the tree, those of the first trace before others."""

    a: PathTotals
    b: PathTotals
    paths: list[PathComparison]


def compare_traces(reader: Reader, a: str, b: str) -> TraceComparison:
    """Compare two stored traces. A trace that is not stored has no spans; of each trace, 100,000 spans are compared."""
    spans = [
        reader.fetch_all("list_waterfall_spans", **locate_trace(reader, trace), limit=MAX_SPANS) for trace in (a, b)
    ]
    return compare_spans(*spans)


def compare_spans(a: Sequence[Record], b: Sequence[Record]) -> TraceComparison:
    """Compare the spans of two traces, each ordered by start."""
    root = PathNode("", "", -1)
    _add_spans(root, build_tree(a), "a")
    _add_spans(root, build_tree(b), "b")
    total_a, total_b = _trace_totals(a), _trace_totals(b)
    min_difference = MIN_SHARE_OF_TRACE * max(total_a.duration_ns, total_b.duration_ns)
    paths: list[PathComparison] = []
    stack = [*reversed(root.children.values())]
    while stack:
        node = stack.pop()
        difference = node.b.duration_ns - node.a.duration_ns
        state = _state(node, difference, min_difference)
        paths.append(PathComparison(node.service, node.name, node.depth, node.a, node.b, difference, state))
        stack += reversed(node.children.values())
    return TraceComparison(total_a, total_b, paths)


def _add_spans(root: PathNode, tree: SpanTree, side: Literal["a", "b"]) -> None:
    """Add the spans of a trace to the tree of paths."""
    nodes: list[PathNode] = []
    own_times = self_times(tree)
    for index, span in enumerate(tree.spans):
        parent_index = tree.parents[index]
        parent = root if parent_index is None else nodes[parent_index]
        key = (span["service_name"], span["name"])
        node = parent.children.get(key)
        if node is None:
            node = parent.children[key] = PathNode(*key, parent.depth + 1)
        nodes.append(node)
        _add_span(node.a if side == "a" else node.b, span, own_times[index])


def _add_span(totals: PathTotals, span: Record, own_time: int | None) -> None:
    totals.count += 1
    totals.errors += span["status_code"] == "ERROR"
    totals.duration_ns += span["duration_ns"] or 0
    totals.self_ns += own_time or 0
    totals.first_span_id = totals.first_span_id or span["span_id"]


def _trace_totals(spans: Sequence[Record]) -> PathTotals:
    """Return the totals of a whole trace: its duration is from the first start to the last end."""
    timed = [span for span in spans if span["duration_ns"] is not None]
    duration = max(span["end_ns"] for span in timed) - min(span["start_ns"] for span in timed) if timed else 0
    errors = sum(span["status_code"] == "ERROR" for span in spans)
    return PathTotals(len(spans), errors, duration, duration, spans[0]["span_id"] if spans else "")


def _state(node: PathNode, difference: int, min_difference: float) -> State:
    if not node.a.count:
        return "added"
    if not node.b.count:
        return "missing"
    smaller = min(node.a.duration_ns, node.b.duration_ns)
    if abs(difference) <= MIN_CHANGE * smaller or abs(difference) < max(min_difference, 1):
        return "similar"
    return "slower" if difference > 0 else "faster"
