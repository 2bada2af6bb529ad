"""The KServe example: the service runs with its variables, and a client of the protocol gets predictions."""

from pathlib import Path

import httpx
import pytest
import yaml

from modeltrace.bundles.example import build_example
from modeltrace.settings import Settings
from tests.helpers.helm import CHART, VERSIONS, environment, schema_errors
from tests.helpers.services import running_service

pytestmark = pytest.mark.slow

RUNTIME, SERVICE = yaml.safe_load_all((CHART / "examples" / "kserve" / "inference-service.yaml").read_text())
(CONTAINER,) = RUNTIME["spec"]["containers"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_runtime_is_a_valid_pod(version: str) -> None:
    """Container and volumes have the fields of a Pod."""
    spec = {"containers": RUNTIME["spec"]["containers"], "volumes": RUNTIME["spec"]["volumes"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": spec}

    assert schema_errors(pod, version) == []


def test_the_service_refers_to_the_runtime() -> None:
    """Format, protocol and runtime are those of the runtime; the container has the name that KServe expects."""
    model = SERVICE["spec"]["predictor"]["model"]

    assert model["runtime"] == RUNTIME["metadata"]["name"]
    assert model["modelFormat"]["name"] in {f["name"] for f in RUNTIME["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in RUNTIME["spec"]["protocolVersions"]
    assert CONTAINER["name"] == "kserve-container"
    known = {f"MODELTRACE_{name}".upper() for name in Settings.model_fields}
    assert {name for name in environment(CONTAINER) if name.startswith("MODELTRACE_")} <= known


def test_a_client_of_the_protocol_gets_predictions(tmp_path: Path) -> None:
    """The probes answer without a key, and `infer` with one, at the paths of the example."""
    variables = environment(CONTAINER) | {
        "MODELTRACE_HOST": "127.0.0.1",
        "MODELTRACE_API_KEY": "a key of the tests",
        "MODELTRACE_ID_KEY": "another key of the tests",
        "MODELTRACE_STORE": str(tmp_path / "predictions.db"),
        "MODELTRACE_SPOOL_DIR": str(tmp_path / "spool"),
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    del variables["MODELTRACE_BUNDLE"], variables["MODELTRACE_PORT"], variables["NODE_NAME"]
    build_example(tmp_path / "bundle")
    with running_service(tmp_path / "bundle", **variables) as service, httpx.Client(base_url=service.url) as client:
        for probe in ("readinessProbe", "livenessProbe"):
            assert client.get(CONTAINER[probe]["httpGet"]["path"]).status_code == 200
        key = {"Authorization": f"Bearer {variables['MODELTRACE_API_KEY']}"}
        name = client.get("/model", headers=key).json()["name"]
        metadata = client.get(f"/v2/models/{name}", headers=key).json()
        rows = len(metadata["inputs"])
        tensor = {"name": "rows", "datatype": "FP64", "shape": [1, rows], "data": [1.0] * rows}
        refused = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})
        answered = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]}, headers=key)

    assert refused.status_code == 401
    assert answered.status_code == 200
    assert {"label", "prediction_id"} <= {output["name"] for output in answered.json()["outputs"]}
