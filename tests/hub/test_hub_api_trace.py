"""`GET /api/traces/{trace_id}` of a hub that listens: spans, logs, predictions, exemplars, contributions, and words."""

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

from modeltrace_hub.decode.traces import decode
from modeltrace_hub.retention import Retention
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.writer import Writer
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.otlp_messages import attribute, log_request, metric_request, resource, span, trace_request

S = 10**9
NOW = time.time_ns()
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
StartHub = Callable[..., AbstractContextManager[InProcessHub]]

ROUTE = attribute("http.route", "/predict")


def send(hub: InProcessHub, signal: str, request: Message) -> None:
    """Store a request."""
    answer = hub.client.post(
        f"/v1/{signal}", content=request.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}
    )
    assert answer.status_code == 200, answer.text


def ask(hub: InProcessHub, trace_id: bytes, **parameters: str) -> dict[str, Any]:
    """What is kept of a trace."""
    answer = httpx.get(f"{hub.page}/api/traces/{trace_id.hex()}", params=parameters, timeout=20)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = orjson.loads(answer.content)
    return found


def request_span(**fields: Any) -> Span:
    """The SERVER span of a request that took 30 ms."""
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
    """A cumulative counter."""
    return Metric(name=name, sum=Sum(data_points=points, aggregation_temporality=CUMULATIVE, is_monotonic=True))


def durations(*points: HistogramDataPoint) -> Metric:
    """The cumulative histogram of request durations."""
    return Metric(
        name="http.server.request.duration",
        unit="s",
        histogram=Histogram(data_points=points, aggregation_temporality=CUMULATIVE),
    )


def export(seconds: int, counts: list[int], **fields: Any) -> HistogramDataPoint:
    """What was exported so many seconds after the request; buckets end at 10 and 100 ms."""
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


def audit(trace_id: bytes, row: int, *, more: Sequence[KeyValue] = (), **fields: Any) -> LogRecord:
    """The audit record of one row."""
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


def test_a_span_comes_back_whole(hub: InProcessHub) -> None:
    """Names, times, parent, status, attributes, events and links are as they were sent."""
    sent = request_span(
        parent_span_id=b"parentid",
        events=[Span.Event(name="exception", time_unix_nano=NOW, attributes=[attribute("exception.type", "E")])],
        links=[Span.Link(trace_id=b"t" * 16, span_id=b"s" * 8)],
    )
    send(hub, "traces", trace_request(sent))

    (found,) = ask(hub, sent.trace_id)["spans"]

    assert found["span_id"] == sent.span_id.hex()
    assert found["parent_span_id"] == b"parentid".hex()
    assert (found["name"], found["kind"], found["status_code"]) == ("POST /predict", "SERVER", "UNSET")
    assert (found["start_ns"], found["end_ns"], found["duration_ns"]) == (NOW, NOW + 30_000_000, 30_000_000)
    assert (found["service_name"], found["attributes"]) == ("svc", {"http.route": "/predict"})
    assert found["resource_attributes"]["service.instance.id"] == "one"
    assert found["events"][0]["attributes"] == {"exception.type": "E"}
    assert found["links"][0]["trace_id"] == (b"t" * 16).hex()


def test_large_integers_are_exact(hub: InProcessHub) -> None:
    """An attribute of 64 bits loses none of them."""
    sent = request_span(attributes=[KeyValue(key="n", value=AnyValue(int_value=2**63 - 1))])
    send(hub, "traces", trace_request(sent))

    assert ask(hub, sent.trace_id)["spans"][0]["attributes"]["n"] == 2**63 - 1


def test_spans_are_ordered_by_start(hub: InProcessHub) -> None:
    """In whatever order they arrive."""
    first = request_span()
    second = span(trace_id=first.trace_id, start_time_unix_nano=NOW + 1, end_time_unix_nano=NOW + 2)
    send(hub, "traces", trace_request(second, first))

    assert [one["span_id"] for one in ask(hub, first.trace_id)["spans"]] == [first.span_id.hex(), second.span_id.hex()]


