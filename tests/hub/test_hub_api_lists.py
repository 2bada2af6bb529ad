"""The other JSON calls of a hub that listens: logs, metrics, figures; and how every call fails."""

import functools
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

from modeltrace_hub.store import READERS
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, log_request, metric_request, resource, span, trace_request

NOW = time.time_ns()


def send(hub: InProcessHub, signal: str, request: Message) -> None:
    """Store a request."""
    answer = hub.client.post(
        f"/v1/{signal}", content=request.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}
    )
    assert answer.status_code == 200, answer.text


def send_logs(hub: InProcessHub, *records: LogRecord) -> str:
    """Store log records under a service's name that no other test has; the name."""
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
    """A log record."""
    return LogRecord(**{"time_unix_nano": NOW, "body": AnyValue(string_value=body), **fields})


def ask(hub: InProcessHub, path: str, **parameters: str) -> Any:
    """The answer to a call."""
    answer = httpx.get(f"{hub.page}/api/{path}", params=parameters, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def bodies(hub: InProcessHub, **parameters: str) -> list[str]:
    """The bodies of the log records found."""
    return [log["body"] for log in ask(hub, "logs", **parameters)["logs"]]


def test_the_newest_log_record_is_first(hub: InProcessHub) -> None:
    """By the time of the record, not of its arrival."""
    service = send_logs(hub, record("old", time_unix_nano=NOW - 1), record("new"))

    assert bodies(hub, service=service) == ["new", "old"]


def test_log_records_are_found_by_their_trace(hub: InProcessHub) -> None:
    """`trace_id` finds those that were written in it."""
    trace_id = secrets.token_bytes(16)
    send_logs(hub, record("mine", trace_id=trace_id), record("other"))

    assert bodies(hub, trace_id=trace_id.hex()) == ["mine"]


def test_log_records_are_found_by_severity(hub: InProcessHub) -> None:
    """`severity` is the lowest one answered."""
    service = send_logs(hub, *(record(str(number), severity_number=number) for number in (9, 13, 14, 17)))

    assert sorted(bodies(hub, service=service, severity="warn")) == ["13", "14", "17"]


def test_log_records_are_found_by_their_words(hub: InProcessHub) -> None:
    """`q` is a part of the body, in any case of letters, and taken literally."""
    service = send_logs(hub, record("100% Wrong"), record("100 wrong"))

    assert bodies(hub, service=service, q="0% wRONG") == ["100% Wrong"]


def test_log_records_are_found_by_attribute(hub: InProcessHub) -> None:
    """`attr.KEY=VALUE` asks for an attribute of the record."""
    service = send_logs(hub, record("yes", attributes=[attribute("a.b", "1")]), record("no"))

    assert bodies(hub, **{"service": service, "attr.a.b": "1"}) == ["yes"]


def test_log_records_are_found_by_time(hub: InProcessHub) -> None:
    """`since` and `until` are about the record's time."""
    service = send_logs(hub, *(record(str(second), time_unix_nano=second * 10**9) for second in (100, 200, 300)))

    assert bodies(hub, service=service, since="150", until="250") == ["200"]


def test_log_records_are_bounded(hub: InProcessHub) -> None:
    """No more than `limit` are answered."""
    service = send_logs(hub, *(record(str(n)) for n in range(5)))

    assert len(bodies(hub, service=service, limit="2")) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("severity", "loud"), ("trace_id", "x"), ("limit", "1001"), ("since", "?"), ("min_duration", "1s")],
)
def test_a_bad_parameter_of_logs_is_422(hub: InProcessHub, name: str, value: str) -> None:
    """The answer names the parameter."""
    answer = httpx.get(f"{hub.page}/api/logs", params={name: value})

    assert answer.status_code == 422
    assert name in answer.json()["error"]["message"]


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
def test_the_points_of_every_type_are_answered(hub: InProcessHub, kind: str) -> None:
    """Time, attributes and what was measured, whatever the metric's type."""
    send_metrics(hub, KINDS[kind])

    point = ask(hub, "metrics", name=f"of.{kind}")["points"][0]

    assert (point["type"], point["time_ns"], point["attributes"]) == (kind, NOW, {"k": "v"})
    assert {key: point[key] for key in MEASURED[kind]} == MEASURED[kind]


