"""Self times of spans and the critical path of a trace."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modeltrace_hub.queries.span_times import critical_path, self_times
from modeltrace_hub.queries.span_tree import build_tree


def span(name: str, parent: str | None, start: int, end: int | None) -> dict[str, Any]:
    """Return a span as in the store; without an end it has no duration."""
    times = {"start_ns": start, "end_ns": end or 0, "duration_ns": None if end is None else end - start}
    return {"span_id": name, "parent_span_id": parent, "service_name": "a", "received_ns": start, **times}


SPANS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 50), st.integers(0, 50)),
    min_size=1,
    max_size=10,
).map(
    lambda items: sorted(
        (
            span(
                str(n),
                str(min(parent, n - 1)) if n else None,
                1 if n == 0 else start,
                200 if n == 0 else start + length,
            )
            for n, (parent, start, length) in enumerate(items)
        ),
        key=lambda item: item["start_ns"],
    )
)


def times_by_name(spans: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the self time and the intervals on the critical path of each span."""
    tree = build_tree(spans)
    names = [item["span_id"] for item in tree.spans]
    return dict(zip(names, self_times(tree), strict=True)), dict(zip(names, critical_path(tree), strict=True))


def test_self_time_excludes_children() -> None:
    """Children that overlap are subtracted once, and only as far as they are within their parent."""
    spans = [
        span("root", None, 10, 100),
        span("a", "root", 20, 50),
        span("b", "root", 40, 60),
        span("c", "root", 90, 130),
    ]
    own, _ = times_by_name(spans)

    assert own == {"root": 90 - 40 - 10, "a": 30, "b": 20, "c": 40}


def test_critical_path_follows_the_last_child() -> None:
    """The path goes through the child that ended last, then through the one that ended last before that one started."""
    spans = [
        span("root", None, 0, 100),
        span("first", "root", 10, 30),
        span("parallel", "root", 12, 45),
        span("last", "root", 40, 90),
        span("query", "last", 50, 80),
    ]
    _, path = times_by_name(spans)

    assert path == {
        "root": [(90, 100), (30, 40), (0, 10)],
        "first": [(10, 30)],
        "parallel": [],
        "last": [(80, 90), (40, 50)],
        "query": [(50, 80)],
    }


def test_spans_without_duration_are_passed_through() -> None:
    """The children of a span without a duration count as those of its parent."""
    spans = [span("root", None, 0, 100), span("open", "root", 10, None), span("child", "open", 20, 60)]
    own, path = times_by_name(spans)

    assert own == {"root": 60, "open": None, "child": 40}
    assert path == {"root": [(60, 100), (0, 20)], "open": [], "child": [(20, 60)]}


@given(SPANS)
def test_the_critical_path_covers_the_root_once(spans: list[dict[str, Any]]) -> None:
    """Each moment of the root belongs to exactly one span of the path, which ran at that moment."""
    _, path = times_by_name(spans)
    by_name = {item["span_id"]: item for item in spans}
    intervals = sorted((since, until) for intervals in path.values() for since, until in intervals)

    assert intervals[0][0] == by_name["0"]["start_ns"]
    assert intervals[-1][1] == by_name["0"]["end_ns"]
    assert all(until == since for (_, until), (since, _) in pairwise(intervals))
    for name, own in path.items():
        assert all(by_name[name]["start_ns"] <= since < until <= by_name[name]["end_ns"] for since, until in own)


@given(SPANS)
def test_self_times_are_within_durations(spans: list[dict[str, Any]]) -> None:
    """A self time is at least zero and at most the duration."""
    own, _ = times_by_name(spans)

    assert all(0 <= own[item["span_id"]] <= item["duration_ns"] for item in spans)
