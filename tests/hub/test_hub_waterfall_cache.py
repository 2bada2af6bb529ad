"""The waterfall of a large trace is built once for all requests of its page, and again when its records change."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from modeltrace_hub.queries.reader import Queries, Reader
from modeltrace_hub.queries.trace import locate_trace
from modeltrace_hub.web.waterfall import Waterfall, read_waterfall
from modeltrace_hub.web.waterfall_cache import MAX_IDLE_SECONDS, MIN_SPANS, WaterfallCache
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import log_request, span, trace_request

LARGE, SMALL = b"\x01" * 16, b"\x02" * 16
NOW = time.time_ns()
DAY_NS = 86400 * 10**9


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield a hub with a trace that is just large enough, half of it old, and with a small one."""
    spans = [span(trace_id=LARGE, name=f"step {number % 7}") for number in range(MIN_SPANS)]
    with hub_pages() as pages:
        pages.add(trace_request(*spans[: MIN_SPANS // 2]), received_ns=NOW - 9 * DAY_NS)
        pages.add(trace_request(*spans[MIN_SPANS // 2 :], span(trace_id=SMALL)), received_ns=NOW)
        yield pages


def read(pages: HubPages, waterfalls: WaterfallCache | None, trace_id: bytes = LARGE) -> Waterfall:
    """Return a waterfall from a cache, or without one."""
    with Queries(pages.store).open_reader() as reader:
        trace = locate_trace(reader, trace_id.hex())
        if waterfalls is None:
            return read_waterfall(reader, trace, with_predictions=True)[0]
        counts = reader.fetch_one("count_trace_records", **trace)
        return waterfalls.read(reader, trace, counts, with_predictions=True)[0]


def test_a_large_waterfall_is_built_once(pages: HubPages, monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows of the page and the rows of the browser read the spans once; a small trace is not kept."""
    queries: list[str] = []
    fetch_all = Reader.fetch_all

    def record(reader: Reader, query: str, *arguments: Any, **values: Any) -> list[dict[str, Any]]:
        queries.append(query)
        return fetch_all(reader, query, *arguments, **values)

    monkeypatch.setattr(Reader, "fetch_all", record)
    rows = [pages.client.get(f"/t/{LARGE.hex()}?page={page}").text for page in (0, 1)]
    assert all("step" in text for text in rows)
    assert len(pages.client.get(f"/api/traces/{LARGE.hex()}/waterfall").json()["span_id"]) == MIN_SPANS
    assert queries.count("list_waterfall_spans") == 1
    for _ in range(2):
        pages.client.get(f"/t/{SMALL.hex()}")
    assert queries.count("list_waterfall_spans") == 3


def test_a_kept_waterfall_is_that_of_the_stored_records(pages: HubPages) -> None:
    """After late spans, late log records and deletions by age, the cache returns what a new computation returns."""
    waterfalls = WaterfallCache()
    first = read(pages, waterfalls)
    assert read(pages, waterfalls) is first
    late = span(trace_id=LARGE, start_time_unix_nano=NOW - DAY_NS, end_time_unix_nano=NOW)
    for request in (trace_request(late), log_request(LogRecord(trace_id=LARGE, span_id=late.span_id))):
        pages.add(request, received_ns=NOW)
        assert read(pages, waterfalls) == read(pages, None)
    assert len(read(pages, waterfalls).rows) == MIN_SPANS + 1
    pages.add(trace_request(*(span(trace_id=LARGE) for _ in range(MIN_SPANS))), received_ns=NOW)
    assert len(read(pages, waterfalls).rows) == 2 * MIN_SPANS + 1
    assert pages.retention.enforce(NOW) > 0
    assert read(pages, waterfalls) == read(pages, None)
    assert len(read(pages, waterfalls).rows) < 2 * MIN_SPANS + 1


def test_an_unused_waterfall_is_deleted(pages: HubPages) -> None:
    """After the idle time, the next request of any trace frees the memory; before it, the waterfall stays."""
    now = [0.0]
    waterfalls = WaterfallCache(lambda: now[0])
    first = read(pages, waterfalls)
    now[0] = MAX_IDLE_SECONDS - 1
    read(pages, waterfalls, SMALL)
    assert read(pages, waterfalls) is first
    now[0] += MAX_IDLE_SECONDS + 1
    read(pages, waterfalls, SMALL)
    assert read(pages, waterfalls) is not first
