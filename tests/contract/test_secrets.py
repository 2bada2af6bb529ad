"""Values of private features are in no output, for all failures and for the sidecar and the SDK path."""

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from tests.helpers.hubs import running_hub
from tests.helpers.processes import Process, wait_until
from tests.helpers.receivers import OtlpEndpoint, Response, otlp_http
from tests.helpers.secrets import (
    NUMBERS,
    PRIVATE_RULES,
    TEXTS,
    leaked_secrets,
    pack_secrets,
    read_files,
    row_with_secrets,
)
from tests.helpers.services import running_service

pytestmark = pytest.mark.slow

SETUPS = {"sidecar": {}, "sdk": {"MODELTRACE_INSTRUMENTATION": "sdk"}, "batching": {"MODELTRACE_BATCHING": "true"}}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return the bundle and its environment."""
    return pack_secrets(tmp_path_factory.mktemp("secrets"))


@dataclass
class RunningService:
    """A running service and its outputs."""

    url: str
    folder: Path
    process: Process
    responses: dict[str, bytes] = field(default_factory=dict)

    def send_requests(self) -> None:
        """Send requests that succeed, are rejected, fail, are malformed, have one row, several rows, or a query."""
        private = {name: value for name, value in row_with_secrets().items() if name.split()[0] in PRIVATE_RULES}
        calls: dict[str, tuple[str, Any]] = {
            "one row": ("/predict", {"features": row_with_secrets()}),
            "one row, failing": ("/predict", {"features": row_with_secrets(fail=1)}),
            "several rows": (
                "/predict/batch",
                {"rows": [row_with_secrets(), row_with_secrets(), {**row_with_secrets(), "fail": None}]},
            ),
            "several rows, failing": ("/predict/batch", {"rows": [row_with_secrets(), row_with_secrets(fail=1)]}),
            "allowed violation": ("/predict", {"features": row_with_secrets(**{"hash number": TEXTS["hash"]})}),
            "wrong type": (
                "/predict",
                {"features": row_with_secrets(fail=TEXTS["drop"], **{"drop number": TEXTS["drop"]})},
            ),
            "no rows": ("/predict/batch", {"rows": [TEXTS["hash"], [NUMBERS["hash"]]]}),
            "not an object": ("/predict", [row_with_secrets()]),
            "a query": (f"/predict?name={TEXTS['hash']}&size={NUMBERS['hash']!r}", {"features": row_with_secrets()}),
            "a query elsewhere": (f"/nowhere?name={TEXTS['drop']}", private),
        }
        for name, (path, body) in calls.items():
            response = httpx.post(f"{self.url}{path}", json=body, timeout=60)
            self.responses[name] = response.content + str(response.headers).encode()
        truncated = json.dumps({"features": row_with_secrets()})[:-3]
        self.responses["truncated"] = httpx.post(f"{self.url}/predict", content=truncated, timeout=60).content
        for path in ("model", "openapi.json", "metrics"):
            self.responses[path] = httpx.get(f"{self.url}/{path}", timeout=60).content

    def outputs(self) -> dict[str, bytes]:
        """Return the contents of its folder, of its output and of its responses by name."""
        files = {path.name: read_files(path) for path in self.folder.iterdir() if path.name != "hub"}
        return {
            **files,
            "stdout": self.process.log.encode(),
            **{f"response: {k}": v for k, v in self.responses.items()},
        }


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Return a stack that is closed after the test."""
    with ExitStack() as exit_stack:
        yield exit_stack


def serve(stack: ExitStack, packed: tuple[Path, dict[str, str]], folder: Path, **env: str) -> RunningService:
    """Start a service that writes all its files to a folder."""
    bundle, environment = packed
    settings = {
        "MODELTRACE_LOG_FILE": str(folder / "service.jsonl"),
        "MODELTRACE_STORE": str(folder / "store" / "predictions.db"),
        "MODELTRACE_SPOOL_DIR": str(folder / "spool"),
        "MODELTRACE_FLUSH_TIMEOUT": "30",  # enough to deliver everything on a busy machine
        "OTEL_METRICS_EXPORTER": "otlp,prometheus",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
    }
    process, url = stack.enter_context(running_service(bundle, seconds=300, **{**environment, **settings, **env}))
    return RunningService(url, folder, process)


def decompressed(endpoint: OtlpEndpoint) -> bytes:
    """Return all requests of an endpoint."""
    return b"\0".join(
        gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        for request in endpoint.requests
    )


