"""What a process does not import, it does not wait for at its start."""

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
ELSEWHERE = {
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
    """The modules that a new process has when it has run a program."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MODELTRACE_"))}
    env = {**clean, "XDG_DATA_HOME": str(folder), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    ended = subprocess.run(
        [sys.executable, "-c", program + LIST], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
    )
    return set(json.loads(ended.stderr.splitlines()[-1]))


def packages(modules: AbstractSet[str]) -> AbstractSet[str]:
    """Their packages at the top."""
    return {name.partition(".")[0] for name in modules}


def test_a_service_that_is_ready_has_imported_what_it_serves_with(example: Path, tmp_path: Path) -> None:
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
    assert packages(modules) & (ELSEWHERE | STORE | {"grpc", "httpx", "requests", "yaml"}) == set()
    assert modules & {"sklearn.utils._testing", "sklearn.utils.estimator_checks", "pydantic.v1"} == set()


@pytest.mark.parametrize(
    ("program", "unneeded"),
    [
        pytest.param("import modeltrace.cli.serve", MODEL | SERVER | STORE | {"opentelemetry"}, id="serve --help"),
        pytest.param(
            "import modeltrace.cli.up", MODEL | SERVER | STORE | {"numpy", "opentelemetry", "pyarrow"}, id="up"
        ),
        pytest.param("import modeltrace.cli.traffic", MODEL | SERVER | STORE | {"grpc", "requests"}, id="traffic"),
        pytest.param("import modeltrace.cli.doctor", MODEL | SERVER | STORE | {"numpy", "pyarrow"}, id="doctor"),
        pytest.param("import modeltrace.cli.audit", MODEL | SERVER | {"httpx"}, id="audit"),
        pytest.param(
            "import modeltrace.sidecar.run",
            MODEL | SERVER | {"numpy", "pyarrow", "rich", "typer"},
            id="exporter process",
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
    """Each of them is ready without the libraries of the others."""
    elsewhere = ELSEWHERE - (
        {"duckdb", "modeltrace_hub", "jinja2"} if program.startswith("import modeltrace_hub") else set()
    )

    assert packages(imported(program, tmp_path)) & (elsewhere | unneeded) == set()
