"""How each server of bench/peers is started.

Each is set up as its own documentation advises for throughput, with one worker process for the model. Without telemetry
access lines are off, too; with it, everything that the server can tell about a request is on, and sent over OTLP where
it knows how.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import free_port

# The service's switches for what has a variant of its own.
BATCHING = {"MODELTRACE_BATCHING": "true"}
ONNX = {"MODELTRACE_ENGINE": "onnx"}

APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True)
class Variant:
    """One way to run a server."""

    telemetry: bool
    batching: bool = False
    note: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    # Whether a helper process of the server stays on the server's core; else it runs where load and receiver do.
    sidecar_on_server_core: bool = False

    def __str__(self) -> str:
        parts = ["on" if self.telemetry else "off", "batching" if self.batching else "", self.note]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class RunContext:
    """What a server is given for one run."""

    python: Path
    folder: Path  # its own, empty
    bundle: Path
    joblib_file: Path
    port: int
    otlp_http: str
    otlp_grpc: str


@dataclass(frozen=True)
class Launch:
    """How to start a server."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def common_env(context: RunContext, variant: Variant) -> dict[str, str]:
    """What bench/peers/apps reads, and OpenTelemetry's own variables: what is queued must arrive before a run ends."""
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
    """The service of this project."""
    telemetry = {} if variant.telemetry else {"OTEL_SDK_DISABLED": "true", "MODELTRACE_STORE": "none"}
    batching = BATCHING if variant.batching else {}
    own = {
        "MODELTRACE_SPOOL_DIR": str(context.folder / "spool"),
        "MODELTRACE_STORE": str(context.folder / "predictions.db"),
    }
    command = [sys.executable, "-m", "modeltrace", "serve", str(context.bundle), "--port", str(context.port)]
    return Launch(command, {**own, **telemetry, **batching, **variant.env})


def bare(context: RunContext, variant: Variant) -> Launch:  # noqa: ARG001  every server is launched alike
    """The thirty lines."""
    app = ["--factory", "bench.bare:create_app", "--port", str(context.port), "--loop", "uvloop", "--http", "httptools"]
    command = [sys.executable, "-m", "uvicorn", *app, "--no-access-log", "--log-level", "warning"]
    return Launch(command, {"BENCH_MODEL": str(context.joblib_file), "PYTHONPATH": str(APPS.parents[2])})


def bentoml(context: RunContext, variant: Variant) -> Launch:
    """A service class, configured by a file."""
    on = variant.telemetry
    tracing = {
        "exporter_type": "otlp",
        "sample_rate": 1.0,
        "otlp": {"protocol": "http", "endpoint": f"{context.otlp_http}/v1/traces"},
    }
    monitoring = {"enabled": True, "type": "otlp", "options": {"endpoint": f"{context.otlp_http}/v1/logs"}}
    services = {
        "metrics": {"enabled": on},
        "logging": {"access": {"enabled": on}},
        "monitoring": monitoring if on else {"enabled": False},
        **({"tracing": tracing} if on else {}),
    }
    config = context.folder / "bentoml.yaml"
    config.write_text(json.dumps({"services": services}))  # JSON is YAML
    command = [
        *(str(context.python), "-m", "bentoml", "serve", "bentoml_service:Predictor", "--working-dir", str(APPS)),
        *("--host", "127.0.0.1", "--port", str(context.port)),
    ]
    return Launch(command, {"BENTOML_CONFIG": str(config), "BENTOML_DO_NOT_TRACK": "True"})


def mlserver(context: RunContext, variant: Variant) -> Launch:
    """MLServer's own runtime for scikit-learn, in the server's process."""
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


def litserve(context: RunContext, variant: Variant) -> Launch:  # noqa: ARG001  every server is launched alike
    """An API class."""
    return Launch([str(context.python), str(APPS / "litserve_server.py")])


def mlflow(context: RunContext, variant: Variant) -> Launch:
    """`mlflow models serve`, on a model saved in MLflow's format."""
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
    path = {"PATH": f"{context.python.parent}:/usr/bin:/bin"}  # it starts uvicorn by its name, through a shell
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
    """A deployment with one replica."""
    env = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(APPS)}
    if variant.telemetry:
        env |= {
            "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": "ray_server:span_processors",
            "RAY_SERVE_TRACING_SAMPLING_RATIO": "1.0",
        }
    return Launch([str(context.python), str(APPS / "ray_server.py")], env)
