"""Requests of other protocols leave the telemetry of a prediction, whatever answers them and however they end."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from modeltrace.api.auth import wrap_with_auth
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.schema import Schema
from modeltrace.settings import read_settings
from tests.helpers.conformance import comparable_metrics, comparable_spans, sdk_spans
from tests.helpers.in_process_services import (
    SdkService,
    records_service,
    service_with_challenger,
)
from tests.helpers.processes import wait_until

Rows = list[dict[str, Any]]
Request = dict[str, Any]
MODEL = "breast-cancer"
INFER, PREDICT = f"/v2/models/{MODEL}/infer", f"/v1/models/{MODEL}:predict"


def infer(rows: Rows, path: str = INFER, **more: Any) -> Request:
    """Return a request of the Open Inference Protocol."""
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name in rows[0]
    ]
    return {"url": path, "json": {"inputs": inputs, **more}}


def binary(rows: Rows) -> Request:
    """Return a request whose response is binary."""
    return infer(rows, parameters={"binary_data_output": True})


def invocations(rows: Rows) -> Request:
    """Return a request of MLflow."""
    table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    return {"url": "/invocations", "json": {"dataframe_split": table}}


def csv(rows: Rows) -> Request:
    """Return a request of MLflow with CSV."""
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    return {"url": "/invocations", "content": "\n".join(lines).encode(), "headers": {"Content-Type": "text/csv"}}


def predict(rows: Rows) -> Request:
    """Return a request of KServe's protocol V1."""
    return {"url": PREDICT, "json": {"instances": rows}}


