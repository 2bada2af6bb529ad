"""A primary version and a challenger in one process: shadow requests, or a share of the requests."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from modeltrace.errors import InferenceError
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.schema import Schema
from modeltrace.serving.shadow_queue import ShadowQueue
from modeltrace.sidecar.encode.json_lines import LineEncoder
from modeltrace.sidecar.encode.logs import LogEncoder
from modeltrace.sidecar.encode.spans import SpanEncoder
from modeltrace.store.rows import RowBuilder
from modeltrace.telemetry.metrics.predictions import PredictionMetrics
from modeltrace.telemetry.records.prediction import Origin
from modeltrace.telemetry.records.trace import RequestTracer
from tests.helpers.conformance import comparable_spans_of_both, counts_by_version, sdk_spans
from tests.helpers.in_process_services import SdkService, service_with_challenger, spans_of
from tests.helpers.processes import wait_until

Rows = list[dict[str, float]]


@pytest.fixture
def challenger(model: Model) -> Model:
    """Return another version that always predicts the same label."""
    outputs = [ModelOutput("malignant", 0.75)]
    return replace(model, version="2.0.0", hash="2" * 64, predict_fn=lambda matrix: outputs * len(matrix))


def test_a_shadow_prediction_is_recorded_and_not_returned(model: Model, challenger: Model, rows: Rows) -> None:
    """The primary answers; the challenger's prediction is recorded in the same trace and refers to the answer."""
    with service_with_challenger(model, challenger) as (client, queue):
        answer = client.post("/predict", json={"features": rows[0]}).json()
        wait_until(queue.shadows, description="the shadow")
    request, shadow = queue.requests

    assert answer["model"] == {"name": model.name, "version": model.version}
    assert (shadow.trace_id, shadow.parent_span_id) == (request.trace_id, request.span_id)
    assert shadow.start >= request.end
    assert shadow.model is not None
    assert (shadow.model.version, shadow.model.role) == ("2.0.0", "challenger")
    assert shadow.predictions[0].label == "malignant"
    (stored,) = RowBuilder("0.1.0").build(shadow)
    assert (stored.shadow_of, stored.model_version) == (answer["prediction_id"], "2.0.0")
    assert stored.inputs == RowBuilder("0.1.0").build(request)[0].inputs


def test_only_answered_rows_of_a_batch_are_shadowed(model: Model, challenger: Model, rows: Rows) -> None:
    """They keep their row indexes; rows that the primary rejected are not sent to the challenger."""
    with service_with_challenger(model, challenger) as (client, queue):
        batch = client.post("/predict/batch", json={"rows": [{}, rows[0], {}, rows[1]]}).json()["predictions"]
        wait_until(queue.shadows, description="the shadow")
    (shadow,) = queue.shadows()

    assert [row.row_index for row in shadow.predictions] == [1, 3]
    shadow_of = [row.shadow_of for row in RowBuilder("0.1.0").build(shadow)]
    assert shadow_of == [batch[1]["prediction_id"], batch[3]["prediction_id"]]
    assert shadow.is_batch


def test_a_challenger_validates_by_its_own_schema(model: Model, challenger: Model, rows: Rows) -> None:
    """A row that only the challenger rejects is recorded as its violation; the primary's response is unaffected."""
    first, *others = challenger.schema.features
    strict = replace(challenger, schema=Schema(features=(first.model_copy(update={"valid_range": (-2, -1)}), *others)))
    with service_with_challenger(model, strict) as (client, queue):
        assert client.post("/predict", json={"features": rows[0]}).status_code == 200
        wait_until(queue.shadows, description="the shadow")
    (shadow,) = queue.shadows()

    assert [(violation.feature, violation.reason) for violation in shadow.violations] == [(first.name, "range")]
    assert shadow.predictions == ()


def test_a_failing_challenger_does_not_affect_responses(model: Model, challenger: Model, rows: Rows) -> None:
    """Its error is recorded in the `inference` stage of the shadow; each request is answered."""

    def fail(_: object) -> list[ModelOutput]:
        raise ZeroDivisionError("on purpose")

    with service_with_challenger(model, replace(challenger, predict_fn=fail)) as (client, queue):
        for row in rows[:3]:
            assert client.post("/predict", json={"features": row}).status_code == 200
        wait_until(lambda: len(queue.shadows()) == 3, description="the shadows")
    failure = queue.shadows()[0].failure

    assert failure is not None
    assert (failure.stage, failure.error_type) == ("inference", "ZeroDivisionError")


