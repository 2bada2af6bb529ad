"""Faults of telemetry: each is found, and healthy telemetry has none."""

import os
import time
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from modeltrace_hub import telemetry_health
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, log_request, resource, span, trace_request

PROTOBUF = {"Content-Type": "application/x-protobuf"}
SECOND = 10**9
PARENT = bytes.fromhex("01" * 8)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait a minute for parents and spans."""
    monkeypatch.setattr(telemetry_health, "SETTLED_NS", 0)


def recent_span(**fields: Any) -> Span:
    """Return a span of the last second."""
    now = time.time_ns()
    return span(**{"start_time_unix_nano": now - SECOND, "end_time_unix_nano": now - SECOND // 2, **fields})


def send(hub: InProcessHub, path: str, request: Any) -> None:
    """Send a request."""
    hub.client.post(f"/v1/{path}", content=request.SerializeToString(), headers=PROTOBUF).raise_for_status()


def findings(hub: InProcessHub, **parameters: str) -> dict[str, dict[str, Any]]:
    """Return the findings by check."""
    response = httpx.get(f"{hub.page_url}/api/health", params=parameters)
    assert response.status_code == 200, response.text
    return {finding["check"]: finding for finding in response.json()["findings"]}


@pytest.mark.usefixtures("settled")
def test_healthy_telemetry_has_no_findings() -> None:
    """Parents in the same and in other services, log records with and without spans."""
    trace_id = os.urandom(16)
    with in_process_hub() as hub:
        root = recent_span(trace_id=trace_id, span_id=PARENT)
        send(hub, "traces", trace_request(root, recent_span(trace_id=trace_id, parent_span_id=PARENT)))
        logs = [
            LogRecord(time_unix_nano=time.time_ns(), trace_id=trace_id, flags=1),
            LogRecord(time_unix_nano=time.time_ns()),
            LogRecord(time_unix_nano=time.time_ns(), trace_id=os.urandom(16)),  # of a trace that was not sampled
        ]
        send(hub, "logs", log_request(*logs))
        assert findings(hub) == {}
        assert "No faults were found" in httpx.get(f"{hub.page_url}/health").text


@pytest.mark.usefixtures("settled")
def test_missing_parents_and_log_records_without_spans_are_found() -> None:
    """With the traces as examples."""
    trace_id, unknown = os.urandom(16), os.urandom(16)
    with in_process_hub() as hub:
        send(hub, "traces", trace_request(recent_span(trace_id=trace_id, parent_span_id=PARENT)))
        send(hub, "logs", log_request(LogRecord(time_unix_nano=time.time_ns(), trace_id=unknown, flags=1)))
        found = findings(hub)
        page = httpx.get(f"{hub.page_url}/health").text
    assert found.keys() == {"missing_parent", "log_without_span"}
    assert found["missing_parent"]["trace_ids"] == [trace_id.hex()]
    assert found["missing_parent"]["service"] == "svc"
    assert found["log_without_span"]["trace_ids"] == [unknown.hex()]
    assert f"t/{trace_id.hex()}" in page


def test_what_may_still_arrive_is_not_missing() -> None:
    """The parent of a span that has just arrived may still be exported."""
    with in_process_hub() as hub:
        send(hub, "traces", trace_request(recent_span(parent_span_id=PARENT)))
        assert findings(hub) == {}


def test_wrong_clocks_and_late_records_are_found() -> None:
    """Between services, ahead of the arrival, and long before it."""
    trace_id, now = os.urandom(16), time.time_ns()
    caller = Span(trace_id=trace_id, span_id=PARENT, start_time_unix_nano=now, end_time_unix_nano=now + 60 * SECOND)
    called = recent_span(trace_id=trace_id, parent_span_id=PARENT, start_time_unix_nano=now - 50_000_000)
    late = span(start_time_unix_nano=now - 3600 * SECOND, end_time_unix_nano=now - 3600 * SECOND)
    request = trace_request(called, late)
    request.resource_spans.append(
        ResourceSpans(resource=resource("caller", "two"), scope_spans=[ScopeSpans(spans=[caller])])
    )
    with in_process_hub() as hub:
        send(hub, "traces", request)
        found = findings(hub)
    assert found.keys() == {"clock_skew", "clock_ahead", "late"}
    assert "called them, by up to 50 ms" in found["clock_skew"]["text"]
    assert (found["clock_skew"]["service"], found["clock_skew"]["count"]) == ("svc", 1)
    assert found["clock_ahead"]["service"] == "caller"
    assert found["late"]["trace_ids"] == [late.trace_id.hex()]


def test_services_without_a_name_are_found() -> None:
    """Also those with the name that SDKs choose."""
    request = trace_request(recent_span())
    request.resource_spans[0].resource.CopyFrom(
        Resource(attributes=[attribute("service.name", "unknown_service:java")])
    )
    with in_process_hub() as hub:
        send(hub, "traces", request)
        found = findings(hub)
    assert found.keys() == {"no_service_name"}
    assert "OTEL_SERVICE_NAME" in found["no_service_name"]["advice"]


def test_exploding_attributes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many series, too many keys, too large values."""
    monkeypatch.setattr(telemetry_health, "MAX_SERIES", 20)
    monkeypatch.setattr(telemetry_health, "MAX_KEYS", 20)
    points = [
        NumberDataPoint(
            time_unix_nano=time.time_ns(),
            as_int=1,
            attributes=[attribute("user/id", str(number)), attribute("kind", str(number % 2))],
        )
        for number in range(30)
    ]
    metric = Metric(name="requests", gauge=Gauge(data_points=points))
    metrics = ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(resource=resource(), scope_metrics=[ScopeMetrics(metrics=[metric])])]
    )
    spans = [recent_span(attributes=[attribute(f"key {number}", "x")]) for number in range(30)]
    spans.append(recent_span(attributes=[attribute("body", "x" * 40_000)]))
    with in_process_hub() as hub:
        send(hub, "metrics", metrics)
        send(hub, "traces", trace_request(*spans))
        found = findings(hub)
    assert found.keys() == {"many_series", "many_keys", "large_attributes"}
    assert "30 series" in found["many_series"]["text"]
    assert "user/id has 30 values" in found["many_series"]["text"]
    assert found["many_keys"]["count"] == 31
    assert found["large_attributes"]["trace_ids"][0] == spans[-1].trace_id.hex()