def test_a_span_sent_twice_is_shown_once(hub: InProcessHub) -> None:
    """A sender that got no answer sends again."""
    sent = request_span()
    send(hub, "traces", trace_request(sent))
    send(hub, "traces", trace_request(sent))

    found = ask(hub, sent.trace_id)
    assert (len(found["spans"]), found["span_count"]) == (1, 1)
    assert re.search(r"\b1\Wspan<", httpx.get(f"{hub.page}/t/{sent.trace_id.hex()}").text)


def test_two_spans_with_one_id_are_both_shown(hub: InProcessHub) -> None:
    """Some senders use an ID twice: list, trace and page have both, and count a repetition of them once."""
    first = request_span(name="queue process", attributes=[attribute("which", "first one")])
    second = Span.FromString(first.SerializeToString())
    second.name = "invoke function"
    second.attributes[0].value.string_value = "second one"
    send(hub, "traces", trace_request(first, second))
    send(hub, "traces", trace_request(second, first))

    found = ask(hub, first.trace_id)
    assert {one["name"] for one in found["spans"]} == {"queue process", "invoke function"}
    assert (len(found["spans"]), found["span_count"]) == (2, 2)
    listed = httpx.get(f"{hub.page}/api/traces", params={"limit": "100", "attr.which": "first one"}).json()["traces"]
    assert [one["span_count"] for one in listed if one["trace_id"] == first.trace_id.hex()] == [2]
    page = httpx.get(f"{hub.page}/t/{first.trace_id.hex()}").text
    assert re.search(r"\b2\Wspans<", page)
    assert page.count(f'data-span="{first.span_id.hex()}"') == 2
    assert "first one" in page
    assert "second one" in page


def test_an_id_may_be_written_in_capitals(hub: InProcessHub) -> None:
    """Hex is hex."""
    sent = request_span(trace_id=b"\xab" * 16)
    send(hub, "traces", trace_request(sent))

    assert httpx.get(f"{hub.page}/api/traces/{sent.trace_id.hex().upper()}").status_code == 200


def test_log_records_come_in_the_order_of_time(hub: InProcessHub) -> None:
    """Each with body, severity, logger, attributes, event and span."""
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

    first, second = ask(hub, trace_id)["logs"]

    assert first["event_name"] == "started"
    assert {key: second[key] for key in ("body", "severity_text", "severity_number", "scope_name", "attributes")} == {
        "body": "late",
        "severity_text": "WARN",
        "severity_number": 13,
        "scope_name": "the.logger",
        "attributes": {"k": "v"},
    }
    assert second["span_id"] == b"spanspan".hex()


def test_predictions_are_the_audit_records_by_row(hub: InProcessHub) -> None:
    """They are among the logs too, since that is what they are."""
    trace_id = secrets.token_bytes(16)
    send(hub, "logs", log_request(*(audit(trace_id, row) for row in (10, 2, 1))))

    found = ask(hub, trace_id)

    assert [one["attributes"]["ml.prediction.row"] for one in found["predictions"]] == [1, 2, 10]
    assert found["prediction_count"] == found["log_count"] == len(found["logs"]) == 3


def test_what_is_answered_is_bounded(hub: InProcessHub) -> None:
    """`limit` bounds each list; the counts are of all there is."""
    trace_id = secrets.token_bytes(16)
    send(hub, "traces", trace_request(*(request_span(trace_id=trace_id) for _ in range(3))))
    send(hub, "logs", log_request(*(audit(trace_id, row) for row in range(3))))

    found = ask(hub, trace_id, limit="2")

    assert [len(found[part]) for part in ("spans", "logs", "predictions")] == [2, 2, 2]
    assert [found[count] for count in ("span_count", "log_count", "prediction_count")] == [3, 3, 3]


def test_an_exemplar_stands_with_its_series(hub: InProcessHub) -> None:
    """An exemplar has the metric's name, unit and attributes, and the value of this request."""
    sent = request_span()
    mark = Exemplar(trace_id=sent.trace_id, span_id=sent.span_id, time_unix_nano=NOW + 1, as_double=0.03)
    send(hub, "metrics", metric_request(durations(export(5, [0, 1, 0], exemplars=[mark]))))

    (found,) = ask(hub, sent.trace_id)["exemplars"]

    assert (found["metric_name"], found["unit"], found["value"]) == ("http.server.request.duration", "s", 0.03)
    assert (found["span_id"], found["time_ns"]) == (sent.span_id.hex(), NOW + 1)
    assert found["attributes"] == {"http.route": "/predict"}


