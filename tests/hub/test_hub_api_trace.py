"""`GET /api/traces/{trace_id}` of a running hub: spans, logs, predictions, exemplars, metric points, explanations."""

import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from modeltrace_hub.retention import Retention
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.writer import Writer
from tests.helpers.decoding import decode
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.metric_points import gauge
from tests.helpers.otlp_messages import attribute, log_request, metric_request, resource, span, trace_request

S = 10**9
NOW = time.time_ns()
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
StartHub = Callable[..., AbstractContextManager[InProcessHub]]

ROUTE = attribute("http.route", "/predict")


def send(hub: InProcessHub, signal: str, request: Message) -> None:
    """Store a request."""
    response = hub.client.post(
        f"/v1/{signal}", content=request.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}
    )
    assert response.status_code == 200, response.text


def get(hub: InProcessHub, trace_id: bytes, **parameters: str) -> dict[str, Any]:
    """Return the JSON of a trace."""
    response = httpx.get(f"{hub.page_url}/api/traces/{trace_id.hex()}", params=parameters, timeout=20)
    assert response.status_code == 200, response.text
    result: dict[str, Any] = orjson.loads(response.content)
    return result


def request_span(**fields: Any) -> Span:
    """Return the SERVER span of a request of 30 ms."""
    return span(
        **{
            "kind": Span.SPAN_KIND_SERVER,
            "name": "POST /predict",
            "start_time_unix_nano": NOW,
            "end_time_unix_nano": NOW + 30_000_000,
            "attributes": [ROUTE],
            **fields,
        }
    )


def counter(name: str, *points: NumberDataPoint) -> Metric:
    """Return a cumulative counter."""
    return Metric(name=name, sum=Sum(data_points=points, aggregation_temporality=CUMULATIVE, is_monotonic=True))


def durations(*points: HistogramDataPoint) -> Metric:
    """Return a cumulative histogram of request durations."""
    return Metric(
        name="http.server.request.duration",
        unit="s",
        histogram=Histogram(data_points=points, aggregation_temporality=CUMULATIVE),
    )


def export(seconds: int, counts: list[int], **fields: Any) -> HistogramDataPoint:
    """Export durations some seconds after the request; the bucket bounds are 10 and 100 ms."""
    return HistogramDataPoint(
        start_time_unix_nano=NOW - 60 * S,
        time_unix_nano=NOW + seconds * S,
        explicit_bounds=[0.01, 0.1],
        bucket_counts=counts,
        count=sum(counts),
        sum=float(sum(counts)),
        attributes=[ROUTE],
        **fields,
    )


def prediction_record(trace_id: bytes, row: int, *, more: Sequence[KeyValue] = (), **fields: Any) -> LogRecord:
    """Return the prediction log record of a row."""
    return LogRecord(
        trace_id=trace_id,
        event_name="ml.prediction",
        time_unix_nano=fields.pop("time_unix_nano", NOW + 20_000_000),
        attributes=[
            KeyValue(key="ml.prediction.row", value=AnyValue(int_value=row)),
            attribute("ml.prediction.label", "benign"),
            *more,
        ],
        **fields,
    )


def test_a_span_is_returned_completely(hub: InProcessHub) -> None:
    """Names, times, parent, status, attributes, events and links are returned as they were sent."""
    sent = request_span(
        parent_span_id=b"parentid",
        events=[Span.Event(name="exception", time_unix_nano=NOW, attributes=[attribute("exception.type", "E")])],
        links=[Span.Link(trace_id=b"t" * 16, span_id=b"s" * 8)],
    )
    send(hub, "traces", trace_request(sent))

    (result,) = get(hub, sent.trace_id)["spans"]

    assert result["span_id"] == sent.span_id.hex()
    assert result["parent_span_id"] == b"parentid".hex()
    assert (result["name"], result["kind"], result["status_code"]) == ("POST /predict", "SERVER", "UNSET")
    assert (result["start_ns"], result["end_ns"], result["duration_ns"]) == (NOW, NOW + 30_000_000, 30_000_000)
    assert (result["service_name"], result["attributes"]) == ("svc", {"http.route": "/predict"})
    assert result["resource_attributes"]["service.instance.id"] == "one"
    assert result["events"][0]["attributes"] == {"exception.type": "E"}
    assert result["links"][0]["trace_id"] == (b"t" * 16).hex()


def test_large_integers_are_exact(hub: InProcessHub) -> None:
    """A 64-bit integer attribute keeps its precision."""
    sent = request_span(attributes=[KeyValue(key="n", value=AnyValue(int_value=2**63 - 1))])
    send(hub, "traces", trace_request(sent))

    assert get(hub, sent.trace_id)["spans"][0]["attributes"]["n"] == 2**63 - 1


