"""Responses of the prediction routes."""

import json
from collections.abc import Callable
from dataclasses import replace
from threading import Event, Thread

import numpy as np
import pytest
from starlette.testclient import TestClient

from modeltrace.app import create_app
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.settings import Settings
from modeltrace.telemetry.providers import Telemetry
from modeltrace.telemetry.records import trace
from tests.helpers.in_process_services import SdkService
from tests.helpers.services import ID_KEY

Rows = list[dict[str, float]]


def test_a_prediction_has_label_confidence_model_and_trace(service: SdkService, rows: Rows) -> None:
    """The response has all documented fields."""
    answer = service.client.post("/predict", json={"features": rows[0]})

    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"prediction_id", "label", "confidence", "model", "trace_id"}
    assert body["label"] in ("benign", "malignant")
    assert 0.5 <= body["confidence"] <= 1
    assert body["model"] == {"name": "breast-cancer", "version": "1.0.0"}
    assert answer.headers["X-Trace-Id"] == body["trace_id"]


def test_a_prediction_id_describes_the_prediction(service: SdkService, rows: Rows) -> None:
    """Trace, span, row, version and output can be read from the ID."""
    body = service.client.post("/predict/batch", json={"rows": rows[:2]}).json()

    ref = PredictionIdSigner(ID_KEY.encode()).verify(body["predictions"][1]["prediction_id"])

    assert f"{ref.trace_id:032x}" == body["trace_id"]
    assert ref.span_id == service.spans()["POST /predict/batch"].context.span_id
    assert (ref.row, ref.model_version, ref.output) == (1, "1.0.0", body["predictions"][1]["label"])


def test_a_batch_is_answered_in_order(service: SdkService, rows: Rows) -> None:
    """A batch returns the predictions of single requests, in the same order."""
    single = [service.client.post("/predict", json={"features": row}).json()["label"] for row in rows[:20]]

    batch = service.client.post("/predict/batch", json={"rows": rows[:20]}).json()

    assert [entry["label"] for entry in batch["predictions"]] == single


@pytest.mark.parametrize("bad", [{}, {"mean_radius": "wide"}, 5, None, [1]])
def test_an_invalid_row_does_not_affect_the_others(service: SdkService, rows: Rows, bad: object) -> None:
    """Its error is in its position; the other rows are predicted."""
    answer = service.client.post("/predict/batch", json={"rows": [rows[0], bad, rows[1]]})

    assert answer.status_code == 200
    first, second, third = answer.json()["predictions"]
    assert second["error"]["type"] == "invalid_features"
    assert "label" in first
    assert "label" in third


def test_an_empty_batch_is_answered_with_no_predictions(service: SdkService) -> None:
    """The response is 200 with an empty list."""
    assert service.client.post("/predict/batch", json={"rows": []}).json()["predictions"] == []