def test_waiting_shadows_share_a_model_call(model: Model, challenger: Model, rows: Rows) -> None:
    """Only the row that makes the call fail fails; a rejected row is not part of the call; the others are predicted."""
    started, release, batch_sizes = threading.Event(), threading.Event(), list[int]()
    first, *others = challenger.schema.features
    low, high = sorted(row[first.name] for row in rows[:5])[:2]
    release.set()
    strict = Schema(features=(first.model_copy(update={"valid_range": ((low + high) / 2, 1e6)}), *others))

    def slow(matrix: Any) -> list[ModelOutput]:
        started.set()
        release.wait(60)
        batch_sizes.append(len(matrix))
        if any(abs(row[0] - high) < 1e-9 for row in np.asarray(matrix)):
            raise ZeroDivisionError("on purpose")
        return [ModelOutput("malignant", 0.75)] * len(matrix)

    with service_with_challenger(model, replace(challenger, schema=strict, predict_fn=slow)) as (client, queue):
        for event in (started, release):
            event.clear()
        batch_sizes.clear()  # the latency was measured at startup
        valid = next(row for row in rows if row[first.name] > high)
        for row in (valid, *rows[:5]):
            assert client.post("/predict", json={"features": row}).status_code == 200
            wait_until(started.is_set, description="the call that the other rows wait for")
        release.set()
        wait_until(lambda: len(queue.shadows()) == 6, description="the shadows")

    alone, *together = queue.shadows()
    (batch,) = queue.batches
    assert batch_sizes == [1, 4, 1, 1, 1, 1]
    assert alone.batch_span is None
    assert (batch.rows, batch.error_type, batch.model) == (4, "ZeroDivisionError", together[0].model)
    members = [shadow for shadow in together if shadow.batch_span]
    assert set(batch.request_spans) == {(shadow.trace_id, shadow.span_id) for shadow in members}
    assert sum(shadow.failure is not None for shadow in members) == 1
    assert sum(len(shadow.predictions) for shadow in members) == 3
    (rejected,) = (shadow for shadow in together if not shadow.batch_span)
    assert (rejected.rejected_rows, rejected.violations[0].reason) == (1, "range")
    (failed,) = (shadow for shadow in members if shadow.failure)
    assert failed.failure is not None
    assert failed.failure.stage == "inference"


def test_a_version_does_not_shadow_itself(model: Model, rows: Rows) -> None:
    """There are no shadow requests after the challenger has become the primary."""
    with service_with_challenger(model, replace(model, hash="2" * 64)) as (client, queue):
        client.post("/predict", json={"features": rows[0]})
    assert queue.shadows() == []


def test_metrics_are_recorded_by_version(model: Model, challenger: Model, rows: Rows) -> None:
    """Inference and confidence of both versions are counted; a shadow is not counted as an HTTP request."""
    with service_with_challenger(model, replace(challenger), challenger_share=1.0) as (client, queue):
        for _ in range(4):
            client.post("/predict", json={"features": rows[0]})
        wait_until(lambda: len(queue.shadows()) == 4, description="the shadows")

    assert counts_by_version(queue.requests) == {
        ("ml.inference.duration", "1.0.0"): 4,
        ("ml.prediction.confidence", "1.0.0"): 4,
        ("ml.inference.duration", "2.0.0"): 4,
        ("ml.prediction.confidence", "2.0.0"): 4,
    }
    points = PredictionMetrics(exemplar_filter="always_off")
    points.add(queue.requests)
    durations = next(metric for metric in points.collect() if metric.name == "http.server.request.duration")
    assert [point.count for point in durations.data.data_points] == [4]  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["shadow", "split"])
def test_the_challenger_receives_its_share_of_the_requests(
    model: Model, challenger: Model, rows: Rows, mode: str
) -> None:
    """The share is approximate; the same key always selects the same version."""
    options = {"challenger_mode": mode, "challenger_share": 0.3, "challenger_key": "X-User"}
    answered_by: dict[int, set[str]] = {}
    with service_with_challenger(model, challenger, **options) as (client, queue):
        for number in [*range(200), *range(200)]:
            answer = client.post("/predict", json={"features": rows[0]}, headers={"x-user": f"u{number}"}).json()
            answered_by.setdefault(number, set()).add(answer["model"]["version"])
            for row in queue.requests[-1].predictions:
                assert row.prediction_id == answer["prediction_id"] or mode == "shadow"
    challenged = [number for number, versions in answered_by.items() if versions == {"2.0.0"}]

    assert all(len(versions) == 1 for versions in answered_by.values())
    if mode == "split":
        assert 35 < len(challenged) < 85
        assert queue.shadows() == []
        assert {request.model.role for request in queue.requests if request.model} == {"primary", "challenger"}
    else:
        assert challenged == []
        assert 70 < len(queue.shadows()) < 170


def test_a_batch_contains_requests_of_one_version(model: Model, challenger: Model, rows: Rows) -> None:
    """With batching, each version collects its own requests."""
    with service_with_challenger(model, challenger, batching=True, challenger_mode="split", challenger_share=0.5) as (
        client,
        queue,
    ):
        for row in rows[:20]:
            client.post("/predict", json={"features": row})

    assert {batch.model.version for batch in queue.batches} == {"1.0.0", "2.0.0"}
    members = {member: batch.model for batch in queue.batches for member in batch.request_spans}
    for request in queue.requests:
        assert members[request.trace_id, request.span_id] == request.model


