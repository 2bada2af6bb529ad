"""Spans without an end or a start, and records whose sender's clock is wrong."""

import re
import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.odd_telemetry import MODEL, ordinary
from tests.helpers.otlp_messages import log_request, metric_request, span, trace_request

S = 10**9
DAY = 86400 * S
NOW = time.time_ns()
AHEAD = 2**63 - 1


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """The pages of an empty hub."""
    with hub_pages() as pages:
        yield pages


def listed(pages: HubPages, query: str = "") -> list[str]:
    """The trace IDs of the list."""
    return [trace["trace_id"] for trace in pages.client.get(f"/api/traces?{query}").json()["traces"]]


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "words"),
    [
        (NOW, 0, "unfinished"),
        (0, 0, "unfinished"),
        (0, NOW, "no start time"),
        (NOW, NOW - 5 * S, "ends before it starts"),
        (NOW, 1, "ends before it starts"),
    ],
    ids=["no end", "neither", "no start", "end 5 s before start", "end in 1970"],  # the same in each worker process
)
def test_a_span_without_both_times_has_no_duration(pages: HubPages, start_ns: int, end_ns: int, words: str) -> None:
    """It is null in the API, in words on the page, in no duration filter; the trace is listed and its page is whole."""
    one = span(start_time_unix_nano=start_ns, end_time_unix_nano=end_ns)
    trace_id = one.trace_id.hex()
    pages.add(trace_request(one))
    (trace,) = pages.client.get("/api/traces").json()["traces"]
    assert trace["duration_ns"] is None
    assert abs(trace["start_ns"] - time.time_ns()) < DAY
    (found,) = pages.client.get(f"/api/traces/{trace_id}").json()["spans"]
    assert (found["start_ns"], found["end_ns"], found["duration_ns"]) == (start_ns, end_ns, None)
    assert [listed(pages, f"{bound}_duration=1ms") for bound in ("min", "max")] == [[], []]
    for path in ("/", "/traces", f"/t/{trace_id}"):
        text = re.sub(r"<[^>]*>", " ", pages.client.get(path).text)
        assert not re.search(r"-[0-9,.]+\s*(min|s|ms|µs|ns)\b", text), path
    assert words in pages.client.get(f"/t/{trace_id}").text


def test_a_trace_lasts_as_long_as_its_finished_spans(pages: HubPages) -> None:
    """A span that was sent before its end takes nothing away from the duration of its trace."""
    root = span(start_time_unix_nano=NOW, end_time_unix_nano=NOW + 3 * S)
    pages.add(trace_request(root, span(trace_id=root.trace_id, start_time_unix_nano=NOW + S, end_time_unix_nano=0)))
    (trace,) = pages.client.get("/api/traces").json()["traces"]
    assert (trace["span_count"], trace["duration_ns"]) == (2, 3 * S)
    assert listed(pages, "min_duration=3s&max_duration=3s") == [root.trace_id.hex()]


def test_a_trace_with_a_span_without_start_is_listed_by_its_others(pages: HubPages) -> None:
    """A start of 0, or in the first hour of 1970, is no reason to leave a trace out."""
    root = span(start_time_unix_nano=NOW, end_time_unix_nano=NOW)
    pages.add(trace_request(root, span(trace_id=root.trace_id, start_time_unix_nano=0, end_time_unix_nano=NOW)))
    early = span(start_time_unix_nano=5 * S, end_time_unix_nano=6 * S)
    pages.add(trace_request(early))
    found = pages.client.get("/api/traces").json()["traces"]
    assert [(trace["trace_id"], trace["start_ns"]) for trace in found] == [
        (root.trace_id.hex(), NOW),
        (early.trace_id.hex(), 5 * S),
    ]


def test_a_span_far_ahead_is_listed_where_it_arrived(pages: HubPages) -> None:
    """It hides nothing: what arrived after it is listed before it, on every page of the list."""
    ids = []
    for second in range(4):
        start = AHEAD - S if second % 2 else NOW + second * S
        one = span(start_time_unix_nano=start, end_time_unix_nano=AHEAD if second % 2 else start + S)
        pages.add(trace_request(one), received_ns=NOW + second * S)
        ids.insert(0, one.trace_id.hex())
    assert listed(pages) == ids
    assert listed(pages, f"since={NOW // S - 1}&until={NOW // S + 60}") == ids
    assert listed(pages, "since=9223372036") == []
    first = pages.client.get("/api/traces?limit=2").json()
    assert [*(trace["trace_id"] for trace in first["traces"]), *listed(pages, f"cursor={first['next']}")] == ids


def test_log_records_and_points_far_ahead_are_listed_where_they_arrived(pages: HubPages) -> None:
    """The newest record is the one that arrived last, whatever an earlier one says of the time."""
    for second, body in enumerate(("ahead", "now")):
        told = AHEAD if body == "ahead" else NOW + S
        point = NumberDataPoint(time_unix_nano=told, as_int=second)
        pages.add(
            log_request(LogRecord(time_unix_nano=told, body=AnyValue(string_value=body))),
            metric_request(Metric(name="g", gauge=Gauge(data_points=[point]))),
            received_ns=NOW + second * S,
        )
    until = f"until={NOW // S + 60}"
    assert [log["body"] for log in pages.client.get(f"/api/logs?{until}").json()["logs"]] == ["now", "ahead"]
    (log,) = pages.client.get("/api/logs?limit=1").json()["logs"]
    assert log["body"] == "now"
    assert [point["value"] for point in pages.client.get("/api/metrics?name=g").json()["points"]] == [1.0, 0.0]
    (metric,) = pages.client.get("/api/metrics").json()["metrics"]
    assert (metric["last"]["value"], metric["last_ns"]) == (1.0, NOW + S)


def test_predictions_far_ahead_are_listed_where_they_arrived(pages: HubPages) -> None:
    """A prediction of a sender whose clock is ahead stands among those that arrived with it."""
    requests = ordinary()
    pages.add(*requests)
    before = pages.client.get(f"/api/predictions?model={MODEL}").json()["found"]
    ahead = LogRecord(time_unix_nano=AHEAD, event_name="ml.prediction")
    ahead.attributes.add(key="ml.model.name").value.string_value = MODEL
    pages.add(log_request(ahead), received_ns=NOW - DAY)
    after = pages.client.get(f"/api/predictions?model={MODEL}").json()["found"]
    assert [one["prediction_id"] for one in after] == [*(one["prediction_id"] for one in before), None]
