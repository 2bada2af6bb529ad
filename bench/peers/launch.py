"""The commands and settings that start each server of bench/peers.

Each server is configured as its documentation recommends for throughput, with one worker process for the model. Without
telemetry, access logs are off, too. With telemetry, everything that the server can report about a request is on, and
is sent over OTLP if the server supports it.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import free_port

# Settings of the service for its variants.
BATCHING = {"MODELTRACE_BATCHING": "true"}
ONNX = {"MODELTRACE_ENGINE": "onnx"}

APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True)
class Variant:
    """One configuration of a server."""

    telemetry: bool
    batching: bool = False
    note: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    # Whether the sidecar stays on the core of the server. Otherwise it shares the core of load and receiver.
    sidecar_on_server_core: bool = False

    def __str__(self) -> str:
        labels = ["on" if self.telemetry else "off", "batching" if self.batching else "", self.note]
        return ", ".join(label for label in labels if label)


@dataclass(frozen=True)
class RunContext:
    """The files, the port and the OTLP endpoints of one run."""

    python: Path
    folder: Path  # a new, empty folder
    bundle: Path
    joblib_file: Path
    port: int
    otlp_http: str
    otlp_grpc: str


@dataclass(frozen=True)
class Launch:
    """The command and the environment variables that start a server."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def common_env(context: RunContext, variant: Variant) -> dict[str, str]:
    """Return the variables of bench/peers/apps and of OpenTelemetry, with short export intervals."""
    env = {
        "BENCH_MODEL": str(context.joblib_file),
        "BENCH_PORT": str(context.port),
        "BENCH_FOLDER": str(context.folder),
    }
    if variant.batching:
        env["BENCH_BATCHING"] = "1"
    if variant.telemetry:
        env |= {
            "BENCH_TELEMETRY": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": context.otlp_http,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
            "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        }
    return env


def modeltrace(context: RunContext, variant: Variant) -> Launch:
    """Launch the service of this project."""
    telemetry = {} if variant.telemetry else {"OTEL_SDK_DISABLED": "true", "MODELTRACE_STORE": "none"}
    batching = BATCHING if variant.batching else {}
    files = {
        "MODELTRACE_SPOOL_DIR": str(context.folder / "spool"),
        "MODELTRACE_STORE": str(context.folder / "predictions.db"),
    }
    command = [sys.executable, "-m", "modeltrace", "serve", str(context.bundle), "--port", str(context.port)]
    return Launch(command, {**files, **telemetry, **batching, **variant.env})


def bare(context: RunContext, variant: Variant) -> Launch:  # noqa: ARG001  all servers have the same signature
    """Launch the bare FastAPI application."""
    app = ["--factory", "bench.bare:create_app", "--port", str(context.port), "--loop", "uvloop", "--http", "httptools"]
    command = [sys.executable, "-m", "uvicorn", *app, "--no-access-log", "--log-level", "warning"]
    return Launch(command, {"BENCH_MODEL": str(context.joblib_file), "PYTHONPATH": str(APPS.parents[2])})


def bentoml(context: RunContext, variant: Variant) -> Launch:
    """Launch a BentoML service class, configured by a file."""
    tracing = {
        "exporter_type": "otlp",
        "sample_rate": 1.0,
        "otlp": {"protocol": "http", "endpoint": f"{context.otlp_http}/v1/traces"},
    }
    monitoring = {"enabled": True, "type": "otlp", "options": {"endpoint": f"{context.otlp_http}/v1/logs"}}
    services = {
        "metrics": {"enabled": variant.telemetry},
        "logging": {"access": {"enabled": variant.telemetry}},
        "monitoring": monitoring if variant.telemetry else {"enabled": False},
        **({"tracing": tracing} if variant.telemetry else {}),
    }
    config = context.folder / "bentoml.yaml"
    config.write_text(json.dumps({"services": services}))  # JSON is YAML
    command = [
        *(str(context.python), "-m", "bentoml", "serve", "bentoml_service:Predictor", "--working-dir", str(APPS)),
        *("--host", "127.0.0.1", "--port", str(context.port)),
    ]
    return Launch(command, {"BENTOML_CONFIG": str(config), "BENTOML_DO_NOT_TRACK": "True"})


def mlserver(context: RunContext, variant: Variant) -> Launch:
    """Launch the scikit-learn runtime of MLServer in the process of the server."""
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": context.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "metrics_endpoint": "/metrics" if variant.telemetry else None,
        "tracing_server": context.otlp_grpc if variant.telemetry else None,
        "parallel_workers": 0,
    }
    model = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(context.joblib_file)},
        **({"max_batch_size": 64, "max_batch_time": 0.001} if variant.batching else {}),
    }
    (context.folder / "settings.json").write_text(json.dumps(server))
    (context.folder / "model-settings.json").write_text(json.dumps(model))
    return Launch([str(context.python.parent / "mlserver"), "start", str(context.folder)])


def litserve(context: RunContext, variant: Variant) -> Launch:  # noqa: ARG001  all servers have the same signature
    """Launch a LitServe API class."""
    return Launch([str(context.python), str(APPS / "litserve_server.py")])


def mlflow(context: RunContext, variant: Variant) -> Launch:
    """Launch `mlflow models serve` with a model in the format of MLflow."""
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
    }
    model = context.folder / "model"
    env = {**common_env(context, variant), **quiet, "BENCH_FOLDER": str(model)}
    command = [str(context.python), str(APPS / "mlflow_model.py")]
    subprocess.run(command, env=env, cwd=context.folder, check=True, capture_output=True)
    fast = {"UVICORN_ACCESS_LOG": "true" if variant.telemetry else "false", "UVICORN_LOG_LEVEL": "info"}
    path = {"PATH": f"{context.python.parent}:/usr/bin:/bin"}  # MLflow starts uvicorn by name through a shell
    serve = [
        str(context.python),
        "-m",
        "mlflow",
        "models",
        "serve",
        "--env-manager",
        "local",
        "--model-uri",
        str(model),
    ]
    command = [*serve, "--host", "127.0.0.1", "--port", str(context.port)]
    return Launch(command, {**quiet, **fast, **path})


def ray(context: RunContext, variant: Variant) -> Launch:
    """Launch a Ray Serve deployment with one replica."""
    env = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(APPS)}
    if variant.telemetry:
        env |= {
            "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": "ray_server:span_processors",
            "RAY_SERVE_TRACING_SAMPLING_RATIO": "1.0",
        }
    return Launch([str(context.python), str(APPS / "ray_server.py")], env)
