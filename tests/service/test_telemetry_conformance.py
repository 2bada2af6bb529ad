"""What is told from records is what the stock instrumentation and the SDK tell of the same requests."""

import marshal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics.export import Metric
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from starlette.testclient import TestClient

from hub.decode.values import to_json
from service.app import create_app
from service.errors import ModeltraceError
from service.exporter.feedback import FeedbackEncoder
from service.exporter.spans import SpanEncoder
from service.inference.model import Answer, Model
from service.inference.pipeline import describe
from service.inference.schema import Answers
from service.monitoring.training import training_data
from service.settings import read_settings
from service.telemetry.features import FeaturePoints
from service.telemetry.feedback import Feedback, plain
from service.telemetry.feedback import feedback as out_of_pipe
from service.telemetry.feedback_points import FeedbackPoints
from service.telemetry.health import ExportHealth
from service.telemetry.metrics import SAID
from service.telemetry.points import PredictionPoints
from service.telemetry.record import Batch, Origin, Request
from service.telemetry.setup import Records, Telemetry
from service.telemetry.tracing import RequestTrace, Tracing
from service.telemetry.watched import Watched
from tests.service.conftest import KEY, Recorded

Rows = list[dict[str, float]]
TRACE = "0af7651916cd43dd8448eb211c80319c"
SAID_OF_BUNDLE = {one.name for one in SAID}
VARIES = {"ml.prediction.id", "client.port"}