@pytest.mark.parametrize("setup", SETUPS)
def test_no_output_contains_a_secret(
    stack: ExitStack, packed: tuple[Path, dict[str, str]], tmp_path: Path, setup: str
) -> None:
    """OTLP, log lines, store and responses contain no private values, but do contain the plain ones."""
    endpoint = stack.enter_context(otlp_http())
    service = serve(stack, packed, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.url, **SETUPS[setup])
    service.send_requests()
    wait_until(lambda: b"ml.feature.observations" in decompressed(endpoint), description="metric points")
    service.process.stop()

    outputs = {**service.outputs(), "OTLP": decompressed(endpoint)}
    assert {name: leaked for name, content in outputs.items() if (leaked := leaked_secrets(content))} == {}
    for name in ("OTLP", "store", "stdout", "service.jsonl"):  # the search does find values
        assert leaked_secrets(outputs[name], ("plain",)) == [
            f"plain: {TEXTS['plain']}",
            f"plain: {NUMBERS['plain']}",
        ], name
    error_types = [
        json.loads(service.responses[name].partition(b"Headers(")[0])["error"]["type"]
        for name in ("one row, failing", "several rows, failing")
    ]
    assert error_types == ["inference_failed"] * 2
    assert b"LeakingError" in outputs["OTLP"]
    assert b"KeyError" in outputs["stdout"]
    assert b"withheld" in outputs["stdout"]


def test_the_spool_contains_no_secret(stack: ExitStack, packed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Telemetry that is spooled for an unavailable endpoint contains no private values."""
    endpoint = stack.enter_context(otlp_http())
    endpoint.respond = lambda _: Response(503)
    service = serve(stack, packed, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.url, MODELTRACE_FLUSH_TIMEOUT="5")
    service.send_requests()
    wait_until(lambda: leaked_secrets(read_files(tmp_path / "spool"), ("plain",)), description="a spooled request")
    service.process.stop()

    outputs = service.outputs()
    assert leaked_secrets(outputs["spool"], ("plain",)) == [f"plain: {TEXTS['plain']}", f"plain: {NUMBERS['plain']}"]
    assert {name: leaked for name, content in outputs.items() if (leaked := leaked_secrets(content))} == {}


def test_the_hub_contains_no_secret(stack: ExitStack, packed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Neither the bytes of its database nor any row of a table contains a private value."""
    hub = stack.enter_context(running_hub(tmp_path / "hub"))
    service = serve(stack, packed, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=hub.otlp_url)
    service.send_requests()
    service.process.stop()
    assert hub.process.stop() == 0

    database = next((tmp_path / "hub").glob("*.duckdb"))
    with duckdb.connect(str(database), read_only=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        rows = b"\0".join(str(connection.table(table).fetchall()).encode() for table in tables)
    assert leaked_secrets(rows, ("plain",)) == [f"plain: {TEXTS['plain']}", f"plain: {NUMBERS['plain']}"]
    assert leaked_secrets(rows + read_files(tmp_path / "hub")) == []


def test_hashed_values_stay_equal_and_bins_are_stored(
    stack: ExitStack, packed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """The store has the same digest for equal values of `hash`, a bin for `bucket`, and nothing for `drop`."""
    service = serve(stack, packed, tmp_path, OTEL_SDK_DISABLED="true")
    for row in (
        row_with_secrets(),
        row_with_secrets(),
        row_with_secrets(**{"hash text": "Bonn", "bucket number": 0.0}),
    ):
        httpx.post(f"{service.url}/predict", json={"features": row}, timeout=60).raise_for_status()
    service.process.stop()

    with sqlite3.connect(tmp_path / "store" / "predictions.db") as connection:
        inputs_of_rows = [
            json.loads(inputs) for (inputs,) in connection.execute("SELECT inputs FROM predictions ORDER BY time")
        ]
    first, second, third = inputs_of_rows
    assert first == second
    assert set(first) == {name for name in row_with_secrets() if not name.startswith("drop")}
    assert first["hash text"] != third["hash text"]
    assert first["hash text"] != first["hash number"] == third["hash number"]
    assert len(first["hash text"]) == 16
    assert (first["bucket text"], first["bucket number"], third["bucket number"]) == ("other", "09", "04")


def test_a_bundle_contains_no_private_training_data(packed: tuple[Path, dict[str, str]]) -> None:
    """`model.json` contains no private value, although each occurs in the training data."""
    content = (packed[0] / "model.json").read_bytes()

    assert leaked_secrets(content) == []
    assert leaked_secrets(content, ("plain",)) == [f"plain: {TEXTS['plain']}", f"plain: {NUMBERS['plain']}"]
