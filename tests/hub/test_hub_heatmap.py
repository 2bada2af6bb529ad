"""The heatmap of `/traces`: its cells are links that select their traces, and the selection is explained."""

import math
import random
import re
import time
from collections.abc import Iterator
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from modeltrace_hub.queries.heatmap import MAX_ROWS, MAX_STEPS, Heatmap, read_heatmap, time_step
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.reader import Queries
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import span, trace_request
from tests.helpers.otlp_values import Value, key_values

MS = 10**6
S = 10**9
# The start of an hour, so that positions in the heatmap are known.
START = time.time_ns() // (3600 * S) * 3600 * S - 3600 * S


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages of an empty hub."""
    with hub_pages() as pages:
        yield pages


def root(start_ns: int, duration_ns: int, *, failed: bool = False, **attributes: Value) -> Span:
    """Return the only span of a trace."""
    return span(
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + duration_ns,
        status=Status(code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET),
        attributes=key_values(attributes),
    )


def heatmap(pages: HubPages, **filters: object) -> Heatmap | None:
    """Return the heatmap of the stored traces."""
    with Queries(pages.store).open_reader() as reader:
        return read_heatmap(reader, TraceFilter.model_validate(filters))


def cell_links(pages: HubPages, path: str) -> dict[str, str]:
    """Return the links of the cells by their text."""
    html = pages.client.get(path).text
    return {
        unescape(label).replace("\u202f", " "): "/traces" + unescape(link).partition("#")[0]
        for link, label in re.findall(r'<a href="(\?[^"]*select\.since[^"]*)" aria-label="([^"]*)"', html)
    }


def listed(pages: HubPages, path: str) -> int:
    """Return the number of traces in the list of a page."""
    return pages.client.get(path).text.count("<tr data-key=")


@pytest.mark.slow
def test_each_trace_is_in_the_cell_of_its_time_and_duration(pages: HubPages) -> None:
    """Counts agree with the traces: rows have the bounds 1, 1.5, 2, 3, 5 and 7 of each power of ten."""
    chance = random.Random(1)  # noqa: S311  the same traces every time
    traces = [(START + chance.randrange(1800 * S), round(math.exp(chance.uniform(12, 17)))) for _ in range(300)]
    pages.add(trace_request(*(root(start, length, failed=length % 5 == 0) for start, length in traces)))
    result = heatmap(pages)
    assert result is not None
    assert (result.trace_count, sum(cell.error_count for cell in result.cells)) == (
        300,
        sum(length % 5 == 0 for _, length in traces),
    )
    assert {str(bound).strip("0") for bound in result.bounds} <= {"1", "15", "2", "3", "5", "7"}
    for cell in result.cells:
        since = result.since_ns + cell.step * result.step_ns
        low, high = result.bounds[cell.row], result.bounds[cell.row + 1]
        assert cell.trace_count == sum(
            since <= start < since + result.step_ns and low <= length < high for start, length in traces
        )


def test_a_cell_lists_exactly_its_traces(pages: HubPages) -> None:
    """The link of a cell shows as many traces as its text says, and explains them."""
    spans = [root(START + number * S, 3 * MS, plan="basic") for number in range(40)]
    spans += [root(START + (600 + number) * S, 900 * MS, plan="premium", failed=number < 2) for number in range(6)]
    # The lower bound of a cell belongs to it, the upper bound to the next one.
    spans += [root(START + 600 * S, 700 * MS), root(START + 600 * S, 1000 * MS)]
    pages.add(trace_request(*spans))
    links = cell_links(pages, "/traces")
    for text, link in links.items():
        count = int(re.search(r": (\d+) trace", text)[1])  # type: ignore[index]  # each text has the count
        assert listed(pages, link) == count, text
    (slow,) = [text for text in links if "7 traces, 2 failed traces" in text]
    assert "700 ms to 1.00 s" in slow or "700 ms to 1 s" in slow
    html = pages.client.get(links[slow]).text
    assert re.search(r"among the 7\u202fselected traces", html)
    assert "premium" in html
    assert 'class="selection"' in html


def test_a_selection_keeps_the_filters(pages: HubPages) -> None:
    """Filters of the list apply to heatmap and explanation; the links change the selection only."""
    pages.add(trace_request(*(root(START, 5 * MS, tenant=f"t{number % 2}") for number in range(30))))
    links = cell_links(pages, "/traces?filter=tenant+%3D+t1&select.error=true")
    assert links
    for text, link in links.items():
        query = parse_qs(urlsplit(link).query)
        assert (query["filter"], "select.error" in query) == (["tenant = t1"], False)
        assert ": 15 traces" in text
        assert listed(pages, link) == 15
    result = heatmap(pages, since=str(START // S + 1))
    assert result is None


def test_failed_and_slow_traces_are_one_click_away(pages: HubPages) -> None:
    """The page links to the explanation of failed traces and of about the slowest 5 %."""
    spans = [root(START + number * S, 2 * MS) for number in range(120)]
    spans += [root(START + number * S, 800 * MS, failed=True, zone="b") for number in range(6)]
    pages.add(trace_request(*spans))
    links = [link for link in pages.links("/traces", pages.client.get("/traces").text) if "select." in link]
    failed = next(link for link in links if "select.error=true" in link)
    slow = next(link for link in links if link.startswith("/traces?select.min_duration") and "since" not in link)
    for link in (failed, slow):
        assert listed(pages, link) == 6
        assert re.search(r"zone.*?<strong><a [^>]*>b</a>", pages.client.get(link).text, re.DOTALL)


def test_an_invalid_selection_is_named(pages: HubPages) -> None:
    """The page says which filter of the selection is invalid, and shows the list without it."""
    pages.add(trace_request(root(START, MS)))
    response = pages.client.get("/traces?select.min_duration=fast")
    assert response.status_code == 422
    assert "select.…: min_duration: a duration is" in unescape(response.text)
    assert listed(pages, "/traces?select.min_duration=fast") == 1


@given(st.integers(0, 2**62))
def test_steps_are_few_and_round(length_ns: int) -> None:
    """Any range of time has at most `MAX_STEPS` steps, wherever it begins."""
    step = time_step(length_ns)
    assert length_ns // step + 2 <= MAX_STEPS
    assert step < 10 * max(length_ns / MAX_STEPS, MS)


def test_extreme_durations_have_few_rows(pages: HubPages) -> None:
    """From no time at all to two hundred years, the rows stay few, and no trace is lost."""
    lengths = [0, 1, 2, 10, 999, 5 * MS, 3600 * S, 6 * 10**18]
    pages.add(trace_request(*(root(1000 + number, length) for number, length in enumerate(lengths))))
    result = heatmap(pages)
    assert result is not None
    assert result.trace_count == len(lengths)
    assert len(result.bounds) <= 2 * MAX_ROWS
    assert pages.client.get("/traces").status_code == 200


def test_predictions_are_compared_on_a_page(pages: HubPages) -> None:
    """`/explain` shows the comparison that its address contains, as the API returns it."""
    html = pages.client.get("/explain?of=predictions&model=churn&select.version=2&against.version=1").text
    assert "No prediction is in the selection." in html
    assert "api/explain?of=predictions&amp;model=churn&amp;select.version=2&amp;against.version=1" in html


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("model=m", {"model": "m", "select.outcome": "incorrect", "against.outcome": "correct"}),
        ("model=m&version=2&outcome=correct", {"model": "m", "select.version": "2", "select.outcome": "correct"}),
        ("model=m&filter=label+%3D+yes&since=1h", {"model": "m", "since": "1h", "select.filter": "label = yes"}),
        ("model=m&feature=age&bin=03", {"select.feature": "age", "select.bin": "03"}),
    ],
)
def test_a_list_of_predictions_leads_to_its_explanation(pages: HubPages, query: str, expected: dict[str, str]) -> None:
    """The page of predictions links to the comparison of its predictions with the others."""
    links = pages.links(f"/predictions?{query}", pages.client.get(f"/predictions?{query}").text)
    (link,) = [link for link in links if link.startswith("/explain")]
    found = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    assert {"of": "predictions", **expected}.items() <= found.items()
    assert pages.client.get(link).status_code == 200