class Kept:
    """Stands for the outbox: keeps what is put."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.batches: list[Batch] = []
        self.feedback: list[Feedback] = []

    def put(self, request: RequestTrace) -> None:
        """Keep a record."""
        self.requests.append(request.record())

    def put_feedback(self, feedback: Feedback) -> None:
        """Keep labels, as they come out of the pipe."""
        self.feedback.append(out_of_pipe(marshal.loads(marshal.dumps(plain(feedback), 2))))  # noqa: S302  ours

    def put_batch(self, batch: Batch) -> None:
        """Keep the span of a shared call."""
        self.batches.append(batch)


@dataclass(frozen=True)
class Written:
    """A client of the service that writes records, and those records."""

    client: TestClient
    kept: Kept
    model: Model

    def spans(self) -> list[Span]:
        """The spans that the exporter process would send."""
        origin = Origin(b"", "modeltrace")
        encoded, _ = SpanEncoder(origin).encode(self.kept.requests, self.kept.batches)
        labels = FeedbackEncoder(origin).spans(self.kept.feedback, 2**20)
        return [
            span
            for one in (encoded, *(r for r, _ in labels))
            for span in _spans(ExportTraceServiceRequest.FromString(one))
        ]

    def metrics(self) -> list[Metric]:
        """The metric points that a reader would collect."""
        watched = Watched()
        watched.add(describe(self.model), training_data(self.model))
        both = (PredictionPoints(exemplar_filter="trace_based"), FeaturePoints(watched, exemplar_filter="trace_based"))
        for points in both:
            points.add(self.kept.requests)
        labels = FeedbackPoints(exemplar_filter="trace_based")
        labels.add(self.kept.feedback)
        return [metric for points in (*both, labels) for metric in points.collect()]


@contextmanager
def written(model: Model, **settings: Any) -> Iterator[Written]:
    """The service as it is by default, but for the process beside it."""
    kept = Kept()
    records = Records(Tracing(DEFAULT_ON), kept, ExportHealth(), Counter())  # type: ignore[arg-type]  # what of it is used
    app = create_app(read_settings(**{"id_key": KEY, "store": "none", **settings}), model, Telemetry(records=records))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Written(client, kept, model)


def _spans(request: ExportTraceServiceRequest) -> list[Span]:
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def stock_spans(service: Recorded) -> list[Span]:
    """The spans that the stock exporter would send."""
    encoded = encode_spans(service.span_exporter.get_finished_spans()).SerializeToString()
    return _spans(ExportTraceServiceRequest.FromString(encoded))


def told(spans: list[Span]) -> dict[str, dict[str, Any]]:
    """All that is comparable of each span: not its IDs, its times and its place in the code."""
    names = {span.span_id: span.name for span in spans}
    return {
        span.name: {
            "kind": span.kind,
            "parent": names.get(span.parent_span_id, span.parent_span_id.hex()),
            "flags": span.flags,
            "trace_state": span.trace_state,
            "attributes": {a.key: to_json(a.value) for a in span.attributes if a.key not in VARIES},
            "varying": sorted(a.key for a in span.attributes if a.key in VARIES),
            "events": [
                (e.name, {a.key: to_json(a.value) for a in e.attributes if a.key != "exception.stacktrace"})
                for e in span.events
            ],
            "status": (span.status.code, span.status.message),
            "links": len(span.links),
            "in order": span.start_time_unix_nano <= span.end_time_unix_nano,
        }
        for span in spans
    }


def measured(metrics: list[Metric]) -> dict[str, Any]:
    """All that is comparable of each metric: not how long it took."""
    return {
        metric.name: (
            metric.unit,
            metric.description,
            metric.data.aggregation_temporality,
            sorted(
                (
                    str(sorted(point.attributes.items())),
                    getattr(point, "explicit_bounds", None),
                    getattr(point, "count", None) or point.value,
                    None if metric.name.endswith(("duration", "delay")) else getattr(point, "sum", None),
                    # Instruments that are asked for what was counted have none.
                    len(point.exemplars) > 0 and not metric.name.startswith("ml.feature."),
                )
                for point in metric.data.data_points
            ),
        )
        for metric in metrics
        # Counted ahead of the instrumentation; said of the bundle, whatever is asked.
        if metric.name != "http.server.active_requests" and metric.name not in SAID_OF_BUNDLE
    }


def one(rows: Rows, **more: Any) -> dict[str, Any]:
    """A request for one row."""
    return {"url": "/predict", "json": {"features": rows[0]}, **more}


def many(rows: Rows, *batch: Any) -> dict[str, Any]:
    """A request for several rows: the first ones, then those given."""
    return {"url": "/predict/batch", "json": {"rows": [*rows, *batch]}}


def parent(flags: str, **more: str) -> dict[str, dict[str, str]]:
    """The headers of a caller that traces."""
    return {"headers": {"traceparent": f"00-{TRACE}-b7ad6b7169203331-{flags}", **more}}


CASES: dict[str, Callable[[Rows], dict[str, Any]]] = {
    "one row": one,
    "many rows, one refused": lambda rows: many(rows[:2], {}),
    "many rows, all refused": lambda _: many([], {}, []),
    "no rows": lambda _: many([]),
    "not JSON": lambda _: {"url": "/predict", "content": b"{"},
    "not the shape": lambda _: {"url": "/predict", "json": {"rows": []}},
    "refused": lambda rows: one([{**rows[0], "mean_radius": "wide"}]),  # type: ignore[dict-item]  # on purpose
    "many rows, refused for several reasons": lambda rows: many(
        rows[:1], {**rows[0], "mean_radius": None}, {**rows[0], "mean_radius": None, "mean_area": "wide"}, {"x": 1}, 7
    ),
    "too large": lambda _: {"url": "/predict", "content": b" " * 5000},
    "a parent": lambda rows: one(rows, **parent("01", tracestate="vendor=1,other=2")),
    "a parent with a random ID": lambda rows: one(rows, **parent("03")),
    "a parent that is not sampled": lambda rows: one(rows, **parent("00")),
    "a broken parent": lambda rows: one(rows, headers={"traceparent": "00-0-0-01"}),
    "pinned": lambda rows: one(rows, headers={"baggage": "modeltrace.pin=1"}),
    "a query": lambda rows: {**one(rows), "url": "/predict?next=/healthz&x=%20"},
    "a bot": lambda rows: one(rows, headers={"user-agent": "Googlebot/2.1"}),
    "an empty user agent": lambda rows: one(rows, headers={"user-agent": ""}),
    "no host": lambda rows: one(rows, headers={"host": ""}),
}


def ask(client: TestClient, rows: Rows, case: str) -> int:
    """Send one of the requests that a client may send."""
    status: int = client.post(**CASES[case](rows)).status_code
    return status


@pytest.mark.parametrize("case", CASES)
def test_spans_are_those_of_the_stock_instrumentation(
    record: Callable[..., Recorded], model: Model, rows: Rows, case: str
) -> None:
    """Name, kind, parent, flags, state, attributes, events, status and links of every span are the same."""
    service = record(model, max_body_bytes=4096)
    with written(model, max_body_bytes=4096) as ours:
        statuses = ask(service.client, rows, case), ask(ours.client, rows, case)

        assert statuses[0] == statuses[1]
        stock = stock_spans(service)
        assert told(ours.spans()) == told(stock)


@pytest.mark.parametrize("case", CASES)
def test_metrics_are_those_of_the_stock_instrumentation(
    record: Callable[..., Recorded], model: Model, rows: Rows, case: str
) -> None:
    """Name, unit, description, attributes, bounds, counts and sums are the same, and so is who has an exemplar."""
    service = record(model, max_body_bytes=4096)
    with written(model, max_body_bytes=4096) as ours:
        ask(service.client, rows, case)
        ask(ours.client, rows, case)

        data = service.metric_reader.get_metrics_data()
        assert data is not None
        stock = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        assert measured(ours.metrics()) == measured(stock)


def test_answers_are_counted_by_label_bin_and_confidence_either_way(
    record: Callable[..., Recorded], model: Model, rows: Rows
) -> None:
    """Low confidence is counted below the bundle's threshold; a regressor's values by the bin they lie in."""
    unsure = replace(model, confidence_threshold=1.0)
    edges = Answers(n=3, shares={"00": 0.5, "01": 0.5}, edges=(1.0,))
    values = replace(model, task="regressor", classes=None, answers=edges, answer_matrix=_values)
    for one_of, name, expected in (
        (unsure, "ml.predictions.low_confidence", {(): 3}),
        (values, "ml.predictions", {(("ml.prediction.bin", "00"),): 2, (("ml.prediction.bin", "01"),): 1}),
    ):
        service = record(one_of)
        with written(one_of) as ours:
            for client in (service.client, ours.client):
                assert client.post(**many(rows[:3])).status_code == 200
            data = service.metric_reader.get_metrics_data()
            assert data is not None
            stock = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
            for metrics in (stock, ours.metrics()):
                (found,) = (metric for metric in metrics if metric.name == name)
                assert {
                    tuple(item for item in p.attributes.items() if not item[0].startswith("ml.model")): p.value
                    for p in found.data.data_points
                } == expected


def _values(matrix: Any) -> list[Answer]:
    return [Answer(value=float(index)) for index in range(len(matrix))]


def _breaking(error: Exception) -> Callable[[object], list[Answer]]:
    def fail(_: object) -> list[Answer]:
        raise error

    return fail


@pytest.mark.parametrize("case", ["one row", "many rows, one refused"])
@pytest.mark.parametrize("error", [ZeroDivisionError("secret 42"), ModeltraceError("on purpose")])
def test_failures_are_told_as_the_stock_instrumentation_tells_them(
    record: Callable[..., Recorded], model: Model, rows: Rows, case: str, error: Exception
) -> None:
    """The exception stands on `inference` with its type; the SERVER span is an error with the status as its type."""
    failing = replace(model, answer_matrix=_breaking(error))
    service = record(failing)
    with written(failing) as ours:
        assert (ask(service.client, rows, case), ask(ours.client, rows, case)) == (500, 500)

        stock = stock_spans(service)
        assert told(ours.spans()) == told(stock)


def test_answers_are_the_same_either_way(record: Callable[..., Recorded], model: Model, rows: Rows) -> None:
    """Status, headers and body of the front are those of the routes, but for IDs."""
    service = record(model)
    with written(model) as ours:
        for path, body in (
            ("/predict", {"features": rows[0]}),
            ("/predict/batch", {"rows": [rows[0], {}]}),
            ("/predict", {"features": {}}),
            ("/predict", []),
        ):
            theirs, own = (client.post(path, json=body) for client in (service.client, ours.client))
            assert own.status_code == theirs.status_code
            assert set(own.headers) == set(theirs.headers)
            assert own.headers["content-type"] == theirs.headers["content-type"]
            assert _without_ids(own.json()) == _without_ids(theirs.json())


def _without_ids(body: Any) -> Any:
    if isinstance(body, dict):
        return {key: _without_ids(value) for key, value in body.items() if key not in ("trace_id", "prediction_id")}
    return [_without_ids(item) for item in body] if isinstance(body, list) else body


def test_a_shared_call_leaves_each_request_its_own_spans(model: Model, rows: Rows) -> None:
    """A request that shared a call has `queue` and `inference` of its own, linked to the span of the call."""
    with written(model, batching=True) as ours:
        assert ask(ours.client, rows, "one row") == 200

        spans = {span.name: span for span in ours.spans()}
    assert set(spans) == {"POST /predict", "validate", "queue", "features", "inference", "batch"}
    assert [link.span_id for link in spans["inference"].links] == [spans["batch"].span_id]
    assert [link.span_id for link in spans["batch"].links] == [spans["POST /predict"].span_id]
    assert spans["batch"].trace_id != spans["inference"].trace_id
    server = spans["POST /predict"]
    assert {spans[name].parent_span_id for name in ("validate", "queue", "features", "inference")} == {server.span_id}
