"""Clients of other servers call the service unmodified, and their calls are found by trace ID as those of `/predict`.

The clients are those of Triton (for the Open Inference Protocol) and of MLflow. KServe's protocol V1 is plain JSON.
"""

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from tests.helpers.backends import Backend, wait_for_records
from tests.helpers.processes import clean_environment, free_port
from tests.helpers.services import Service, running_service

pytestmark = pytest.mark.slow

PIN = {"baggage": "modeltrace.pin=1"}
MODEL = "breast-cancer"
KEY = "a key of 16 signs"
Rows = list[dict[str, float]]


def triton_client(url: str) -> Any:
    """Return Triton's client of a service."""
    import tritonclient.http  # noqa: PLC0415  every test process collects this module

    return tritonclient.http.InferenceServerClient(urlsplit(url).netloc)


def triton_input(name: str, datatype: str, values: Any, *, binary: bool = True) -> Any:
    """Return an input of Triton's client."""
    import tritonclient.http  # noqa: PLC0415  see `triton_client`

    tensor = tritonclient.http.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def columns(rows: Rows, *, binary: bool = True) -> list[Any]:
    """Return one input per feature."""
    return [triton_input(name, "FP64", np.array([row[name] for row in rows]), binary=binary) for name in rows[0]]


def labels(url: str, rows: Rows) -> list[Any]:
    """Return what `/predict/batch` answers."""
    predictions = httpx.post(f"{url}/predict/batch", json={"rows": rows}).json()["predictions"]
    return [prediction["label"] for prediction in predictions]


def assert_traced(backend: Backend, trace_id: str, route: str, prediction_ids: list[str], rows: Rows) -> None:
    """Find spans, log records, predictions and exemplars of a pinned request by its trace ID."""
    spans = {span["name"]: span for span in wait_for_records(backend, trace_id, "spans", 4)}
    assert set(spans) == {f"POST {route}", "validate", "features", "inference"}
    server = spans[f"POST {route}"]
    assert (server["kind"], server["attributes"]["http.route"]) == ("SERVER", route)
    assert {spans[name]["parent_span_id"] for name in set(spans) - {server["name"]}} == {server["span_id"]}
    predictions = wait_for_records(backend, trace_id, "predictions", len(rows))
    assert {log["attributes"]["ml.prediction.id"] for log in predictions} == set(prediction_ids)
    inputs = [log["attributes"]["ml.prediction.inputs"] for log in predictions]
    assert sorted(inputs, key=lambda row: row["mean_radius"]) == sorted(rows, key=lambda row: row["mean_radius"])
    logs = wait_for_records(backend, trace_id, "logs", 1 + len(rows))
    assert {log["scope_name"] for log in logs} == {"uvicorn.access", "modeltrace.prediction"}
    exemplars = wait_for_records(backend, trace_id, "exemplars", 34)
    assert {exemplar["metric_name"] for exemplar in exemplars} >= {
        "http.server.request.duration",
        "ml.inference.duration",
        "ml.predictions",
        "ml.prediction.confidence",
        "ml.feature.observations",
    }


