"""API calls of a running hub: logs, metrics, statistics, and errors of every call."""

import math
import secrets
import time
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
    Summary,
    SummaryDataPoint,
)

from modeltrace_hub.queries import reader
from modeltrace_hub.store import MAX_READERS
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, log_request, metric_request, resource, span, trace_request

NOW = time.time_ns()


def send(hub: InProcessHub, signal: str, request: Message) -> None:
    """Store a request."""
    response = hub.client.post(
        f"/v1/{signal}", content=request.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}
    )
    assert response.status_code == 200, response.text


def send_logs(hub: InProcessHub, *records: LogRecord) -> str:
    """Store log records under a unique service name, and return the name."""
    service = f"svc-{secrets.token_hex(4)}"
    scope = ScopeLogs(log_records=records)
    send(
        hub,
        "logs",
        ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=resource(service), scope_logs=[scope])]),
    )
    return service


def send_metrics(hub: InProcessHub, *items: Metric) -> None:
    """Store metrics."""
    scope = ScopeMetrics(metrics=items)
    request = ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(resource=resource(), scope_metrics=[scope])]
    )
    send(hub, "metrics", request)


def record(body: str, **fields: Any) -> LogRecord:
    """Return a log record."""
    return LogRecord(**{"time_unix_nano": NOW, "body": AnyValue(string_value=body), **fields})


def get(hub: InProcessHub, path: str, **parameters: str) -> Any:
    """Return the JSON of an API call."""
    response = httpx.get(f"{hub.page_url}/api/{path}", params=parameters, timeout=20)
    assert response.status_code == 200, response.text
    return response.json()


def bodies(hub: InProcessHub, **parameters: str) -> list[str]:
    """Return the bodies of matching log records."""
    return [log["body"] for log in get(hub, "logs", **parameters)["logs"]]


def test_the_newest_log_record_is_first(hub: InProcessHub) -> None:
    """Log records are ordered by their time, not by arrival."""
    service = send_logs(hub, record("old", time_unix_nano=NOW - 1), record("new"))

    assert bodies(hub, service=service) == ["new", "old"]


def test_log_records_are_found_by_their_trace(hub: InProcessHub) -> None:
    """`trace_id` selects the log records of a trace."""
    trace_id = secrets.token_bytes(16)
    send_logs(hub, record("mine", trace_id=trace_id), record("other"))

    assert bodies(hub, trace_id=trace_id.hex()) == ["mine"]


def test_log_records_are_found_by_severity(hub: InProcessHub) -> None:
    """`severity` is a minimum."""
    service = send_logs(hub, *(record(str(number), severity_number=number) for number in (9, 13, 14, 17)))

    assert sorted(bodies(hub, service=service, severity="warn")) == ["13", "14", "17"]


def test_log_records_are_found_by_body(hub: InProcessHub) -> None:
    """`q` is a literal part of the body; case is ignored."""
    service = send_logs(hub, record("100% Wrong"), record("100 wrong"))

    assert bodies(hub, service=service, q="0% wRONG") == ["100% Wrong"]


def test_log_records_are_found_by_attribute(hub: InProcessHub) -> None:
    """`attr.KEY=VALUE` selects by an attribute of the record."""
    service = send_logs(hub, record("yes", attributes=[attribute("a.b", "1")]), record("no"))

    assert bodies(hub, **{"service": service, "attr.a.b": "1"}) == ["yes"]


def test_log_records_are_found_by_time(hub: InProcessHub) -> None:
    """`since` and `until` apply to the time of the record."""
    service = send_logs(hub, *(record(str(second), time_unix_nano=second * 10**9) for second in (100, 200, 300)))

    assert bodies(hub, service=service, since="150", until="250") == ["200"]


def test_log_records_are_bounded(hub: InProcessHub) -> None:
    """`limit` is the maximum number of records."""
    service = send_logs(hub, *(record(str(n)) for n in range(5)))

    assert len(bodies(hub, service=service, limit="2")) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("severity", "loud"), ("trace_id", "x"), ("limit", "1001"), ("since", "?"), ("min_duration", "1s")],
)
def test_an_invalid_parameter_of_logs_is_422(hub: InProcessHub, name: str, value: str) -> None:
    """The error names the parameter."""
    response = httpx.get(f"{hub.page_url}/api/logs", params={name: value})

    assert response.status_code == 422
    assert name in response.json()["error"]["message"]


