"""Spans without an end or a start, and records from senders with a wrong clock."""

import re
import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import log_request, metric_request, span, trace_request
from tests.helpers.unusual_telemetry import MODEL, model_requests

S = 10**9
DAY = 86400 * S
NOW = time.time_ns()
AHEAD = 2**63 - 1


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages of an empty hub."""
    with hub_pages() as pages:
        yield pages


def listed(pages: HubPages, query: str = "") -> list[str]:
    """Return the trace IDs of the list."""
    return [trace["trace_id"] for trace in pages.client.get(f"/api/traces?{query}").json()["traces"]]


@pytest.mark.slow
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
    """The API returns null, the page explains it, and duration filters exclude it; list and page still work."""
    sent_span = span(start_time_unix_nano=start_ns, end_time_unix_nano=end_ns)
    trace_id = sent_span.trace_id.hex()
    pages.add(trace_request(sent_span))
    (trace,) = pages.client.get("/api/traces").json()["traces"]
    assert trace["duration_ns"] is None
    assert abs(trace["start_ns"] - time.time_ns()) < DAY
    (result,) = pages.client.get(f"/api/traces/{trace_id}").json()["spans"]
    assert (result["start_ns"], result["end_ns"], result["duration_ns"]) == (start_ns, end_ns, None)
    assert [listed(pages, f"{bound}_duration=1ms") for bound in ("min", "max")] == [[], []]
    for path in ("/", "/traces", f"/t/{trace_id}"):
        text = re.sub(r"<[^>]*>", " ", pages.client.get(path).text)
        assert not re.search(r"-[0-9,.]+\s*(min|s|ms|µs|ns)\b", text), path
    assert words in pages.client.get(f"/t/{trace_id}").text


def test_a_trace_lasts_as_long_as_its_finished_spans(pages: HubPages) -> None:
    """A span that was sent before its end does not change the duration of its trace."""
    root = span(start_time_unix_nano=NOW, end_time_unix_nano=NOW + 3 * S)
    pages.add(trace_request(root, span(trace_id=root.trace_id, start_time_unix_nano=NOW + S, end_time_unix_nano=0)))
    (trace,) = pages.client.get("/api/traces").json()["traces"]
    assert (trace["span_count"], trace["duration_ns"]) == (2, 3 * S)
    assert listed(pages, "min_duration=3s&max_duration=3s") == [root.trace_id.hex()]


def test_a_trace_with_a_span_without_start_is_listed(pages: HubPages) -> None:
    """A start of 0, or in the first hour of 1970, does not hide a trace."""
    root = span(start_time_unix_nano=NOW, end_time_unix_nano=NOW)
    pages.add(trace_request(root, span(trace_id=root.trace_id, start_time_unix_nano=0, end_time_unix_nano=NOW)))
    early = span(start_time_unix_nano=5 * S, end_time_unix_nano=6 * S)
    pages.add(trace_request(early))
    result = pages.client.get("/api/traces").json()["traces"]
    assert [(trace["trace_id"], trace["start_ns"]) for trace in result] == [
        (root.trace_id.hex(), NOW),
        (early.trace_id.hex(), 5 * S),
    ]


def test_a_span_from_the_future_is_listed_by_arrival(pages: HubPages) -> None:
    """It does not hide later traces, on any page of the list."""
    ids = []
    for second in range(4):
        start = AHEAD - S if second % 2 else NOW + second * S
        sent_span = span(start_time_unix_nano=start, end_time_unix_nano=AHEAD if second % 2 else start + S)
        pages.add(trace_request(sent_span), received_ns=NOW + second * S)
        ids.insert(0, sent_span.trace_id.hex())
    assert listed(pages) == ids
    assert listed(pages, f"since={NOW // S - 1}&until={NOW // S + 60}") == ids
    assert listed(pages, "since=9223372036") == []
    first = pages.client.get("/api/traces?limit=2").json()
    assert [*(trace["trace_id"] for trace in first["traces"]), *listed(pages, f"cursor={first['next']}")] == ids


def test_records_from_the_future_are_listed_by_arrival(pages: HubPages) -> None:
    """The newest record is the last that arrived, whatever the times of earlier ones are."""
    for second, body in enumerate(("ahead", "now")):
        time_ns = AHEAD if body == "ahead" else NOW + S
        point = NumberDataPoint(time_unix_nano=time_ns, as_int=second)
        pages.add(
            log_request(LogRecord(time_unix_nano=time_ns, body=AnyValue(string_value=body))),
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


def test_predictions_from_the_future_are_listed_by_arrival(pages: HubPages) -> None:
    """A prediction from a sender with a clock ahead is listed among those that arrived with it."""
    requests = model_requests()
    pages.add(*requests)
    before = pages.client.get(f"/api/predictions?model={MODEL}").json()["items"]
    ahead = LogRecord(time_unix_nano=AHEAD, event_name="ml.prediction")
    ahead.attributes.add(key="ml.model.name").value.string_value = MODEL
    pages.add(log_request(ahead), received_ns=NOW - DAY)
    after = pages.client.get(f"/api/predictions?model={MODEL}").json()["items"]
    assert [item["prediction_id"] for item in after] == [*(item["prediction_id"] for item in before), None]
