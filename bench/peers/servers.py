"""The servers that bench/peers compares: their installation, their HTTP interface and their telemetry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import orjson

from bench.peers import launch
from bench.peers.launch import ONNX, Launch, RunContext, Variant

# The model must be loaded with the version that saved it. All else follows the documentation of each server.
SKLEARN_REQUIREMENT = f"scikit-learn=={version('scikit-learn')}"

Row = Mapping[str, float]


@dataclass(frozen=True)
class Server:
    """A server: its environment, its HTTP interface and its properties."""

    name: str
    requirements: Sequence[str]  # empty: the environment of the project
    variants: Sequence[Variant]
    telemetry: str  # description of what it contains
    batching: str  # name of the feature that batches rows of concurrent requests
    launch: Callable[[RunContext, Variant], Launch]
    ready_path: str
    predict_path: str
    encode_body: Callable[[Row], bytes]
    read_confidence: Callable[[Any], float]  # the highest probability in the JSON of a response
    tuned: bool = False  # installed with more than its documentation requires, for speed


OFF_ON = (Variant(telemetry=False), Variant(telemetry=True))
ALL_FOUR = (*OFF_ON, Variant(telemetry=False, batching=True), Variant(telemetry=True, batching=True))


def features_body(row: Row) -> bytes:
    """Encode the row as names and values, for Modeltrace and bare."""
    return orjson.dumps({"features": row})


def row_body(row: Row) -> bytes:
    """Encode the row as a list of values."""
    return orjson.dumps({"row": list(row.values())})


def max_probability(probabilities: Sequence[Sequence[float]]) -> float:
    """Return the highest probability of the only row."""
    (row,) = probabilities
    return max(row)


MLSERVER = Server(
    name="mlserver",
    requirements=("mlserver==1.7.1", "mlserver-sklearn==1.7.1", SKLEARN_REQUIREMENT),
    variants=ALL_FOUR,
    telemetry="server, receive and send spans over OTLP (tracing_server), Prometheus metrics (not scraped); no "
    "inputs, no log records",
    batching="adaptive batching",
    launch=launch.mlserver,
    ready_path="/v2/models/model/ready",
    predict_path="/v2/models/model/infer",
    encode_body=lambda row: orjson.dumps(
        {
            "inputs": [{"name": "rows", "shape": [1, len(row)], "datatype": "FP64", "data": list(row.values())}],
            "outputs": [{"name": "predict_proba"}],
        }
    ),
    read_confidence=lambda response: max(response["outputs"][0]["data"]),
)

SERVERS = (
    Server(
        name="bare",
        requirements=(),
        variants=(Variant(telemetry=False),),
        telemetry="none",
        batching="none",
        launch=launch.bare,
        ready_path="/openapi.json",
        predict_path="/predict",
        encode_body=features_body,
        read_confidence=lambda response: float(response["confidence"]),
    ),
    Server(
        name="modeltrace",
        requirements=(),
        variants=(
            *ALL_FOUR,
            Variant(telemetry=True, batching=True, note="sidecar on the service's core", sidecar_on_server_core=True),
            Variant(telemetry=True, batching=True, note="ONNX Runtime", env=ONNX),
        ),
        telemetry="server, validate, features and inference spans (with batching a batch span that links them), access "
        "and prediction log records (all inputs and the answer) and metrics over OTLP, every request; the same "
        "log lines on stdout; /metrics",
        batching="built in",
        launch=launch.modeltrace,
        ready_path="/readyz",
        predict_path="/predict",
        encode_body=features_body,
        read_confidence=lambda response: float(response["confidence"]),
    ),
    Server(
        name="bentoml",
        requirements=("bentoml[monitor-otlp,tracing-otlp]==1.4.40", SKLEARN_REQUIREMENT),
        variants=ALL_FOUR,
        telemetry="spans over OTLP, a log record with all inputs and the answer over OTLP (bentoml.monitor), access "
        "lines, Prometheus metrics (not scraped)",
        batching="batchable API",
        launch=launch.bentoml,
        ready_path="/readyz",
        predict_path="/predict",
        encode_body=lambda row: orjson.dumps({"rows": [list(row.values())]}),
        read_confidence=max_probability,
    ),
    MLSERVER,
    # The HTTP server of MLServer uses a faster parser if it is installed.
    replace(
        MLSERVER,
        name="mlserver-httptools",
        requirements=(*MLSERVER.requirements, "httptools==0.7.1"),
        variants=ALL_FOUR[2:],
        tuned=True,
    ),
    Server(
        name="litserve",
        requirements=(
            *("litserve==0.2.19", "opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2"),
            *("opentelemetry-instrumentation-fastapi==0.66b2", SKLEARN_REQUIREMENT),
        ),
        variants=ALL_FOUR,
        telemetry="none built in: opentelemetry-instrumentation-fastapi on its application, server, receive "
        "and send spans over OTLP; access lines; no inputs, no metrics",
        batching="max_batch_size",
        launch=launch.litserve,
        ready_path="/health",
        predict_path="/predict",
        encode_body=row_body,
        read_confidence=lambda response: max(response["probabilities"]),
    ),
    Server(
        name="mlflow",
        requirements=("mlflow==3.17.0", "opentelemetry-exporter-otlp-proto-http==1.45.2", SKLEARN_REQUIREMENT),
        variants=OFF_ON,
        telemetry="a span with inputs and answer around the model (mlflow.trace on a Python model) over OTLP; access "
        "lines; no metrics",
        batching="none",
        launch=launch.mlflow,
        ready_path="/ping",
        predict_path="/invocations",
        encode_body=lambda row: orjson.dumps({"inputs": [list(row.values())]}),
        read_confidence=lambda response: max_probability(response["predictions"]),
    ),
    Server(
        name="ray",
        requirements=("ray[serve]==2.60.0", "opentelemetry-exporter-otlp-proto-http==1.45.2", SKLEARN_REQUIREMENT),
        variants=ALL_FOUR,
        telemetry="spans of proxy and replica over OTLP (its tracing exporter), access lines; no inputs",
        batching="serve.batch",
        launch=launch.ray,
        ready_path="/-/healthz",
        predict_path="/predict",
        encode_body=row_body,
        read_confidence=lambda response: max(response["probabilities"]),
    ),
)
