"""Each process imports only what it needs, since imports delay its start."""

import json
import os
import subprocess
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LIST = "\nimport json, os, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr, flush=True)\nos._exit(0)"
# Packages that only tests, other commands, other processes or other settings need.
NOT_NEEDED = {
    "_pytest",
    "duckdb",
    "modeltrace_hub",
    "jinja2",
    "mlflow",
    "onnx",
    "onnxruntime",
    "pytest",
    "skl2onnx",
    "supervisor",
}
MODEL = {"pandas", "scipy", "sklearn", "skops"}
STORE = {"psycopg", "sqlalchemy"}
SERVER = {"fastapi", "starlette", "uvicorn"}


def imported(program: str, folder: Path) -> AbstractSet[str]:
    """Return the modules that a new process has imported after a program."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "MODELTRACE_"))}
    env = {**clean, "XDG_DATA_HOME": str(folder), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    completed = subprocess.run(
        [sys.executable, "-c", program + LIST], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
    )
    return set(json.loads(completed.stderr.splitlines()[-1]))


def packages(modules: AbstractSet[str]) -> AbstractSet[str]:
    """Return the top-level packages of modules."""
    return {name.partition(".")[0] for name in modules}


def test_a_ready_service_has_imported_only_what_it_serves_with(example: Path, tmp_path: Path) -> None:
    """A worker that serves a skops bundle with all telemetry needs no test helpers, SQL, HTTP client or gRPC."""
    program = (
        "from modeltrace.imports import import_object\n"
        "import modeltrace.cli.serve\n"
        "import_object('modeltrace.server:serve')\n"
        "from modeltrace.app import build_app\n"
        "from modeltrace.settings import read_settings\n"
        f"build_app(read_settings(bundle={str(example)!r}))\n"
    )

    modules = imported(program, tmp_path)

    assert {"sklearn.linear_model", "skops.io", "fastapi", "opentelemetry.sdk.trace"} <= modules
    assert packages(modules) & (NOT_NEEDED | STORE | {"grpc", "httpx", "requests", "yaml"}) == set()
    assert modules & {"sklearn.utils._testing", "sklearn.utils.estimator_checks", "pydantic.v1"} == set()


@pytest.mark.parametrize(
    ("program", "unneeded"),
    [
        pytest.param("import modeltrace.cli.serve", MODEL | SERVER | STORE | {"opentelemetry"}, id="serve --help"),
        pytest.param(
            "import modeltrace.cli.up", MODEL | SERVER | STORE | {"numpy", "opentelemetry", "pyarrow"}, id="up"
        ),
        pytest.param(
            "import modeltrace", MODEL | SERVER | STORE | {"httpx", "opentelemetry", "numpy"}, id="modeltrace"
        ),
        pytest.param("import modeltrace; modeltrace.Client", MODEL | SERVER | STORE | {"pyarrow", "grpc"}, id="client"),
        pytest.param("import modeltrace; modeltrace.load", SERVER | STORE | {"httpx"}, id="load"),
        pytest.param(
            "import modeltrace.cli.score", MODEL | SERVER | STORE | {"numpy", "opentelemetry", "pyarrow"}, id="score"
        ),
        pytest.param("import modeltrace.scoring.job", SERVER | STORE | {"httpx"}, id="a run of score"),
        pytest.param("import modeltrace.cli.traffic", MODEL | SERVER | STORE | {"grpc", "requests"}, id="traffic"),
        pytest.param("import modeltrace.cli.doctor", MODEL | SERVER | STORE | {"numpy", "pyarrow"}, id="doctor"),
        pytest.param("import modeltrace.cli.audit", MODEL | SERVER | {"httpx"}, id="audit"),
        pytest.param(
            "import modeltrace.sidecar.run",
            MODEL | SERVER | {"numpy", "pyarrow", "rich", "typer"},
            id="sidecar",
        ),
        pytest.param(
            "import modeltrace_hub.__main__, modeltrace_hub.app",
            MODEL | STORE | {"modeltrace", "numpy", "pyarrow"},
            id="hub",
        ),
    ],
)
def test_a_process_imports_nothing_that_only_others_need(
    program: str, unneeded: AbstractSet[str], tmp_path: Path
) -> None:
    """Each process starts without the libraries of the others."""
    not_needed = NOT_NEEDED - (
        {"duckdb", "modeltrace_hub", "jinja2"} if program.startswith("import modeltrace_hub") else set()
    )

    assert packages(imported(program, tmp_path)) & (not_needed | unneeded) == set()