def test_spans_are_ordered_by_start(hub: InProcessHub) -> None:
    """The order of arrival does not matter."""
    first = request_span()
    second = span(trace_id=first.trace_id, start_time_unix_nano=NOW + 1, end_time_unix_nano=NOW + 2)
    send(hub, "traces", trace_request(second, first))

    assert [item["span_id"] for item in get(hub, first.trace_id)["spans"]] == [
        first.span_id.hex(),
        second.span_id.hex(),
    ]


def test_a_span_sent_twice_is_shown_once(hub: InProcessHub) -> None:
    """A sender that gets no response sends again."""
    sent = request_span()
    send(hub, "traces", trace_request(sent))
    send(hub, "traces", trace_request(sent))

    result = get(hub, sent.trace_id)
    assert (len(result["spans"]), result["span_count"]) == (1, 1)
    assert re.search(r"\b1\Wspan<", httpx.get(f"{hub.page_url}/t/{sent.trace_id.hex()}").text)


def test_two_spans_with_one_id_are_both_shown(hub: InProcessHub) -> None:
    """Some senders use an ID twice: list, trace and page have both spans, and count a copy of them once."""
    first = request_span(name="queue process", attributes=[attribute("which", "first one")])
    second = Span.FromString(first.SerializeToString())
    second.name = "invoke function"
    second.attributes[0].value.string_value = "second one"
    send(hub, "traces", trace_request(first, second))
    send(hub, "traces", trace_request(second, first))

    result = get(hub, first.trace_id)
    assert {item["name"] for item in result["spans"]} == {"queue process", "invoke function"}
    assert (len(result["spans"]), result["span_count"]) == (2, 2)
    listed = httpx.get(f"{hub.page_url}/api/traces", params={"limit": "100", "attr.which": "first one"}).json()[
        "traces"
    ]
    assert [item["span_count"] for item in listed if item["trace_id"] == first.trace_id.hex()] == [2]
    page = httpx.get(f"{hub.page_url}/t/{first.trace_id.hex()}").text
    assert re.search(r"\b2\Wspans<", page)
    assert page.count(f'data-span="{first.span_id.hex()}"') == 2
    assert "first one" in page
    assert "second one" in page


def test_an_id_may_be_in_upper_case(hub: InProcessHub) -> None:
    """Hex digits are accepted in both cases."""
    sent = request_span(trace_id=b"\xab" * 16)
    send(hub, "traces", trace_request(sent))

    assert httpx.get(f"{hub.page_url}/api/traces/{sent.trace_id.hex().upper()}").status_code == 200


def test_log_records_are_ordered_by_time(hub: InProcessHub) -> None:
    """Each record has body, severity, logger, attributes, event name and span."""
    trace_id = secrets.token_bytes(16)
    late = LogRecord(
        trace_id=trace_id,
        span_id=b"spanspan",
        time_unix_nano=NOW + 2,
        severity_text="WARN",
        severity_number=13,
        body=AnyValue(string_value="late"),
        attributes=[attribute("k", "v")],
    )
    early = LogRecord(trace_id=trace_id, time_unix_nano=NOW + 1, event_name="started")
    scope = ScopeLogs(scope=InstrumentationScope(name="the.logger"), log_records=[late, early])
    request = ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=resource(), scope_logs=[scope])])
    send(hub, "logs", request)

    first, second = get(hub, trace_id)["logs"]

    assert first["event_name"] == "started"
    assert {key: second[key] for key in ("body", "severity_text", "severity_number", "scope_name", "attributes")} == {
        "body": "late",
        "severity_text": "WARN",
        "severity_number": 13,
        "scope_name": "the.logger",
        "attributes": {"k": "v"},
    }
    assert second["span_id"] == b"spanspan".hex()


def test_predictions_are_log_records_by_row(hub: InProcessHub) -> None:
    """The prediction log records are also among the logs."""
    trace_id = secrets.token_bytes(16)
    send(hub, "logs", log_request(*(prediction_record(trace_id, row) for row in (10, 2, 1))))

    result = get(hub, trace_id)

    assert [item["attributes"]["ml.prediction.row"] for item in result["predictions"]] == [1, 2, 10]
    assert result["prediction_count"] == result["log_count"] == len(result["logs"]) == 3