def test_requests_beyond_the_limit_are_dropped_and_counted(model: Model, challenger: Model, rows: Rows) -> None:
    """A challenger that is slower than the traffic receives a part of it; responses do not wait for it."""
    outcomes: Counter[tuple[str, str]] = Counter()
    shadows = ShadowQueue(None, lambda *_: None, lambda o, n, e: outcomes.update({(o, e): n}), max_rows=2)  # type: ignore[arg-type]  # not used
    with service_with_challenger(model, challenger) as (client, queue):
        client.post("/predict", json={"features": rows[0]})
    scope = {"headers": [], "method": "POST", "path": "/", "http_version": "1.1"}
    trace, _ = RequestTracer(DEFAULT_ON).start(scope)
    trace.shadow_rows, trace.predictions = (rows[0],), list(queue.requests[0].predictions)
    for _ in range(5):
        shadows.enqueue(trace)
    shadows._stopping = True
    shadows.enqueue(trace)

    assert outcomes == {("dropped", "queue_full"): 4}


CASES: dict[str, Callable[[Rows], dict[str, Any]]] = {
    "one row": lambda rows: {"url": "/predict", "json": {"features": rows[0]}},
    "many rows, one rejected": lambda rows: {"url": "/predict/batch", "json": {"rows": [rows[0], {}, rows[1]]}},
    "pinned": lambda rows: {
        "url": "/predict", "json": {"features": rows[0]}, "headers": {"baggage": "modeltrace.pin=1"},
    },
}  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_sidecar_and_sdk_record_the_same_shadow(
    record: Callable[..., SdkService], model: Model, challenger: Model, rows: Rows, case: str, fails: bool
) -> None:
    """Spans of both versions are equal with both kinds of instrumentation."""

    def fail(_: object) -> list[ModelOutput]:
        raise InferenceError("on purpose")

    if fails:
        challenger = replace(challenger, predict_fn=fail)
    service = record(model, challenger)
    with service_with_challenger(model, challenger) as (client, queue):
        for caller in (service.client, client):
            assert caller.post(**CASES[case](rows)).status_code == 200
        wait_until(queue.shadows, description="the shadow")
        wait_until(lambda: "shadow" in service.spans(), description="the shadow of the SDK")

    ((encoded, _),) = SpanEncoder(Origin(b"", "modeltrace")).encode(queue.requests)
    spans = spans_of(ExportTraceServiceRequest.FromString(encoded))
    assert comparable_spans_of_both(spans) == comparable_spans_of_both(sdk_spans(service))
    assert {span.trace_id for span in spans} == {spans[0].trace_id}


def test_with_the_sdk_shadows_that_share_a_call_stay_in_their_traces(
    record: Callable[..., SdkService], model: Model, challenger: Model, rows: Rows
) -> None:
    """Each is a child of the SERVER span of its request and has its own stages; one `batch` span links to all."""
    called, release = threading.Event(), threading.Event()
    release.set()

    def slow(matrix: Any) -> list[ModelOutput]:
        called.set()
        release.wait(10)
        return [ModelOutput("malignant", 0.75)] * len(matrix)

    service = record(model, replace(challenger, predict_fn=slow))
    release.clear()
    called.clear()
    for row in rows[:4]:
        assert service.client.post("/predict", json={"features": row}).status_code == 200
        called.wait(10)  # the call of the first shadow has begun, so the other three share the next one
    release.set()
    wait_until(lambda: [span.name for span in sdk_spans(service)].count("shadow") == 4, description="the shadows")

    spans = sdk_spans(service)
    servers = {span.span_id: span for span in spans if span.name.startswith("POST")}
    shadows = {span.span_id: span for span in spans if span.name == "shadow"}
    assert {span.parent_span_id for span in shadows.values()} == set(servers)
    assert all(span.trace_id == servers[span.parent_span_id].trace_id for span in shadows.values())
    children = Counter(span.name for span in spans if span.parent_span_id in shadows)
    assert children == {"validate": 4, "queue": 3, "features": 4, "inference": 4}
    assert all(
        span.trace_id == shadows[span.parent_span_id].trace_id for span in spans if span.parent_span_id in shadows
    )
    (batch,) = (span for span in spans if span.name == "batch")
    assert {link.span_id for link in batch.links} < set(shadows)


def test_log_records_of_a_shadow_have_role_and_prediction_id(model: Model, challenger: Model, rows: Rows) -> None:
    """Prediction log record and log line have the role and the ID of the answered prediction; no access log line."""
    with service_with_challenger(model, challenger) as (client, queue):
        answer = client.post("/predict", json={"features": rows[0]}).json()
        wait_until(queue.shadows, description="the shadow")
    shadow_of = f'"ml.prediction.shadow_of":"{answer["prediction_id"]}"'.encode()
    lines = LineEncoder().encode(queue.shadows()).splitlines()
    ((log_request, number),) = LogEncoder(Origin(b"", "modeltrace")).predictions(queue.shadows())

    assert len(lines) == number == 1
    assert shadow_of in lines[0]
    assert b'"ml.model.role":"challenger"' in lines[0]
    assert b"ml.prediction.shadow_of" in log_request
    assert answer["prediction_id"].encode() in log_request
    assert shadow_of not in LineEncoder().encode(queue.requests[:1])
