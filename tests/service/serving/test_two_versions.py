"""Two versions side by side: a challenger that sees what was answered, or that answers a share of it."""

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
    """Another version, which always says the same."""
    sure = [ModelOutput("malignant", 0.75)]
    return replace(model, version="2.0.0", hash="2" * 64, predict_fn=lambda matrix: sure * len(matrix))


def test_a_shadow_is_recorded_and_nothing_else(model: Model, challenger: Model, rows: Rows) -> None:
    """The primary's answer is what is answered; the challenger's is in the same trace, and refers to it."""
    with service_with_challenger(model, challenger) as (client, kept):
        answer = client.post("/predict", json={"features": rows[0]}).json()
        wait_until(kept.shadows, description="the shadow")
    request, shadow = kept.requests

    assert answer["model"] == {"name": model.name, "version": model.version}
    assert (shadow.trace_id, shadow.parent_span_id) == (request.trace_id, request.span_id)
    assert shadow.start >= request.end
    assert shadow.model is not None
    assert (shadow.model.version, shadow.model.role) == ("2.0.0", "challenger")
    assert shadow.predictions[0].label == "malignant"
    (made,) = RowBuilder("0.1.0").build(shadow)
    assert (made.shadow_of, made.model_version) == (answer["prediction_id"], "2.0.0")
    assert made.inputs == RowBuilder("0.1.0").build(request)[0].inputs


def test_of_a_batch_the_answered_rows_are_shadowed(model: Model, challenger: Model, rows: Rows) -> None:
    """With their places; what the primary refused nobody asks the challenger."""
    with service_with_challenger(model, challenger) as (client, kept):
        batch = client.post("/predict/batch", json={"rows": [{}, rows[0], {}, rows[1]]}).json()["predictions"]
        wait_until(kept.shadows, description="the shadow")
    (shadow,) = kept.shadows()

    assert [one.row_index for one in shadow.predictions] == [1, 3]
    of = [row.shadow_of for row in RowBuilder("0.1.0").build(shadow)]
    assert of == [batch[1]["prediction_id"], batch[3]["prediction_id"]]
    assert shadow.is_batch


def test_a_challenger_validates_by_its_own_schema(model: Model, challenger: Model, rows: Rows) -> None:
    """A row that it refuses is told of, as a violation of its own; the answer stands."""
    first, *others = challenger.schema.features
    strict = replace(challenger, schema=Schema(features=(first.model_copy(update={"valid_range": (-2, -1)}), *others)))
    with service_with_challenger(model, strict) as (client, kept):
        assert client.post("/predict", json={"features": rows[0]}).status_code == 200
        wait_until(kept.shadows, description="the shadow")
    (shadow,) = kept.shadows()

    assert [(one.feature, one.reason) for one in shadow.violations] == [(first.name, "range")]
    assert shadow.predictions == ()


def test_a_challenger_that_fails_harms_nobody(model: Model, challenger: Model, rows: Rows) -> None:
    """What it raised stands on the `inference` of its own span; each request is answered."""

    def fail(_: object) -> list[ModelOutput]:
        raise ZeroDivisionError("on purpose")

    with service_with_challenger(model, replace(challenger, predict_fn=fail)) as (client, kept):
        for row in rows[:3]:
            assert client.post("/predict", json={"features": row}).status_code == 200
        wait_until(lambda: len(kept.shadows()) == 3, description="the shadows")
    failure = kept.shadows()[0].failure

    assert failure is not None
    assert (failure.stage, failure.error_type) == ("inference", "ZeroDivisionError")