def test_lists_are_bounded(hub: InProcessHub) -> None:
    """`limit` bounds each list; the counts are those of all records."""
    trace_id = secrets.token_bytes(16)
    send(hub, "traces", trace_request(*(request_span(trace_id=trace_id) for _ in range(3))))
    send(hub, "logs", log_request(*(prediction_record(trace_id, row) for row in range(3))))

    result = get(hub, trace_id, limit="2")

    assert [len(result[part]) for part in ("spans", "logs", "predictions")] == [2, 2, 2]
    assert [result[count] for count in ("span_count", "log_count", "prediction_count")] == [3, 3, 3]


def test_an_exemplar_has_its_series(hub: InProcessHub) -> None:
    """An exemplar has name, unit and attributes of its metric, and the value of this request."""
    sent = request_span()
    mark = Exemplar(trace_id=sent.trace_id, span_id=sent.span_id, time_unix_nano=NOW + 1, as_double=0.03)
    send(hub, "metrics", metric_request(durations(export(5, [0, 1, 0], exemplars=[mark]))))

    (result,) = get(hub, sent.trace_id)["exemplars"]

    assert (result["metric_name"], result["unit"], result["value"]) == ("http.server.request.duration", "s", 0.03)
    assert (result["span_id"], result["time_ns"]) == (sent.span_id.hex(), NOW + 1)
    assert result["attributes"] == {"http.route": "/predict"}


def test_a_request_without_an_exemplar_has_points(start_hub: StartHub) -> None:
    """The first export after the request is found by attributes, with the increase of its interval and the bucket."""
    sent = request_span()
    points = [export(seconds, counts) for seconds, counts in ((-5, [4, 1, 0]), (5, [6, 2, 0]), (10, [9, 9, 9]))]
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(durations(*points)))

        (point,) = get(hub, sent.trace_id)["metrics"]

    assert (point["time_ns"], point["exemplars"]) == (NOW + 5 * S, [])
    assert (point["interval"]["start_ns"], point["interval"]["end_ns"]) == (NOW - 5 * S, NOW + 5 * S)
    assert (point["interval"]["count"], point["interval"]["bucket_counts"]) == (3, [2, 1, 0])
    assert point["bucket"] == 1


def test_a_point_without_an_increase_is_left_out(start_hub: StartHub) -> None:
    """A point whose count did not change in its interval cannot have counted the request."""
    sent = request_span()
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(durations(export(-5, [4, 1, 0]), export(5, [4, 1, 0]))))

        assert get(hub, sent.trace_id)["metrics"] == []


def test_a_point_sent_twice_counts_once(start_hub: StartHub) -> None:
    """The interval starts at the previous export, not at a copy of the point."""
    sent = request_span()
    points = [export(-5, [4, 1, 0]), export(5, [6, 2, 0]), export(5, [6, 2, 0])]
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(durations(*points)))

        (point,) = get(hub, sent.trace_id)["metrics"]

    assert point["interval"]["bucket_counts"] == [2, 1, 0]


def test_an_exemplar_is_marked_on_its_point(start_hub: StartHub) -> None:
    """The point of an exemplar of the trace is returned whatever its attributes are."""
    sent = request_span(attributes=[attribute("http.route", "/other")])
    mark = Exemplar(trace_id=sent.trace_id, span_id=sent.span_id, time_unix_nano=NOW + 1, as_double=0.5)
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(durations(export(5, [0, 0, 1], exemplars=[mark]))))

        (point,) = get(hub, sent.trace_id)["metrics"]

    assert [item["value"] for item in point["exemplars"]] == [0.5]
    assert point["bucket"] == 2


@pytest.mark.slow
def test_a_series_of_another_route_does_not_match(start_hub: StartHub) -> None:
    """A point matches only if all its attributes match."""
    sent = request_span(attributes=[attribute("http.route", "/other")])
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(durations(export(5, [1, 0, 0]))))

        assert get(hub, sent.trace_id)["metrics"] == []


def test_gauges_do_not_match(start_hub: StartHub) -> None:
    """Gauges and series without attributes cannot be assigned to a request."""
    sent = request_span()
    gauge = Metric(
        name="g", gauge=Gauge(data_points=[NumberDataPoint(time_unix_nano=NOW + S, as_int=1, attributes=[ROUTE])])
    )
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(gauge, counter("c", NumberDataPoint(time_unix_nano=NOW + S, as_int=1))))

        assert get(hub, sent.trace_id)["metrics"] == []