def test_numbers_that_json_lacks_are_words(hub: InProcessHub) -> None:
    """Not-a-number and the infinities of values, sums, bounds, quantiles and exemplars, as in attributes."""
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
        found: list[dict[str, Any]] = ask(hub, "metrics", name=f"{name}.{kind}")["points"]
        return found

    assert {point["value"] for point in points("g")} == {"NaN", "Infinity", "-Infinity"}
    (found,) = points("h")
    assert (found["sum"], found["min"], found["max"]) == ("Infinity", "-Infinity", "NaN")
    assert found["explicit_bounds"] == ["Infinity"]
    (found,) = points("e")
    assert (found["sum"], found["zero_threshold"]) == ("NaN", "Infinity")
    (found,) = points("s")
    assert (found["sum"], found["quantiles"], found["quantile_values"]) == ("NaN", ["NaN"], ["-Infinity"])
    trace = ask(hub, f"traces/{trace_id.hex()}")
    assert [one["value"] for one in trace["exemplars"]] == ["NaN"]
    assert [one["value"] for metric in trace["metrics"] for one in metric["exemplars"]] == ["NaN"]
    assert {metric["value"] for metric in trace["metrics"]} == {"NaN"}


def test_metrics_are_listed_by_name(hub: InProcessHub) -> None:
    """Each once, with unit, type, how many series it has and when it was last measured."""
    name = f"m.{secrets.token_hex(4)}"
    points = [
        NumberDataPoint(time_unix_nano=NOW + n, as_int=n, attributes=[attribute("k", str(n % 2))]) for n in range(4)
    ]
    send_metrics(hub, Metric(name=name, unit="{thing}", description="Things.", gauge=Gauge(data_points=points)))

    (found,) = [metric for metric in ask(hub, "metrics")["metrics"] if metric["name"] == name]

    assert {key: found[key] for key in ("type", "unit", "description", "series_count")} == {
        "type": "gauge",
        "unit": "{thing}",
        "description": "Things.",
        "series_count": 2,
    }


def test_the_figures_add_up() -> None:
    """What was sent is what was received, stored and kept."""
    with in_process_hub() as hub:
        send(hub, "traces", trace_request(span(), span(), span(trace_id=b"short")))
        send(hub, "logs", log_request())
        send(hub, "metrics", metric_request())

        found = ask(hub, "stats")

    assert {name: signal["stored"] for name, signal in found["signals"].items()} == {
        "traces": 2,
        "metrics": 1,
        "logs": 1,
    }
    assert found["signals"]["traces"]["received"] == 3
    assert found["signals"]["traces"]["rejected"] == {"trace_id": 1}


def test_services_are_listed_with_the_figures(hub: InProcessHub) -> None:
    """Whoever has sent something is named, spans or not."""
    service = send_logs(hub, record("hello"))

    (found,) = [one for one in ask(hub, "stats")["services"] if one["service_name"] == service]

    assert (found["instances"], found["span_count"]) == (1, 0)
    assert found["last_seen_ns"] >= NOW


def test_a_hub_with_nothing_answers_everything() -> None:
    """Empty lists are no errors."""
    with in_process_hub() as hub:
        assert ask(hub, "traces") == {"traces": [], "next": None}
        assert ask(hub, "logs")["logs"] == []
        assert ask(hub, "metrics")["metrics"] == []
        assert ask(hub, "stats")["services"] == []


def test_an_unknown_trace_of_an_empty_hub_says_that_nothing_arrived() -> None:
    """The reason is not the trace."""
    with in_process_hub() as hub:
        answer = httpx.get(f"{hub.page}/api/traces/{secrets.token_hex(16)}")

    assert answer.status_code == 404
    assert "Nothing at all" in answer.json()["error"]["message"]


def test_too_many_questions_at_a_time_are_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that got no turn may be put again."""
    with in_process_hub() as hub, ExitStack() as busy:
        for _ in range(READERS):
            busy.enter_context(hub.store.read())
        monkeypatch.setattr(hub.store, "read", functools.partial(hub.store.read, 0.05))
        answer = httpx.get(f"{hub.page}/api/traces", timeout=20)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/api/nothing", "/api/traces/x/y"])
def test_an_unknown_call_is_404_in_json(hub: InProcessHub, path: str) -> None:
    """The API speaks JSON even then."""
    answer = httpx.get(hub.page + path)

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found"


def test_a_call_takes_no_other_method(hub: InProcessHub) -> None:
    """Reading is all the API does."""
    assert httpx.delete(f"{hub.page}/api/traces").status_code == 405


def test_answers_are_not_kept_by_browsers(hub: InProcessHub) -> None:
    """What was true a moment ago is not now."""
    assert httpx.get(f"{hub.page}/api/traces").headers["cache-control"] == "no-store"


def test_it_is_healthy(hub: InProcessHub) -> None:
    """`/healthz` answers 200 as long as the hub runs."""
    assert httpx.get(f"{hub.page}/healthz").status_code == 200