FORMS: dict[str, Callable[[Rows], Request]] = {
    "infer": infer, "infer, binary": binary, "invocations": invocations, "invocations, CSV": csv, "predict": predict,
}  # fmt: skip
CASES: dict[str, Callable[[Rows], Request]] = {
    **{f"{name}, one row": lambda rows, form=form: form(rows[:1]) for name, form in FORMS.items()},  # type: ignore[misc]  # bound in the loop
    **{f"{name}, many rows": lambda rows, form=form: form(rows[:3]) for name, form in FORMS.items()},  # type: ignore[misc]  # bound in the loop
    **{
        f"{name}, an invalid row": lambda rows, form=form: form([rows[0], {**rows[1], "mean_area": "wide"}])  # type: ignore[misc]  # bound in the loop
        for name, form in FORMS.items()
        if not name.startswith("infer")
    },
    "infer, an invalid row": lambda rows: infer([rows[0], {**rows[1], "mean_area": 1e300}]),
    "infer, not JSON": lambda _: {"url": INFER, "content": b"{"},
    "infer, an unknown model": lambda rows: infer(rows[:1], "/v2/models/other/infer"),
    "infer, a version": lambda rows: infer(rows[:1], f"/v2/models/{MODEL}/versions/1.0.0/infer"),
    "predict, an unknown model": lambda _: {"url": "/v1/models/other:predict", "json": {}},
    "invocations, another type": lambda _: {"url": "/invocations", "headers": {"Content-Type": "text/plain"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_telemetry_and_responses_equal_those_of_the_sdk(
    record: Callable[..., SdkService], model: Model, rows: Rows, case: str
) -> None:
    """Spans, metrics, status, headers and body are equal with either instrumentation, except for IDs."""
    service = record(model)
    with records_service(model) as sidecar:
        responses = [client.post(**CASES[case](rows)) for client in (service.client, sidecar.client)]

        assert responses[0].status_code == responses[1].status_code
        assert set(responses[0].headers) == set(responses[1].headers)
        assert responses[0].headers["content-type"] == responses[1].headers["content-type"]
        assert responses[0].content.startswith(b"{")
        if responses[0].headers["content-type"] == "application/json":
            assert responses[0].json().keys() == responses[1].json().keys()
        assert comparable_spans(sidecar.spans()) == comparable_spans(sdk_spans(service))
        data = service.metric_reader.get_metrics_data()
        assert data is not None
        expected = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        assert comparable_metrics(sidecar.metrics()) == comparable_metrics(expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [1, 3])
def test_telemetry_equals_that_of_predict(model: Model, rows: Rows, form: str, number: int) -> None:
    """Stages, predictions with inputs, and metrics are those of `/predict` or `/predict/batch` for the same rows."""
    single = {"url": "/predict", "json": {"features": rows[0]}}
    batch = {"url": "/predict/batch", "json": {"rows": rows[:number]}}
    telemetry = []
    for request in (single if number == 1 else batch, FORMS[form](rows[:number])):
        with records_service(model) as service:
            response = service.client.post(**request)
            assert response.status_code == 200, response.text
        spans = comparable_spans(service.spans())
        stages = {name: span for name, span in spans.items() if " " not in name}
        for stage in stages.values():
            stage["parent"] = "SERVER"
        (server,) = (span for name, span in spans.items() if " " in name)
        own = {"http.route", "url.path", "http.target", "http.url", "url.full", "user_agent.original", "url.query"}
        server["attributes"] = {key: value for key, value in server["attributes"].items() if key not in own}
        metrics = comparable_metrics(service.metrics())
        del metrics["http.server.request.duration"]  # its attributes have the route
        predictions = [row._replace(prediction_id="", time=0) for row in service.queue.requests[0].predictions]
        telemetry.append((stages, server, metrics, predictions))

    assert telemetry[0] == telemetry[1]
    assert set(telemetry[0][0]) == {"validate", "features", "inference"}
    assert len(telemetry[0][3]) == number


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_accepted_for_the_prediction_ids(model: Model, rows: Rows, form: str) -> None:
    """The IDs of the response are those of the records."""
    with records_service(model) as service:
        content = service.client.post(**FORMS[form](rows[:2])).content
        ids = [row.prediction_id for row in service.queue.requests[-1].predictions]

    assert len(ids) == 2
    assert all(prediction_id.encode() in content for prediction_id in ids)


def test_single_rows_share_model_calls(model: Model, rows: Rows) -> None:
    """With batching, a request with one row has the stage `queue`, as `/predict` does."""
    with records_service(model, batching=True) as service:
        for form in (infer, invocations, predict):
            assert service.client.post(**form(rows[:1])).status_code == 200
            assert service.queue.requests[-1].batch_span is not None
        assert service.client.post(**csv(rows[:1])).status_code == 200
    assert len(service.queue.batches) == 3


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("batching", [False, True])
def test_probabilities_of_all_classes(model: Model, rows: Rows, number: int, batching: bool) -> None:
    """Probabilities equal those of `/predict/batch`, as an output of V2 and by the query parameter of each protocol."""
    query = "?probabilities=true"
    with records_service(model, batching=batching) as service:
        post = service.client.post
        predictions = post(f"/predict/batch{query}", json={"rows": rows[:number]}).json()["predictions"]
        expected = [prediction["probabilities"] for prediction in predictions]
        values = [value for row in expected for value in row.values()]
        by_output = post(**infer(rows[:number], outputs=[{"name": "probabilities"}])).json()
        by_query = post(**infer(rows[:number], f"{INFER}{query}")).json()
        for form in (invocations, csv, predict):
            request = form(rows[:number])
            answered = post(**{**request, "url": request["url"] + query}).json()
            assert answered["probabilities"] == expected
            assert "probabilities" not in post(**request).json()
        described = service.client.get(f"/v2/models/{MODEL}").json()["outputs"]

    output = {"name": "probabilities", "datatype": "FP64", "shape": [number, 2], "data": values}
    assert by_output["outputs"] == [output]
    assert [item["name"] for item in by_query["outputs"]] == ["label", "confidence", "prediction_id", "probabilities"]
    assert by_query["outputs"][-1] == output
    assert described[-1] == {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]}


@pytest.mark.parametrize("form", [infer, invocations, predict])
def test_the_setting_decides_about_probabilities(model: Model, rows: Rows, form: Callable[[Rows], Request]) -> None:
    """With `always`, each response has them; with `never`, a request for them is rejected."""
    request = form(rows[:1])
    with records_service(model, probabilities="always") as service:
        assert "probabilities" in service.client.post(**request).text
    asking = {**request, "url": f"{request['url']}?probabilities=true"}
    with records_service(model, probabilities="never") as service:
        responses = [service.client.post(**asking)]
        if form is infer:
            responses.append(service.client.post(**infer(rows[:1], outputs=[{"name": "probabilities"}])))
    for response in responses:
        assert response.status_code == 400
        assert "MODELTRACE_PROBABILITIES=never" in response.text


def test_large_bodies_and_slow_models_run_on_threads(model: Model, rows: Rows) -> None:
    """The responses are the same."""
    slow = replace(model, cpu_bound=False)
    with records_service(slow, inline_threshold=0) as service:
        label = service.client.post("/predict", json={"features": rows[0]}).json()["label"]
        assert service.client.post(**predict(rows[:1])).json()["predictions"] == [label]
        many = [rows[index % len(rows)] for index in range(300)]
        response = service.client.post(**predict(many))
        assert len(json.dumps({"instances": many})) > 64 * 1024
        single = service.client.post("/predict/batch", json={"rows": many}).json()["predictions"]

    assert response.json()["predictions"] == [prediction["label"] for prediction in single]
    assert response.json()["confidences"] == [prediction["confidence"] for prediction in single]


@pytest.fixture
def challenger(model: Model) -> Model:
    """Another version that always predicts the same label."""
    outputs = [ModelOutput("malignant", 0.75)]
    return replace(model, version="2.0.0", hash="2" * 64, predict_fn=lambda matrix: outputs * len(matrix))


@pytest.mark.parametrize("form", [infer, invocations, predict])
def test_a_challenger_in_shadow_mode_predicts_the_same_rows(
    model: Model, challenger: Model, rows: Rows, form: Callable[[Rows], Request]
) -> None:
    """The rows are those of the request; the response does not name the challenger, which cannot be asked."""
    with service_with_challenger(model, challenger) as (client, queue):
        assert client.post(**form(rows[:2])).status_code == 200
        wait_until(queue.shadows, description="the shadow")
        assert client.get(f"/v2/models/{MODEL}").json()["versions"] == [model.version]
        assert client.get(f"/v2/models/{MODEL}/versions/2.0.0/ready").status_code == 404
    (shadow,) = queue.shadows()
    assert [row.inputs for row in shadow.predictions] == [tuple(row.values()) for row in rows[:2]]


def test_a_version_of_two_can_be_requested(model: Model, challenger: Model, rows: Rows) -> None:
    """In split mode both versions answer; a request without a version gets one of them."""
    with service_with_challenger(model, challenger, challenger_mode="split", challenger_share=0.0) as (client, _):
        assert client.get(f"/v2/models/{MODEL}").json()["versions"] == [model.version, "2.0.0"]
        for version, expected in ((model.version, model.version), ("2.0.0", "2.0.0")):
            answer = client.post(**infer(rows[:1], f"/v2/models/{MODEL}/versions/{version}/infer")).json()
            assert answer["model_version"] == expected
        assert client.post(**infer(rows[:1])).json()["model_version"] == model.version


@pytest.mark.parametrize("form", [infer, invocations, predict])
def test_messages_of_a_model_with_private_features_are_redacted(
    model: Model, rows: Rows, caplog: pytest.LogCaptureFixture, form: Callable[[Rows], Request]
) -> None:
    """The exception of a model may contain a value, so neither record nor log contains its message."""
    secret = 42  # the source line, which a stack trace contains, does not have the message

    def fail(_: object) -> list[ModelOutput]:
        raise ValueError(f"secret {secret}")

    first, *others = model.schema.features
    reference = first.reference.model_copy(update={"mean": None})
    private = first.model_copy(update={"privacy": "hash", "training_range": None, "reference": reference})
    failing = replace(model, schema=Schema(features=(private, *others)), predict_fn=fail)
    caplog.set_level(logging.DEBUG)
    with records_service(failing) as service:
        response = service.client.post(**form(rows[:1]))
    failure = service.queue.requests[-1].failure

    assert response.status_code == 500
    assert failure is not None
    assert failure.stage == "inference"
    assert "secret 42" not in f"{response.text}{failure}{caplog.text}"


ROUTES = [
    ("GET", "/v2"), ("GET", f"/v2/models/{MODEL}"), ("GET", f"/v2/models/{MODEL}/ready"), ("POST", INFER),
    ("POST", f"/v2/models/{MODEL}/versions/1.0.0/infer"), ("GET", "/v1/models"), ("GET", f"/v1/models/{MODEL}"),
    ("POST", PREDICT), ("POST", "/invocations"), ("GET", "/version"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_all_calls_but_probes_need_the_key(model: Model, method: str, path: str) -> None:
    """The response without key is 401, in the form of the protocol; the request does not reach the model."""
    with records_service(model) as service:
        guarded = wrap_with_auth(service.client.app, read_settings(api_key="a key of 16 signs"))
        client = TestClient(guarded, base_url="http://127.0.0.1:8000")
        response = client.request(method, path, json={} if method == "POST" else None)
        for probe in ("/v2/health/live", "/v2/health/ready", "/ping", "/health"):
            assert client.get(probe).status_code == 200

    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    body = response.json()
    mlflow = path in ("/invocations", "/version")
    assert body["error_code" if mlflow else "error"] == "UNAUTHENTICATED" if mlflow else isinstance(body["error"], str)
    assert service.queue.requests == []


@pytest.mark.parametrize("path", [INFER, PREDICT, "/invocations"])
def test_bodies_are_limited(model: Model, path: str) -> None:
    """A large body is answered with 413, an unsupported coding with 415."""
    with records_service(model, max_body_bytes=1024) as service:
        post = service.client.post
        large, coded = post(path, content=b" " * 1025), post(path, content=b"{}", headers={"Content-Encoding": "br"})

    assert (large.status_code, coded.status_code) == (413, 415)
    assert "MODELTRACE_MAX_BODY_BYTES" in large.json()["message" if path == "/invocations" else "error"]


def test_every_call_is_documented(service: SdkService) -> None:
    """docs/protocols.md has each call of the protocols that the OpenAPI document has."""
    text = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text()
    paths = service.client.get("/openapi.json").json()["paths"]
    calls = [
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        if path.startswith(("/v1", "/v2", "/invocations", "/ping", "/health", "/version")) and path != "/healthz"
        for method in methods
    ]

    assert len(calls) == 16
    assert [call for call in calls if f"`{call}`" not in text] == []


def test_probes_leave_no_spans(service: SdkService) -> None:
    """Probes are polled frequently, so they are not traced, like `/healthz`."""
    for path in ("/v2/health/live", "/v2/health/ready", "/ping", "/health"):
        assert service.client.get(path).status_code == 200
    assert service.spans() == {}
    service.client.get(f"/v2/models/{MODEL}")
    assert list(service.spans()) == ["GET /v2/models/{name}"]