def test_a_counter_matches_a_prediction_log_record(start_hub: StartHub) -> None:
    """The label is an attribute of the prediction log record, not only of a span."""
    sent = request_span()
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "logs", log_request(prediction_record(sent.trace_id, 0, span_id=sent.span_id)))
        labels = [
            NumberDataPoint(time_unix_nano=NOW + S, as_int=1, attributes=[attribute("ml.prediction.label", label)])
            for label in ("benign", "malignant")
        ]
        send(hub, "metrics", metric_request(counter("ml.predictions", *labels)))

        (point,) = get(hub, sent.trace_id)["metrics"]

    assert point["attributes"] == {"ml.prediction.label": "benign"}


def test_a_batch_is_shown_in_every_interval_that_measured_it(start_hub: StartHub) -> None:
    """Rows measured before and after an export count in both intervals; there is no single value of the request."""
    batch, label = request_span(), attribute("ml.prediction.label", "benign")
    records = [
        prediction_record(batch.trace_id, row, time_unix_nano=NOW + seconds * S, more=[confidence])
        for row, (seconds, confidence) in enumerate(
            (seconds, KeyValue(key="ml.prediction.confidence", value=AnyValue(double_value=value)))
            for seconds, value in ((1, 0.7), (4, 0.9))
        )
    ]
    points = [
        HistogramDataPoint(
            start_time_unix_nano=NOW - 60 * S, time_unix_nano=NOW + seconds * S, attributes=[label],
            explicit_bounds=[0.8], bucket_counts=counts, count=sum(counts), sum=1.0,
        )
        for seconds, counts in ((0, [5, 5]), (2, [6, 5]), (5, [6, 6]), (8, [9, 9]))
    ]  # fmt: skip
    confidences = Metric(
        name="ml.prediction.confidence", histogram=Histogram(data_points=points, aggregation_temporality=CUMULATIVE)
    )
    with start_hub() as hub:
        send(hub, "traces", trace_request(batch))
        send(hub, "logs", log_request(*records))
        send(hub, "metrics", metric_request(confidences))
        result = get(hub, batch.trace_id)["metrics"]

    assert [item["interval"]["bucket_counts"] for item in result] == [[1, 0], [0, 1]]
    assert [item["request_value"] for item in result] == [None, None]


def test_a_stage_that_did_not_run_does_not_match(start_hub: StartHub) -> None:
    """A rejected request has no `inference` span, so the metric of inference durations does not match."""
    sent = request_span(attributes=[attribute("ml.model.name", "m")])
    point = export(5, [1, 0, 0])
    point.attributes[0].CopyFrom(attribute("ml.model.name", "m"))
    metric = Metric(
        name="ml.inference.duration",
        unit="s",
        histogram=Histogram(data_points=[point], aggregation_temporality=CUMULATIVE),
    )
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(metric))

        assert get(hub, sent.trace_id)["metrics"] == []


def test_a_span_inherits_attributes_from_its_parent(start_hub: StartHub) -> None:
    """A series with a model name matches a span below the span with this attribute."""
    request = request_span(attributes=[attribute("http.route", "/other"), attribute("ml.model.name", "m")])
    stage = request_span(
        trace_id=request.trace_id, parent_span_id=request.span_id, name="inference", kind=1, attributes=[]
    )
    point = export(5, [0, 1, 0])
    point.attributes[0].CopyFrom(attribute("ml.model.name", "m"))
    metric = Metric(
        name="ml.inference.duration",
        unit="s",
        histogram=Histogram(data_points=[point], aggregation_temporality=CUMULATIVE),
    )
    with start_hub() as hub:
        send(hub, "traces", trace_request(request, stage))
        send(hub, "metrics", metric_request(metric))

        (result,) = get(hub, request.trace_id)["metrics"]

    assert (result["name"], result["bucket"]) == ("ml.inference.duration", 1)


@pytest.mark.parametrize("with_exemplar", [True, False])
def test_a_label_metric_matches_by_exemplar_only(start_hub: StartHub, *, with_exemplar: bool) -> None:
    """The delay metric has the attributes of every prediction of the version, but measures one of them."""
    request = request_span(attributes=[attribute("ml.model.version", "1")])
    exemplar = Exemplar(time_unix_nano=NOW, as_double=3.0, trace_id=request.trace_id, span_id=request.span_id)
    point = HistogramDataPoint(
        attributes=[attribute("ml.model.version", "1")],
        start_time_unix_nano=NOW - 10**9,
        time_unix_nano=NOW + 2 * 10**9,
        count=1,
        sum=3.0,
        bucket_counts=[1, 0],
        explicit_bounds=[10.0],
        exemplars=[exemplar] if with_exemplar else [],
    )
    metric = Metric(
        name="ml.feedback.delay",
        unit="s",
        histogram=Histogram(data_points=[point], aggregation_temporality=CUMULATIVE),
    )
    with start_hub() as hub:
        send(hub, "traces", trace_request(request))
        send(hub, "metrics", metric_request(metric))

        result = get(hub, request.trace_id)["metrics"]

    assert [item["name"] for item in result] == (["ml.feedback.delay"] if with_exemplar else [])