@pytest.mark.parametrize("number", [1, 3])
def test_a_call_of_tritons_client_is_found_by_its_trace_id(
    service: Service, backend: Backend, rows: Rows, number: int
) -> None:
    """It continues the trace of the caller; the response has the prediction IDs."""
    trace_id = secrets.token_hex(16)
    headers = {**PIN, "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    with triton_client(service.url) as client:
        result = client.infer(MODEL, columns(rows[:number]), headers=headers, request_id="7")

    assert result.get_response()["id"] == "7"
    assert result.get_response()["parameters"] == {"trace_id": trace_id}
    assert [label.decode() for label in result.as_numpy("label")] == labels(service.url, rows[:number])
    ids = [prediction_id.decode() for prediction_id in result.as_numpy("prediction_id")]
    assert_traced(backend, trace_id, "/v2/models/{name}/infer", ids, rows[:number])


@pytest.mark.parametrize("number", [1, 3])
def test_a_grpc_call_of_tritons_client_is_found_by_its_trace_id(
    bundle: Path, backend: Backend, rows: Rows, number: int
) -> None:
    """Workers share the port. A call continues the trace of the caller, and a stop ends the service in time."""
    import tritonclient.grpc  # noqa: PLC0415  see `triton_client`

    inputs = []
    for name in rows[0]:
        inputs.append(tritonclient.grpc.InferInput(name, [number], "FP64"))
        inputs[-1].set_data_from_numpy(np.array([row[name] for row in rows[:number]]))
    port = free_port()
    with running_service(bundle, backend.otlp_url, "--workers", "2", MODELTRACE_GRPC_PORT=str(port)) as (process, url):
        expected = labels(url, rows[:number])
        for index in range(6):  # each connection is accepted by any worker
            trace_id = secrets.token_hex(16)
            headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01", **(PIN if index == 0 else {})}
            with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
                result = client.infer(MODEL, inputs, headers=headers)
            assert result.get_response().parameters["trace_id"].string_param == trace_id
            assert [label.decode() for label in result.as_numpy("label")] == expected
            if index == 0:
                ids = [prediction_id.decode() for prediction_id in result.as_numpy("prediction_id")]
                assert_traced(backend, trace_id, "/v2/models/{name}/infer", ids, rows[:number])
        process.stop(signal.SIGTERM)


def test_a_call_of_mlflows_client_is_found_by_its_trace_id(
    service: Service, backend: Backend, rows: Rows, tmp_path: Path
) -> None:
    """Every form that the client sends gets the same predictions; it understands probes, version and errors."""
    url = urlsplit(service.url)
    frame = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows[:3]]}
    program = [sys.executable, "-W", "ignore", "-m", "tests.helpers.mlflow_client_program", "127.0.0.1", str(url.port)]
    completed = subprocess.run(
        program, input=json.dumps(frame), capture_output=True, text=True, check=False, env=clean_environment(tmp_path),
        timeout=300,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    answered = json.loads(completed.stdout.splitlines()[-1])

    assert answered["version"] == httpx.get(f"{service.url}/version").text
    expected = labels(service.url, rows[:3])
    assert {name: response["predictions"] for name, response in answered["responses"].items()} == dict.fromkeys(
        ("frame", "array", "list", "text"), expected
    )
    assert "error code 400" in answered["error"]
    assert f"row 0: {next(iter(rows[0]))}: missing" in answered["error"]
    response = answered["responses"]["frame"]
    pinned = httpx.post(f"{service.url}/invocations", json={"dataframe_split": frame}, headers=PIN).json()
    assert pinned.keys() == response.keys()
    assert len(wait_for_records(backend, response["trace_id"], "predictions", 3)) == 3
    assert_traced(backend, pinned["trace_id"], "/invocations", pinned["prediction_ids"], rows[:3])


def test_a_call_of_protocol_v1_is_found_by_its_trace_id(service: Service, backend: Backend, rows: Rows) -> None:
    """A label that is sent for one of its predictions is accepted."""
    url = f"{service.url}/v1/models/{MODEL}"
    assert httpx.get(url).json() == {"name": MODEL, "ready": True}
    answered = httpx.post(f"{url}:predict", json={"instances": rows[:3]}, headers=PIN).json()

    assert answered["predictions"] == labels(service.url, rows[:3])
    assert_traced(backend, answered["trace_id"], "/v1/models/{name}:predict", answered["prediction_ids"], rows[:3])
    label = {"prediction_id": answered["prediction_ids"][0], "label": answered["predictions"][0]}
    assert httpx.post(f"{service.url}/feedback", json=label, timeout=30).json()["trace_id"] == answered["trace_id"]


def test_tritons_client_describes_server_and_model(service: Service) -> None:
    """Probes and metadata have the form that the client expects; what is missing is an error of the client."""
    from tritonclient.utils import InferenceServerException  # noqa: PLC0415  see `triton_client`

    with triton_client(service.url) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        assert client.is_model_ready(MODEL, "1.0.0")
        assert not client.is_model_ready(MODEL, "9")
        assert not client.is_model_ready("other")
        server = client.get_server_metadata()
        assert (server["name"], server["extensions"]) == ("modeltrace", ["binary_tensor_data"])
        metadata = client.get_model_metadata(MODEL)
        assert metadata == client.get_model_metadata(MODEL, "1.0.0")
        assert (metadata["name"], metadata["versions"], len(metadata["inputs"])) == (MODEL, ["1.0.0"], 30)
        with pytest.raises(InferenceServerException, match=r"\[404\] this service has no model 'other'"):
            client.get_model_metadata("other")


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("form", ["columns", "columns in JSON", "matrix", "matrix of FP32", "matrix in JSON"])
def test_tritons_client_may_send_each_form(service: Service, rows: Rows, form: str, compression: str | None) -> None:
    """One tensor per feature or one for all, binary or JSON, compressed or not: the predictions are the same."""
    import tritonclient.http  # noqa: PLC0415  see `triton_client`

    binary = "JSON" not in form
    if form.startswith("columns"):
        inputs = columns(rows[:3], binary=binary)
    else:
        datatype, dtype = ("FP32", np.float32) if "FP32" in form else ("FP64", np.float64)
        matrix = np.array([list(row.values()) for row in rows[:3]], dtype)
        inputs = [triton_input("x", datatype, matrix, binary=binary)]
    outputs = [
        tritonclient.http.InferRequestedOutput("confidence", binary_data=binary),
        tritonclient.http.InferRequestedOutput("label", binary_data=not binary),
    ]
    with triton_client(service.url) as client:
        result = client.infer(
            MODEL, inputs, "1.0.0", outputs,
            request_compression_algorithm=compression, response_compression_algorithm=compression,
        )  # fmt: skip

    sent = [dict(zip(row, map(float, np.float32(list(row.values()))), strict=True)) for row in rows[:3]]
    predictions = httpx.post(
        f"{service.url}/predict/batch", json={"rows": sent if "FP32" in form else rows[:3]}
    ).json()["predictions"]
    assert result.as_numpy("confidence").tolist() == [prediction["confidence"] for prediction in predictions]
    texts = [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("label")]
    assert texts == [prediction["label"] for prediction in predictions]
    assert result.as_numpy("prediction_id") is None


def test_tritons_client_reports_errors(service: Service, rows: Rows) -> None:
    """The exception has the status and the message."""
    from tritonclient.utils import InferenceServerException  # noqa: PLC0415  see `triton_client`

    with triton_client(service.url) as client:
        with pytest.raises(InferenceServerException, match=r"\[400\] mean_radius: missing"):
            client.infer(MODEL, columns(rows[:1])[1:])
        with pytest.raises(InferenceServerException, match=r"\[404\] this service has no model 'other'"):
            client.infer("other", columns(rows[:1]))


@pytest.fixture(scope="module")
def typed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with texts, integers and booleans, whose classes are integers."""
    frame = pd.DataFrame(
        {
            "city": ["Bonn", "Köln", "Trier"] * 20,
            "rooms": list(range(1, 7)) * 10,
            "vip": [True, False, False, True] * 15,
            "size": np.linspace(10, 100, 60),
        }
    )
    transformer = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough")
    estimator = make_pipeline(transformer, LogisticRegression(max_iter=5000))
    target = (frame.rooms + 2 * frame.vip > 4).astype(int)
    return pack(
        estimator.fit(frame, target), frame, name="flats", version="3", out=tmp_path_factory.mktemp("typed") / "flats"
    )


@pytest.fixture(scope="module")
def typed_service(typed_bundle: Path) -> Iterator[Service]:
    """The service with the classifier and an API key."""
    with running_service(
        typed_bundle, OTEL_SDK_DISABLED="true", MODELTRACE_STORE="none", MODELTRACE_API_KEY=KEY
    ) as service:
        yield service


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_sends_every_type_of_feature(typed_service: Service, typed_bundle: Path, binary: bool) -> None:
    """Texts, integers and booleans have their own datatypes; the outputs equal those of the model."""
    rows = [
        {"city": "Köln", "rooms": 5, "vip": True, "size": 31.5},
        {"city": "Aachen", "rooms": 1, "vip": False, "size": 99.0},
    ]
    frame = pd.DataFrame(rows)
    inputs = [
        triton_input("city", "BYTES", frame.city.to_numpy(object), binary=binary),
        triton_input("rooms", "INT64", frame.rooms.to_numpy(np.int64).reshape(-1, 1), binary=binary),
        triton_input("vip", "BOOL", frame.vip.to_numpy(bool), binary=binary),
        triton_input("size", "FP64", frame["size"].to_numpy(np.float64), binary=binary),
    ]
    model = load_bundle(typed_bundle)
    with triton_client(typed_service.url) as client:
        headers = {"Authorization": f"Bearer {KEY}"}
        metadata = client.get_model_metadata("flats", headers=headers)
        result = client.infer("flats", inputs, headers=headers)

    assert {item["name"]: item["datatype"] for item in metadata["inputs"]} == {
        "city": "BYTES", "rooms": "INT64", "vip": "BOOL", "size": "FP64",
    }  # fmt: skip
    expected = model.predict(frame)
    assert result.as_numpy("label").dtype == np.int64
    assert result.as_numpy("label").tolist() == [output.label for output in expected]
    assert result.as_numpy("confidence").tolist() == [output.confidence for output in expected]


def test_the_key_is_needed(typed_service: Service) -> None:
    """Without it, the client reports the message in the form of the protocol; probes need none."""
    from tritonclient.utils import InferenceServerException  # noqa: PLC0415  see `triton_client`

    with triton_client(typed_service.url) as client:
        assert client.is_server_live()
        with pytest.raises(InferenceServerException, match=r"\[401\] an API key is needed"):
            client.get_model_metadata("flats")


def test_the_key_may_be_part_of_the_host(typed_service: Service) -> None:
    """MLflow's client sends no header of the user's, but `requests`, which it uses, sends a password of the URL."""
    import requests  # noqa: PLC0415  see `triton_client`

    url = f"http://user:{quote(KEY)}@{urlsplit(typed_service.url).netloc}/version"
    assert requests.get(url, timeout=30).status_code == 200
    assert requests.get(url.replace("user:a", "user:b"), timeout=30).status_code == 401