def test_dropped_and_rejected_records_are_found() -> None:
    """What SDKs dropped at their limits, and what the hub did not store."""
    with in_process_hub() as hub:
        dropped = recent_span(dropped_attributes_count=2, dropped_events_count=3)
        send(hub, "traces", trace_request(dropped, recent_span(trace_id=b"short")))
        log = LogRecord(time_unix_nano=time.time_ns(), body=AnyValue(string_value="x"), dropped_attributes_count=1)
        send(hub, "logs", log_request(log))
        assert hub.client.post("/v1/logs", content=b"notes", headers={"Content-Type": "text/plain"}).status_code == 415
        found = findings(hub)
    assert found.keys() == {"dropped_by_sdk", "rejected", "failed_request"}
    assert found["dropped_by_sdk"]["count"] == 6
    assert found["rejected"]["service"] is None
    assert "trace_id" in found["rejected"]["text"]


@pytest.mark.usefixtures("settled")
def test_records_without_a_trace_are_found() -> None:
    """Each check of log records has findings without examples if none of the records belongs to a trace."""
    late = time.time_ns() - 3600 * SECOND
    nameless = log_request(LogRecord(body=AnyValue(string_value="x")))
    nameless.resource_logs[0].ClearField("resource")
    with in_process_hub() as hub:
        send(hub, "logs", nameless)
        send(hub, "logs", log_request(LogRecord(time_unix_nano=time.time_ns(), dropped_attributes_count=3)))
        send(hub, "logs", log_request(LogRecord(time_unix_nano=late)))
        send(hub, "logs", log_request(LogRecord(time_unix_nano=time.time_ns() + 3600 * SECOND)))
        found = findings(hub)
        assert httpx.get(f"{hub.page_url}/health").status_code == 200
    assert found.keys() == {"no_service_name", "dropped_by_sdk", "late", "clock_ahead"}
    assert [finding["trace_ids"] for finding in found.values()] == [[]] * 4


def test_the_window_is_checked() -> None:
    """It is a duration; records that arrived before it are left out."""
    with in_process_hub() as hub:
        send(hub, "traces", trace_request(recent_span(dropped_events_count=1)))
        assert findings(hub, window="1h").keys() == {"dropped_by_sdk"}
        assert findings(hub, window="0s") == {}
        assert httpx.get(f"{hub.page_url}/api/health", params={"window": "long"}).status_code == 422
        assert httpx.get(f"{hub.page_url}/health", params={"window": "long"}).status_code == 422