@pytest.mark.parametrize("circle", [True, False])
def test_any_nesting_is_accepted(hub: InProcessHub, *, circle: bool) -> None:
    """A chain of a thousand nested spans and a cycle of parents are valid traces."""
    trace_id, count = secrets.token_bytes(16), 1000
    names = [secrets.token_bytes(8) for _ in range(count)]
    send(
        hub,
        "traces",
        trace_request(
            *(
                request_span(trace_id=trace_id, span_id=names[n], parent_span_id=names[n - 1] if n or circle else b"")
                for n in range(count)
            )
        ),
    )

    assert len(get(hub, trace_id)["spans"]) == count


def test_missing_spans_are_explained(hub: InProcessHub) -> None:
    """A trace with log records only is returned, with the reasons for the empty parts."""
    trace_id = secrets.token_bytes(16)
    send(hub, "logs", log_request(LogRecord(trace_id=trace_id, time_unix_nano=NOW, flags=1)))

    reasons = get(hub, trace_id)["empty_reasons"]

    assert "No spans have arrived" in reasons["spans"]
    assert reasons["logs"] is None
    assert "exemplar" in reasons["exemplars"]


def test_telemetry_on_the_disk_of_the_service_is_the_reason(start_hub: StartHub) -> None:
    """If a service reports spooled items, they explain missing records, with their number, instead of a sampler."""
    trace_id = secrets.token_bytes(16)
    spooled = gauge(
        "modeltrace.sidecar.spooled",
        "1",
        [((("modeltrace.signal", "traces"),), 8410.0), ((("modeltrace.signal", "logs"),), 7.0)],
        time.time_ns(),
    )
    with start_hub() as hub:
        send(hub, "metrics", metric_request(spooled))
        send(hub, "logs", log_request(LogRecord(trace_id=trace_id, time_unix_nano=NOW, flags=1)))

        reasons = get(hub, trace_id)["empty_reasons"]
        unknown = httpx.get(f"{hub.page_url}/api/traces/{secrets.token_hex(16)}").json()["error"]["message"]
        pages = [httpx.get(f"{hub.page_url}{path}").text for path in (f"/t/{trace_id.hex()}", "/")]

    for text in (reasons["spans"], unknown, *pages):
        assert "8,410 spans of " in text
        assert "sampler" not in text
    assert "7 log records of " in reasons["predictions"]


def test_log_records_show_that_a_trace_was_not_sampled(hub: InProcessHub) -> None:
    """The sampled flag of log records explains missing spans."""
    trace_id = secrets.token_bytes(16)
    send(hub, "logs", log_request(LogRecord(trace_id=trace_id, time_unix_nano=NOW, flags=0)))

    assert "not sampled" in get(hub, trace_id)["empty_reasons"]["spans"]


def test_an_unknown_trace_is_404_with_reasons(hub: InProcessHub) -> None:
    """The error names the possible reasons: not arrived, or dropped by a sampler."""
    send(hub, "traces", trace_request())

    response = httpx.get(f"{hub.page_url}/api/traces/{secrets.token_hex(16)}")

    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found"
    assert "sampler" in response.json()["error"]["message"]


def test_an_unknown_trace_may_have_been_deleted(start_hub: StartHub, tmp_path: Path) -> None:
    """After a deletion by retention, it is among the possible reasons."""
    store = Store(tmp_path / FILE_NAME)
    retention = Retention(store, max_age=timedelta(days=7), max_size=2**30)
    writer = Writer(store, retention)
    writer.start()
    for received_ns in (1, time.time_ns()):
        writer.submit(decode(trace_request(), received_ns)).result(20)
    writer.close()
    retention.enforce(time.time_ns())
    store.close()

    with start_hub(memory=False, data=tmp_path) as hub:
        send(hub, "traces", trace_request())
        response = httpx.get(f"{hub.page_url}/api/traces/{secrets.token_hex(16)}")

    assert "deleted" in response.json()["error"]["message"]


@pytest.mark.parametrize("trace_id", ["zz", "0" * 31, "0" * 33, "g" * 32])
def test_an_invalid_trace_id_is_422(hub: InProcessHub, trace_id: str) -> None:
    """The error names the parameter."""
    response = httpx.get(f"{hub.page_url}/api/traces/{trace_id}")

    assert response.status_code == 422
    assert "trace_id" in response.json()["error"]["message"]
