"""The trace, log records, exemplars and prediction log record of a request are found by its trace ID."""

import secrets
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.helpers.backends import Backend, wait_for_records
from tests.helpers.processes import wait_until
from tests.helpers.services import Service

pytestmark = pytest.mark.slow

PIN = {"baggage": "modeltrace.pin=1"}


def predict(service: Service, row: dict[str, float], **headers: str) -> dict[str, Any]:
    """Send a pinned request with one row, and return the response."""
    answer = httpx.post(f"{service.url}/predict", json={"features": row}, headers={**PIN, **headers})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-trace-id"] == answer.json()["trace_id"]
    answered: dict[str, Any] = answer.json()
    return answered


def test_the_stages_are_children_of_the_server_span(
    service: Service, backend: Backend, rows: list[dict[str, float]]
) -> None:
    """A prediction is one SERVER span with `validate`, `features` and `inference` below it, and nothing else."""
    answer = predict(service, rows[0])

    spans = {span["name"]: span for span in wait_for_records(backend, answer["trace_id"], "spans", 4)}

    assert set(spans) == {"POST /predict", "validate", "features", "inference"}
    server = spans["POST /predict"]
    assert server["kind"] == "SERVER"
    assert server["attributes"]["http.route"] == "/predict"
    assert server["attributes"]["ml.prediction.id"] == answer["prediction_id"]
    assert {spans[n]["parent_span_id"] for n in ("validate", "features", "inference")} == {server["span_id"]}


def test_the_service_continues_the_trace_of_its_client(
    service: Service, backend: Backend, rows: list[dict[str, float]]
) -> None:
    """The SERVER span continues the trace of the caller's `traceparent`."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)

    answer = predict(service, rows[0], traceparent=f"00-{trace_id}-{span_id}-01")

    assert answer["trace_id"] == trace_id
    server = next(s for s in wait_for_records(backend, trace_id, "spans", 4) if s["kind"] == "SERVER")
    assert server["parent_span_id"] == span_id


def test_the_log_records_carry_the_trace_id(service: Service, backend: Backend, rows: list[dict[str, float]]) -> None:
    """The access line and the prediction log record are found by the trace ID."""
    answer = predict(service, rows[0])

    logs = wait_for_records(backend, answer["trace_id"], "logs", 2)

    assert {log["scope_name"] for log in logs} == {"uvicorn.access", "modeltrace.prediction"}


def test_the_prediction_log_record_is_complete(
    service: Service, backend: Backend, rows: list[dict[str, float]]
) -> None:
    """The record contains inputs, label, confidence, model and prediction ID."""
    answer = predict(service, rows[1])

    (prediction,) = wait_for_records(backend, answer["trace_id"], "predictions")

    attributes = prediction["attributes"]
    assert attributes["ml.prediction.inputs"] == rows[1]
    assert attributes["ml.prediction.label"] == answer["label"]
    assert attributes["ml.prediction.confidence"] == answer["confidence"]
    assert attributes["ml.prediction.id"] == answer["prediction_id"]
    assert attributes["ml.model.name"] == answer["model"]["name"]
    assert attributes["ml.model.version"] == answer["model"]["version"]
    assert len(attributes["ml.model.hash"]) == 64


def test_a_pinned_request_is_an_exemplar(service: Service, backend: Backend, rows: list[dict[str, float]]) -> None:
    """Request and inference duration, predictions, confidence and the bin of each feature have the trace ID."""
    answer = predict(service, rows[0])

    exemplars = wait_for_records(backend, answer["trace_id"], "exemplars", 34)

    assert Counter(exemplar["metric_name"] for exemplar in exemplars)["ml.feature.observations"] == 30
    assert {exemplar["metric_name"] for exemplar in exemplars} >= {
        "http.server.request.duration",
        "ml.inference.duration",
        "ml.predictions",
        "ml.prediction.confidence",
    }


def test_a_batch_has_one_prediction_log_record_per_row(
    service: Service, backend: Backend, rows: list[dict[str, float]]
) -> None:
    """A request with 10,000 rows has 10,000 prediction log records."""
    batch = [rows[i % len(rows)] for i in range(10_000)]
    answer = httpx.post(f"{service.url}/predict/batch", json={"rows": batch}, timeout=60)
    assert answer.status_code == 200
    trace_id = answer.json()["trace_id"]

    wait_until(lambda: backend.prediction_count(trace_id) == 10_000, description="10,000 prediction log records")


def test_a_rejected_request_is_found_by_its_trace_id(service: Service, backend: Backend) -> None:
    """A rejected request has a SERVER span, a `validate` span with the error, log records and exemplars."""
    answer = httpx.post(f"{service.url}/predict", json={"features": {"mean_radius": "wide"}}, headers=PIN)
    assert answer.status_code == 422

    trace_id = answer.json()["trace_id"]
    spans = {span["name"]: span for span in wait_for_records(backend, trace_id, "spans", 2)}
    assert spans["POST /predict"]["attributes"]["http.response.status_code"] == 422
    assert spans["validate"]["attributes"]["error.type"] == "invalid_features"
    logs = wait_for_records(backend, trace_id, "logs", 32)
    assert "modeltrace.api" in {log["scope_name"] for log in logs}
    violations = [log["attributes"] for log in logs if log["scope_name"] == "modeltrace.data"]
    reasons = {violation["ml.feature.name"]: violation["ml.data.violation.reason"] for violation in violations}
    assert len(reasons) == 30
    assert Counter(reasons.values()) == {"missing": 29, "type": 1}
    assert reasons["mean_radius"] == "type"
    assert "ml.data.violations" in {e["metric_name"] for e in wait_for_records(backend, trace_id, "exemplars", 2)}


def test_metrics_of_the_process_and_the_sdk_arrive(
    service: Service, backend: Backend, rows: list[dict[str, float]]
) -> None:
    """The backend receives metrics of CPU, memory, queues and exports, not only those of predictions."""
    predict(service, rows[0])
    expected = {
        "process.cpu.time",
        "process.memory.usage",
        "otel.sdk.processor.span.queue.size",
        "otel.sdk.processor.log.queue.size",
        "otel.sdk.processor.log.queue.capacity",
        "otel.sdk.exporter.span.exported",
    }

    for metric in expected:
        wait_until(lambda name=metric: backend.has_metric(name), description=metric)  # type: ignore[misc]  # bound in the loop