def test_a_request_without_an_exemplar_still_counted(start_hub: StartHub) -> None:
    """The first export after it holds it: found by its attributes, with what that interval added and its bucket."""
    sent = request_span()
    points = [export(seconds, counts) for seconds, counts in ((-5, [4, 1, 0]), (5, [6, 2, 0]), (10, [9, 9, 9]))]
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(durations(*points)))

        (point,) = ask(hub, sent.trace_id)["metrics"]

    assert (point["time_ns"], point["exemplars"]) == (NOW + 5 * S, [])
    assert (point["interval"]["start_ns"], point["interval"]["end_ns"]) == (NOW - 5 * S, NOW + 5 * S)
    assert (point["interval"]["count"], point["interval"]["bucket_counts"]) == (3, [2, 1, 0])
    assert point["bucket"] == 1


def test_a_point_sent_twice_counts_once(start_hub: StartHub) -> None:
    """The interval runs from the export before, not from the same one sent again."""
    sent = request_span()
    points = [export(-5, [4, 1, 0]), export(5, [6, 2, 0]), export(5, [6, 2, 0])]
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(durations(*points)))

        (point,) = ask(hub, sent.trace_id)["metrics"]

    assert point["interval"]["bucket_counts"] == [2, 1, 0]


def test_an_exemplar_is_marked_on_its_point(start_hub: StartHub) -> None:
    """The point that names the trace carries the exemplar, whatever its attributes say."""
    sent = request_span(attributes=[attribute("http.route", "/other")])
    mark = Exemplar(trace_id=sent.trace_id, span_id=sent.span_id, time_unix_nano=NOW + 1, as_double=0.5)
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(durations(export(5, [0, 0, 1], exemplars=[mark]))))

        (point,) = ask(hub, sent.trace_id)["metrics"]

    assert [one["value"] for one in point["exemplars"]] == [0.5]
    assert point["bucket"] == 2


def test_a_series_of_another_route_is_not_claimed(start_hub: StartHub) -> None:
    """A point counts as contributed to only when each of its attributes fits."""
    sent = request_span(attributes=[attribute("http.route", "/other")])
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(durations(export(5, [1, 0, 0]))))

        assert ask(hub, sent.trace_id)["metrics"] == []


def test_what_holds_a_state_is_not_claimed(start_hub: StartHub) -> None:
    """Gauges and series without attributes tell no request from another."""
    sent = request_span()
    gauge = Metric(
        name="g", gauge=Gauge(data_points=[NumberDataPoint(time_unix_nano=NOW + S, as_int=1, attributes=[ROUTE])])
    )
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "metrics", metric_request(gauge, counter("c", NumberDataPoint(time_unix_nano=NOW + S, as_int=1))))

        assert ask(hub, sent.trace_id)["metrics"] == []


def test_a_counter_is_found_by_the_audit_record(start_hub: StartHub) -> None:
    """The label stands on the record of the prediction, not only on a span."""
    sent = request_span()
    with start_hub() as hub:
        send(hub, "traces", trace_request(sent))
        send(hub, "logs", log_request(audit(sent.trace_id, 0, span_id=sent.span_id)))
        labels = [
            NumberDataPoint(time_unix_nano=NOW + S, as_int=1, attributes=[attribute("ml.prediction.label", label)])
            for label in ("benign", "malignant")
        ]
        send(hub, "metrics", metric_request(counter("ml.predictions", *labels)))

        (point,) = ask(hub, sent.trace_id)["metrics"]

    assert point["attributes"] == {"ml.prediction.label": "benign"}