def test_invalid_features_are_422_with_feature_and_reason(service: SdkService, rows: Rows) -> None:
    """Each violation is listed, without the value."""
    answer = service.client.post("/predict", json={"features": {**rows[0], "mean_radius": "secret", "extra": 1}})

    assert answer.status_code == 422
    violations = {(each["feature"], each["reason"]) for each in answer.json()["error"]["violations"]}
    assert violations == {("mean_radius", "type"), ("extra", "unknown")}
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"features": {"mean_radius": NaN}}',
        b'{"features": {"mean_radius": Infinity}}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"features": ' + b'{"a":' * 2_000 + b"1" + b"}" * 2_000 + b"}",
        b'{"rows": []}',
        b'{"features": {}, "more": 1}',
    ],
    ids=[
        "empty",
        "incomplete",
        "array",
        "null",
        "nan",
        "infinity",
        "not utf-8",
        "deep array",
        "deep object",
        "key",
        "more",
    ],
)
def test_a_malformed_body_is_400_and_the_service_goes_on(service: SdkService, rows: Rows, body: bytes) -> None:
    """Invalid JSON and wrong shapes have an error response; the next request is predicted."""
    answer = service.client.post("/predict", content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "malformed_request"
    assert service.client.post("/predict", json={"features": rows[0]}).status_code == 200


def test_a_body_over_the_limit_is_413(record: Callable[..., SdkService], model: Model) -> None:
    """The `Content-Length` is enough to reject it."""
    service = record(model, max_body_bytes=2_000)

    answer = service.client.post("/predict", content=b"x" * 2_001)

    assert answer.status_code == 413
    assert "MODELTRACE_MAX_BODY_BYTES" in answer.json()["error"]["message"]


def test_a_chunked_body_over_the_limit_is_413(record: Callable[..., SdkService], model: Model) -> None:
    """A body without `Content-Length` is counted while it is received."""
    service = record(model, max_body_bytes=2_000)

    answer = service.client.post("/predict", content=iter([b"x" * 1_500, b"x" * 1_500]))

    assert answer.status_code == 413


@pytest.mark.slow
def test_a_batch_of_too_many_rows_is_413(record: Callable[..., SdkService], model: Model) -> None:
    """Ten million rows are rejected before any of them is validated."""
    service = record(model)
    body = b'{"rows":[' + b"1," * 9_999_999 + b"1]}"

    answer = service.client.post("/predict/batch", content=body)

    assert answer.status_code == 413
    assert "10000000 rows" in answer.json()["error"]["message"]


def test_an_unknown_route_is_404_and_a_wrong_method_405(service: SdkService) -> None:
    """Both responses say what exists, and have a trace ID."""
    missing, wrong = service.client.get("/nothing"), service.client.get("/predict")

    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert "/docs" in missing.json()["error"]["message"]
    assert wrong.headers["allow"] == "POST"
    assert all(len(answer.json()["trace_id"]) == 32 for answer in (missing, wrong))


def failing(model: Model, error: Exception) -> Model:
    """Return a model that raises an error."""

    def fail(_: object) -> list[ModelOutput]:
        raise error

    return replace(model, predict_fn=fail)


def test_a_failing_model_is_500_without_its_message(
    record: Callable[..., SdkService], model: Model, rows: Rows
) -> None:
    """The message of the model may contain private values; only the log has it."""
    service = record(failing(model, ValueError("secret 42")))

    answer = service.client.post("/predict", json={"features": rows[0]})

    assert answer.status_code == 500
    assert answer.json()["error"] == {"type": "inference_failed", "message": "the model failed with ValueError"}


def test_a_slow_model_does_not_block_other_requests(
    record: Callable[..., SdkService], model: Model, rows: Rows
) -> None:
    """Probes are answered while the model computes."""
    enabled, started, release = Event(), Event(), Event()

    def slow(matrix: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> list[ModelOutput]:
        if enabled.is_set():  # not while startup measures the latency
            started.set()
            assert release.wait(10)
        return [ModelOutput(label="benign", confidence=1.0)] * len(matrix)

    service = record(replace(model, predict_fn=slow), inline_threshold=0)
    enabled.set()
    statuses: list[int] = []

    def predict() -> None:
        statuses.append(service.client.post("/predict", json={"features": rows[0]}).status_code)

    thread = Thread(target=predict)
    thread.start()
    assert started.wait(10)
    healthy = service.client.get("/healthz").status_code
    release.set()
    thread.join()

    assert (healthy, statuses) == (200, [200])


def test_requests_beyond_the_queue_limit_are_503(record: Callable[..., SdkService], model: Model, rows: Rows) -> None:
    """The response says when to retry."""
    started, release = Event(), Event()

    def slow(_: object) -> list[ModelOutput]:
        started.set()
        assert release.wait(10)
        return [ModelOutput(label="benign", confidence=1.0)]

    blocking = replace(model, predict_fn=slow, cpu_bound=False)
    service = record(blocking, inference_threads=1, max_queue_size=0)
    running = Thread(target=service.client.post, args=("/predict",), kwargs={"json": {"features": rows[0]}})
    running.start()
    assert started.wait(10)
    answer = service.client.post("/predict", json={"features": rows[0]})
    release.set()
    running.join()

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"


def test_a_regressor_returns_a_value(record: Callable[..., SdkService], model: Model, rows: Rows) -> None:
    """The response has neither label nor confidence."""
    service = record(replace(model, task="regressor", classes=None, predict_fn=lambda _: [ModelOutput(value=2.5)]))

    body = service.client.post("/predict", json={"features": rows[0]}).json()

    assert body["value"] == 2.5
    assert "label" not in body
    assert "confidence" not in body


def test_a_classifier_without_probabilities_has_no_confidence(
    record: Callable[..., SdkService], model: Model, rows: Rows
) -> None:
    """`confidence` is null."""
    service = record(replace(model, predict_fn=lambda _: [ModelOutput(label="benign")]))

    assert service.client.post("/predict", json={"features": rows[0]}).json()["confidence"] is None


def test_get_model_describes_the_model(service: SdkService, model: Model) -> None:
    """It has name, version, hash and all features."""
    body = service.client.get("/model").json()

    assert (body["name"], body["version"], body["hash"]) == (model.name, model.version, model.hash)
    assert [feature["name"] for feature in body["features"]] == list(model.schema.names)


def test_the_documented_example_is_valid(service: SdkService) -> None:
    """The example of /docs is answered with a prediction."""
    operation = service.client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["schema"]["example"]

    assert service.client.post("/predict", content=json.dumps(example)).status_code == 200


def test_docs_need_no_other_host(service: SdkService) -> None:
    """The page loads its scripts from the service."""
    page = service.client.get("/docs").text

    assert "https://" not in page
    assert service.client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_prediction_ids_differ_without_telemetry(
    settings: Settings, model: Model, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal predictions at the same time without a span have different IDs."""
    monkeypatch.setattr(trace, "time_ns", lambda: 1_795_000_000_000_000_000)
    monkeypatch.setattr(trace, "perf_counter_ns", lambda: 0)
    with TestClient(create_app(settings, model, Telemetry())) as client:
        answers = [client.post("/predict", json={"features": rows[0]}).json() for _ in range(20)]

    assert {answer["trace_id"] for answer in answers} == {None}
    assert len({answer["prediction_id"] for answer in answers}) == 20