def test_shadows_that_wait_share_a_call(model: Model, challenger: Model, rows: Rows) -> None:
    """The row that a call fails for fails alone, one that is refused is not asked for, and the others are answered."""
    begun, called, calls = threading.Event(), threading.Event(), list[int]()
    first, *others = challenger.schema.features
    low, high = sorted(row[first.name] for row in rows[:5])[:2]
    called.set()
    strict = Schema(features=(first.model_copy(update={"valid_range": ((low + high) / 2, 1e6)}), *others))

    def slow(matrix: Any) -> list[ModelOutput]:
        begun.set()
        called.wait(60)
        calls.append(len(matrix))
        if any(abs(row[0] - high) < 1e-9 for row in np.asarray(matrix)):
            raise ZeroDivisionError("on purpose")
        return [ModelOutput("malignant", 0.75)] * len(matrix)

    with service_with_challenger(model, replace(challenger, schema=strict, predict_fn=slow)) as (client, kept):
        for event in (begun, called):
            event.clear()
        calls.clear()  # what it takes is measured at the start
        fine = next(row for row in rows if row[first.name] > high)
        for row in (fine, *rows[:5]):
            assert client.post("/predict", json={"features": row}).status_code == 200
            wait_until(begun.is_set, description="the call that the others wait for")
        called.set()
        wait_until(lambda: len(kept.shadows()) == 6, description="the shadows")

    alone, *together = kept.shadows()
    (batch,) = kept.batches
    assert calls == [1, 4, 1, 1, 1, 1]
    assert alone.batch_span is None
    assert (batch.rows, batch.error_type, batch.model) == (4, "ZeroDivisionError", together[0].model)
    asked = [one for one in together if one.batch_span]
    assert set(batch.request_spans) == {(one.trace_id, one.span_id) for one in asked}
    assert sum(one.failure is not None for one in asked) == 1
    assert sum(len(one.predictions) for one in asked) == 3
    (refused,) = (one for one in together if not one.batch_span)
    assert (refused.rejected_rows, refused.violations[0].reason) == (1, "range")
    (trouble,) = (r for r in asked if r.failure)
    assert trouble.failure is not None
    assert trouble.failure.stage == "inference"


def test_a_version_is_not_its_own_shadow(model: Model, rows: Rows) -> None:
    """Once the challenger has become the primary there is nothing to compare."""
    with service_with_challenger(model, replace(model, hash="2" * 64)) as (client, kept):
        client.post("/predict", json={"features": rows[0]})
    assert kept.shadows() == []


def test_metrics_are_by_version(model: Model, challenger: Model, rows: Rows) -> None:
    """Calls and confidences of both; only what was asked for is a request."""
    with service_with_challenger(model, replace(challenger), challenger_share=1.0) as (client, kept):
        for _ in range(4):
            client.post("/predict", json={"features": rows[0]})
        wait_until(lambda: len(kept.shadows()) == 4, description="the shadows")

    assert counts_by_version(kept.requests) == {
        ("ml.inference.duration", "1.0.0"): 4,
        ("ml.prediction.confidence", "1.0.0"): 4,
        ("ml.inference.duration", "2.0.0"): 4,
        ("ml.prediction.confidence", "2.0.0"): 4,
    }
    points = PredictionMetrics(exemplar_filter="always_off")
    points.add(kept.requests)
    durations = next(m for m in points.collect() if m.name == "http.server.request.duration")
    assert [point.count for point in durations.data.data_points] == [4]  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["shadow", "split"])
def test_a_share_of_requests_is_the_challengers(model: Model, challenger: Model, rows: Rows, mode: str) -> None:
    """About as many as were asked for; the same key has the same version each time."""
    options = {"challenger_mode": mode, "challenger_share": 0.3, "challenger_key": "X-User"}
    found: dict[int, set[str]] = {}
    with service_with_challenger(model, challenger, **options) as (client, kept):
        for number in [*range(200), *range(200)]:
            answer = client.post("/predict", json={"features": rows[0]}, headers={"x-user": f"u{number}"}).json()
            found.setdefault(number, set()).add(answer["model"]["version"])
            for one in kept.requests[-1].predictions:
                assert one.prediction_id == answer["prediction_id"] or mode == "shadow"
    theirs = [number for number, versions in found.items() if versions == {"2.0.0"}]

    assert all(len(versions) == 1 for versions in found.values())
    if mode == "split":
        assert 35 < len(theirs) < 85
        assert kept.shadows() == []
        assert {r.model.role for r in kept.requests if r.model} == {"primary", "challenger"}
    else:
        assert theirs == []
        assert 70 < len(kept.shadows()) < 170


def test_shared_calls_are_of_one_version(model: Model, challenger: Model, rows: Rows) -> None:
    """With batching each version gathers its own requests."""
    with service_with_challenger(model, challenger, batching=True, challenger_mode="split", challenger_share=0.5) as (
        client,
        kept,
    ):
        for row in rows[:20]:
            client.post("/predict", json={"features": row})

    assert {batch.model.version for batch in kept.batches} == {"1.0.0", "2.0.0"}
    members = {member: batch.model for batch in kept.batches for member in batch.request_spans}
    for request in kept.requests:
        assert members[request.trace_id, request.span_id] == request.model