def test_a_batch_is_shown_in_every_interval_that_measured_it(start_hub: StartHub) -> None:
    """Rows recorded before and after an export count in both; no single value is claimed for all of them."""
    batch, label = request_span(), attribute("ml.prediction.label", "benign")
    records = [
        audit(batch.trace_id, row, time_unix_nano=NOW + seconds * S, more=[confidence])
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
        found = ask(hub, batch.trace_id)["metrics"]

    assert [one["interval"]["bucket_counts"] for one in found] == [[1, 0], [0, 1]]
    assert [one["request_value"] for one in found] == [None, None]


def test_a_stage_that_did_not_run_is_not_claimed(start_hub: StartHub) -> None:
    """A refused request has no `inference` span, so it added nothing to the duration of inferences."""
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

        assert ask(hub, sent.trace_id)["metrics"] == []


def test_what_a_stage_does_not_say_the_request_around_it_does(start_hub: StartHub) -> None:
    """A series that names the model is found by a span inside of the one that knows it."""
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

        (found,) = ask(hub, request.trace_id)["metrics"]

    assert (found["name"], found["bucket"]) == ("ml.inference.duration", 1)


@pytest.mark.parametrize("told", [True, False])
def test_a_label_is_told_by_its_exemplar_alone(start_hub: StartHub, *, told: bool) -> None:
    """Its delay has the attributes of every prediction of that version, but is of one of them."""
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
        exemplars=[exemplar] if told else [],
    )
    metric = Metric(
        name="ml.feedback.delay",
        unit="s",
        histogram=Histogram(data_points=[point], aggregation_temporality=CUMULATIVE),
    )
    with start_hub() as hub:
        send(hub, "traces", trace_request(request))
        send(hub, "metrics", metric_request(metric))

        found = ask(hub, request.trace_id)["metrics"]

    assert [one["name"] for one in found] == (["ml.feedback.delay"] if told else [])


@pytest.mark.parametrize("circle", [True, False])
def test_any_nesting_is_answered(hub: InProcessHub, *, circle: bool) -> None:
    """A thousand spans, each inside of the one before, and spans that are each other's parents, are a trace too."""
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

    assert len(ask(hub, trace_id)["spans"]) == count


def test_log_records_alone_say_that_spans_are_missing(hub: InProcessHub) -> None:
    """Without spans the trace is there all the same, and says in words what is not."""
    trace_id = secrets.token_bytes(16)
    send(hub, "logs", log_request(LogRecord(trace_id=trace_id, time_unix_nano=NOW, flags=1)))

    status = ask(hub, trace_id)["status"]

    assert "No spans have arrived" in status["spans"]
    assert status["logs"] is None
    assert "exemplar" in status["exemplars"]


def test_log_records_tell_that_a_trace_was_not_sampled(hub: InProcessHub) -> None:
    """Their flags hold the decision."""
    trace_id = secrets.token_bytes(16)
    send(hub, "logs", log_request(LogRecord(trace_id=trace_id, time_unix_nano=NOW, flags=0)))

    assert "not sampled" in ask(hub, trace_id)["status"]["spans"]


def test_an_unknown_trace_is_404_with_reasons(hub: InProcessHub) -> None:
    """Not arrived, or left out by a sampler: the answer says what may be."""
    send(hub, "traces", trace_request())

    answer = httpx.get(f"{hub.page}/api/traces/{secrets.token_hex(16)}")

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found"
    assert "sampler" in answer.json()["error"]["message"]


def test_an_unknown_trace_may_have_been_deleted(start_hub: StartHub, tmp_path: Path) -> None:
    """Once something was deleted over the limits, that is among the reasons."""
    store = Store(tmp_path / FILE_NAME)
    retention = Retention(store, max_age=timedelta(days=7), max_size=2**30)
    writer = Writer(store, retention)
    writer.start()
    for received_ns in (1, time.time_ns()):
        writer.submit(decode(trace_request(), received_ns=received_ns, size=0)).result(20)
    writer.close()
    retention.enforce(time.time_ns())
    store.close()

    with start_hub(memory=False, data=tmp_path) as hub:
        send(hub, "traces", trace_request())
        answer = httpx.get(f"{hub.page}/api/traces/{secrets.token_hex(16)}")

    assert "deleted" in answer.json()["error"]["message"]


@pytest.mark.parametrize("trace_id", ["zz", "0" * 31, "0" * 33, "g" * 32])
def test_what_is_no_trace_id_is_422(hub: InProcessHub, trace_id: str) -> None:
    """The answer names it."""
    answer = httpx.get(f"{hub.page}/api/traces/{trace_id}")

    assert answer.status_code == 422
    assert "trace_id" in answer.json()["error"]["message"]