POINT = {"time_unix_nano": NOW, "attributes": [attribute("k", "v")]}
KINDS = {
    "gauge": Metric(name="of.gauge", gauge=Gauge(data_points=[NumberDataPoint(as_double=1.5, **POINT)])),
    "sum": Metric(name="of.sum", sum=Sum(data_points=[NumberDataPoint(as_int=7, **POINT)])),
    "histogram": Metric(
        name="of.histogram",
        histogram=Histogram(
            data_points=[HistogramDataPoint(count=3, bucket_counts=[1, 2], explicit_bounds=[0.5], **POINT)]
        ),
    ),
    "exponential_histogram": Metric(
        name="of.exponential_histogram",
        exponential_histogram=ExponentialHistogram(
            data_points=[
                ExponentialHistogramDataPoint(
                    count=3, scale=2, positive=ExponentialHistogramDataPoint.Buckets(bucket_counts=[1, 2]), **POINT
                )
            ]
        ),
    ),
    "summary": Metric(
        name="of.summary",
        summary=Summary(
            data_points=[
                SummaryDataPoint(
                    count=3, quantile_values=[SummaryDataPoint.ValueAtQuantile(quantile=0.5, value=2)], **POINT
                )
            ]
        ),
    ),
}
MEASURED = {
    "gauge": {"value": 1.5},
    "sum": {"value": 7, "value_int": 7},
    "histogram": {"count": 3, "bucket_counts": [1, 2], "explicit_bounds": [0.5]},
    "exponential_histogram": {"count": 3, "scale": 2, "positive_counts": [1, 2]},
    "summary": {"count": 3, "quantiles": [0.5], "quantile_values": [2]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_points_of_every_type_are_returned(hub: InProcessHub, kind: str) -> None:
    """Points of all metric types have their time, attributes and values."""
    send_metrics(hub, KINDS[kind])

    point = get(hub, "metrics", name=f"of.{kind}")["points"][0]

    assert (point["type"], point["time_ns"], point["attributes"]) == (kind, NOW, {"k": "v"})
    assert {key: point[key] for key in MEASURED[kind]} == MEASURED[kind]


def test_non_finite_numbers_are_strings(hub: InProcessHub) -> None:
    """NaN and infinities of values, sums, bounds, quantiles and exemplars are strings, as in attributes."""
    name, trace_id = f"m.{secrets.token_hex(4)}", secrets.token_bytes(16)
    nan, inf = math.nan, math.inf
    exemplar = Exemplar(time_unix_nano=NOW, as_double=nan, trace_id=trace_id, span_id=b"12345678")
    gauge = [
        NumberDataPoint(time_unix_nano=NOW, as_double=value, attributes=[attribute("k", str(value))])
        for value in (nan, inf, -inf)
    ]
    gauge[0].exemplars.append(exemplar)
    histogram = HistogramDataPoint(
        time_unix_nano=NOW, sum=inf, min=-inf, max=nan, bucket_counts=[1, 2], explicit_bounds=[inf]
    )
    exponential = ExponentialHistogramDataPoint(time_unix_nano=NOW, sum=nan, zero_threshold=inf)
    summary = SummaryDataPoint(
        time_unix_nano=NOW, sum=nan, quantile_values=[SummaryDataPoint.ValueAtQuantile(quantile=nan, value=-inf)]
    )
    send_metrics(
        hub,
        Metric(name=f"{name}.g", gauge=Gauge(data_points=gauge)),
        Metric(name=f"{name}.h", histogram=Histogram(data_points=[histogram], aggregation_temporality=2)),
        Metric(name=f"{name}.e", exponential_histogram=ExponentialHistogram(data_points=[exponential])),
        Metric(name=f"{name}.s", summary=Summary(data_points=[summary])),
    )

    def points(kind: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = get(hub, "metrics", name=f"{name}.{kind}")["points"]
        return result

    assert {point["value"] for point in points("g")} == {"NaN", "Infinity", "-Infinity"}
    (result,) = points("h")
    assert (result["sum"], result["min"], result["max"]) == ("Infinity", "-Infinity", "NaN")
    assert result["explicit_bounds"] == ["Infinity"]
    (result,) = points("e")
    assert (result["sum"], result["zero_threshold"]) == ("NaN", "Infinity")
    (result,) = points("s")
    assert (result["sum"], result["quantiles"], result["quantile_values"]) == ("NaN", ["NaN"], ["-Infinity"])
    trace = get(hub, f"traces/{trace_id.hex()}")
    assert [item["value"] for item in trace["exemplars"]] == ["NaN"]
    assert [item["value"] for metric in trace["metrics"] for item in metric["exemplars"]] == ["NaN"]
    assert {metric["value"] for metric in trace["metrics"]} == {"NaN"}


def test_metrics_are_listed_by_name(hub: InProcessHub) -> None:
    """Each metric is listed once, with unit, type, number of series and time of the last point."""
    name = f"m.{secrets.token_hex(4)}"
    points = [
        NumberDataPoint(time_unix_nano=NOW + n, as_int=n, attributes=[attribute("k", str(n % 2))]) for n in range(4)
    ]
    send_metrics(hub, Metric(name=name, unit="{thing}", description="Things.", gauge=Gauge(data_points=points)))

    (result,) = [metric for metric in get(hub, "metrics")["metrics"] if metric["name"] == name]

    assert {key: result[key] for key in ("type", "unit", "description", "series_count")} == {
        "type": "gauge",
        "unit": "{thing}",
        "description": "Things.",
        "series_count": 2,
    }


def test_the_statistics_add_up() -> None:
    """The numbers of sent, received, stored and remaining records are equal."""
    with in_process_hub() as hub:
        send(hub, "traces", trace_request(span(), span(), span(trace_id=b"short")))
        send(hub, "logs", log_request())
        send(hub, "metrics", metric_request())

        result = get(hub, "stats")

    assert {name: signal["stored"] for name, signal in result["signals"].items()} == {
        "traces": 2,
        "metrics": 1,
        "logs": 1,
    }
    assert result["signals"]["traces"]["received"] == 3
    assert result["signals"]["traces"]["rejected"] == {"trace_id": 1}


def test_services_are_in_the_statistics(hub: InProcessHub) -> None:
    """Every service with telemetry is listed, with or without spans."""
    service = send_logs(hub, record("hello"))

    (result,) = [item for item in get(hub, "stats")["services"] if item["service_name"] == service]

    assert (result["instances"], result["span_count"]) == (1, 0)
    assert result["last_seen_ns"] >= NOW


def test_an_empty_hub_returns_empty_lists() -> None:
    """An empty list is not an error."""
    with in_process_hub() as hub:
        assert get(hub, "traces") == {"traces": [], "next": None}
        assert get(hub, "logs")["logs"] == []
        assert get(hub, "metrics")["metrics"] == []
        assert get(hub, "stats")["services"] == []


def test_an_unknown_trace_of_an_empty_hub_explains_that_no_telemetry_arrived() -> None:
    """The error explains that the hub has no telemetry at all."""
    with in_process_hub() as hub:
        response = httpx.get(f"{hub.page_url}/api/traces/{secrets.token_hex(16)}")

    assert response.status_code == 404
    assert "No telemetry has arrived" in response.json()["error"]["message"]


def test_too_many_concurrent_queries_are_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that gets no cursor in time may be sent again."""
    with in_process_hub() as hub, ExitStack() as busy:
        for _ in range(MAX_READERS):
            busy.enter_context(hub.store.read())
        monkeypatch.setattr(reader, "QUERY_SECONDS", 0.05)
        response = httpx.get(f"{hub.page_url}/api/traces", timeout=20)

    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/api/nothing", "/api/traces/x/y"])
def test_an_unknown_call_is_404_in_json(hub: InProcessHub, path: str) -> None:
    """Unknown addresses below `/api` give JSON."""
    response = httpx.get(hub.page_url + path)

    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found"


def test_api_calls_accept_get_only(hub: InProcessHub) -> None:
    """The API is read-only."""
    assert httpx.delete(f"{hub.page_url}/api/traces").status_code == 405


def test_responses_are_not_cached(hub: InProcessHub) -> None:
    """API responses must not be cached."""
    assert httpx.get(f"{hub.page_url}/api/traces").headers["cache-control"] == "no-store"


def test_it_is_healthy(hub: InProcessHub) -> None:
    """`/healthz` returns 200 while the hub runs."""
    assert httpx.get(f"{hub.page_url}/healthz").status_code == 200