def test_what_finds_no_room_is_dropped_and_counted(model: Model, challenger: Model, rows: Rows) -> None:
    """A challenger that is slower than the traffic sees a part of it; nobody waits for it."""
    heard: Counter[tuple[str, str]] = Counter()
    shadows = ShadowQueue(None, lambda *_: None, lambda o, n, e: heard.update({(o, e): n}), max_rows=2)  # type: ignore[arg-type]  # not asked
    with service_with_challenger(model, challenger) as (client, kept):
        client.post("/predict", json={"features": rows[0]})
    trace = RequestTracer(DEFAULT_ON).start({"headers": [], "method": "POST", "path": "/"})[0]
    trace.shadow_rows, trace.predictions = (rows[0],), list(kept.requests[0].predictions)
    for _ in range(5):
        shadows.enqueue(trace)
    shadows._stopping = True
    shadows.enqueue(trace)

    assert heard == {("dropped", "queue_full"): 4}


CASES: dict[str, Callable[[Rows], dict[str, Any]]] = {
    "one row": lambda rows: {"url": "/predict", "json": {"features": rows[0]}},
    "many rows, one refused": lambda rows: {"url": "/predict/batch", "json": {"rows": [rows[0], {}, rows[1]]}},
    "pinned": lambda rows: {
        "url": "/predict", "json": {"features": rows[0]}, "headers": {"baggage": "modeltrace.pin=1"},
    },
}  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_shadow_is_told_as_the_stock_instrumentation_tells_it(
    record: Callable[..., SdkService], model: Model, challenger: Model, rows: Rows, case: str, fails: bool
) -> None:
    """Spans and metrics of both versions are the same either way."""

    def fail(_: object) -> list[ModelOutput]:
        raise InferenceError("on purpose")

    if fails:
        challenger = replace(challenger, predict_fn=fail)
    service = record(model, challenger)
    with service_with_challenger(model, challenger) as (client, kept):
        for one in (service.client, client):
            assert one.post(**CASES[case](rows)).status_code == 200
        wait_until(kept.shadows, description="the shadow")
        wait_until(lambda: "shadow" in service.spans(), description="the stock shadow")

    encoded, _ = SpanEncoder(Origin(b"", "modeltrace")).encode(kept.requests)
    ours = spans_of(ExportTraceServiceRequest.FromString(encoded))
    assert comparable_spans_of_both(ours) == comparable_spans_of_both(sdk_spans(service))
    assert {span.trace_id for span in ours} == {ours[0].trace_id}


def test_with_the_stock_instrumentation_shadows_that_share_a_call_stay_in_their_traces(
    record: Callable[..., SdkService], model: Model, challenger: Model, rows: Rows
) -> None:
    """Each below the SERVER span of its own request, with its own stages; one span `batch` links to them."""
    free = threading.Event()
    free.set()

    def slow(matrix: Any) -> list[ModelOutput]:
        free.wait(10)
        return [ModelOutput("malignant", 0.75)] * len(matrix)

    service = record(model, replace(challenger, predict_fn=slow))
    free.clear()
    for row in rows[:4]:
        assert service.client.post("/predict", json={"features": row}).status_code == 200
    free.set()
    wait_until(lambda: [span.name for span in sdk_spans(service)].count("shadow") == 4, description="the shadows")

    spans = sdk_spans(service)
    servers = {span.span_id: span for span in spans if span.name.startswith("POST")}
    shadows = {span.span_id: span for span in spans if span.name == "shadow"}
    assert {span.parent_span_id for span in shadows.values()} == set(servers)
    assert all(span.trace_id == servers[span.parent_span_id].trace_id for span in shadows.values())
    below = Counter(span.name for span in spans if span.parent_span_id in shadows)
    assert below == {"validate": 4, "queue": 3, "features": 4, "inference": 4}
    assert all(
        span.trace_id == shadows[span.parent_span_id].trace_id for span in spans if span.parent_span_id in shadows
    )
    (batch,) = (span for span in spans if span.name == "batch")
    assert {link.span_id for link in batch.links} < set(shadows)


def test_records_of_a_shadow_say_what_they_are(model: Model, challenger: Model, rows: Rows) -> None:
    """Audit record and log line have role and the ID of what was answered; there is no access line."""
    with service_with_challenger(model, challenger) as (client, kept):
        answer = client.post("/predict", json={"features": rows[0]}).json()
        wait_until(kept.shadows, description="the shadow")
    said = f'"ml.prediction.shadow_of":"{answer["prediction_id"]}"'.encode()
    lines = LineEncoder().encode(kept.shadows()).splitlines()
    ((audit, number),) = LogEncoder(Origin(b"", "modeltrace")).predictions(kept.shadows())

    assert len(lines) == number == 1
    assert said in lines[0]
    assert b'"ml.model.role":"challenger"' in lines[0]
    assert b"ml.prediction.shadow_of" in audit
    assert answer["prediction_id"].encode() in audit
    assert said not in LineEncoder().encode(kept.requests[:1])
