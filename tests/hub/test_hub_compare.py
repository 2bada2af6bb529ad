"""The comparison of two traces by structure."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from modeltrace_hub.queries.trace_comparison import compare_spans
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import span, trace_request

A, B, UNKNOWN = "a" * 32, "b" * 32, "c" * 32
T = 1_700_000_000_000_000_000
MS = 10**6


def stored(span_id: str, parent: str | None, name: str, start: int, end: int, status: str = "UNSET") -> dict[str, Any]:
    """Return a span as in the store, with times in milliseconds."""
    return {
        "span_id": span_id,
        "parent_span_id": parent,
        "service_name": "shop",
        "name": name,
        "start_ns": start * MS,
        "end_ns": end * MS,
        "duration_ns": (end - start) * MS,
        "status_code": status,
    }


BEFORE = [
    stored("1", None, "checkout", 1, 101),
    stored("2", "1", "query", 2, 12),
    stored("3", "1", "query", 12, 22),
    stored("4", "1", "charge", 22, 32),
    stored("5", "1", "render", 40, 60),
]
AFTER = [
    stored("1", None, "checkout", 1, 151),
    stored("2", "1", "query", 2, 72, "ERROR"),
    stored("4", "1", "charge", 72, 82),
    stored("6", "1", "audit", 82, 92),
    stored("7", "6", "query", 83, 85),
]


def test_spans_are_matched_by_path() -> None:
    """Spans with the same path are summed. The same name below another span is another path."""
    comparison = compare_spans(BEFORE, AFTER)

    assert [(path.name, path.depth, path.state, path.difference_ns // MS) for path in comparison.paths] == [
        ("checkout", 0, "slower", 50),
        ("query", 1, "slower", 50),
        ("charge", 1, "similar", 0),
        ("render", 1, "missing", -20),
        ("audit", 1, "added", 10),
        ("query", 2, "added", 2),
    ]
    query = comparison.paths[1]
    assert (query.a.count, query.a.duration_ns, query.a.errors) == (2, 20 * MS, 0)
    assert (query.b.count, query.b.duration_ns, query.b.errors) == (1, 70 * MS, 1)
    assert comparison.paths[0].a.self_ns == (100 - 20 - 10 - 20) * MS
    assert (comparison.a.duration_ns, comparison.b.duration_ns, comparison.b.errors) == (100 * MS, 150 * MS, 1)


def test_a_trace_equals_itself() -> None:
    """Compared with itself, a trace has no differences; the order of the two only changes signs."""
    assert {path.state for path in compare_spans(BEFORE, BEFORE).paths} == {"similar"}
    forward, backward = compare_spans(BEFORE, AFTER), compare_spans(AFTER, BEFORE)
    assert {(path.name, path.difference_ns) for path in forward.paths} == {
        (path.name, -path.difference_ns) for path in backward.paths
    }


@pytest.fixture(scope="module")
def hub() -> Iterator[HubPages]:
    """Yield a hub with two traces of the same name, of which the second is slower and has a span more."""
    with hub_pages() as hub:
        for trace_id, duration, names in ((A, 10, ("load",)), (B, 30, ("load", "retry"))):
            root = span(
                trace_id=bytes.fromhex(trace_id),
                name="checkout",
                start_time_unix_nano=T,
                end_time_unix_nano=T + duration * MS,
            )
            children = [
                span(
                    trace_id=root.trace_id,
                    parent_span_id=root.span_id,
                    name=name,
                    start_time_unix_nano=T,
                    end_time_unix_nano=T + 5 * MS,
                )
                for name in names
            ]
            hub.add(trace_request(root, *children))
        yield hub


def states(html: str) -> dict[str, str]:
    """Return the state of each path on the page, by name."""
    rows = re.findall(r'<td class="path">(.*?)</td>.*?<span class="state (\w+)"', html, re.DOTALL)
    return {re.sub(r"<[^>]*>", " ", name).split()[0]: state for name, state in rows}


@pytest.mark.slow
def test_the_page_compares_stored_traces(hub: HubPages) -> None:
    """The page lists all paths with their states, or those that differ; the API returns the same."""
    page = f"/compare?a={A}&b={B.upper()}"
    assert states(hub.client.get(page).text) == {"checkout": "slower", "load": "similar", "retry": "added"}
    assert states(hub.client.get(page + "&changes=true").text) == {"checkout": "slower", "retry": "added"}

    answer = hub.client.get("/api/compare", params={"a": A, "b": B}).json()
    assert [path["state"] for path in answer["paths"]] == ["slower", "similar", "added"]


def test_the_page_offers_traces_with_the_same_name(hub: HubPages) -> None:
    """With one trace, the page links to comparisons with others of the same name; the page of a trace leads there."""
    assert f"/compare?a={A}" in hub.links(f"/t/{A}", hub.client.get(f"/t/{A}").text)
    page = f"/compare?a={A}"

    assert f"/compare?a={A}&b={B}" in hub.links(page, hub.client.get(page).text)


def test_the_page_says_what_is_missing(hub: HubPages) -> None:
    """A trace that is not stored is named, an invalid ID is rejected, and without traces the page asks for them."""
    assert "No spans of this trace are stored." in hub.client.get(f"/compare?a={A}&b={UNKNOWN}").text
    assert hub.client.get("/compare?a=nonsense").status_code == 422
    assert hub.client.get(f"/api/compare?a={A}").status_code == 422
    assert "Enter the IDs of two traces." in hub.client.get("/compare").text
