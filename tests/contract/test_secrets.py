"""What is planted in a private feature is nowhere to be found: in no sink, whatever fails, in either set-up."""

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

WAYS = {"sidecar": {}, "sdk": {"MODELTRACE_INSTRUMENTATION": "sdk"}, "batching": {"MODELTRACE_BATCHING": "true"}}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The bundle and its environment."""
    return pack_secrets(tmp_path_factory.mktemp("secrets"))


@dataclass
class Served:
    """A service, and where it leaves things."""

    url: str
    folder: Path
    process: Process
    answers: dict[str, bytes] = field(default_factory=dict)

    def ask(self) -> None:
        """Everything that a client can do: answered, refused, failing, malformed, one row and many, with a query."""
        private = {name: value for name, value in row_with_secrets().items() if name.split()[0] in PRIVATE_RULES}
        calls: dict[str, tuple[str, Any]] = {
            "one": ("/predict", {"features": row_with_secrets()}),
            "one, failing": ("/predict", {"features": row_with_secrets(fail=1)}),
            "many": (
                "/predict/batch",
                {"rows": [row_with_secrets(), row_with_secrets(), {**row_with_secrets(), "fail": None}]},
            ),
            "many, failing": ("/predict/batch", {"rows": [row_with_secrets(), row_with_secrets(fail=1)]}),
            "let through": ("/predict", {"features": row_with_secrets(**{"hash number": TEXTS["hash"]})}),
            "wrong type": (
                "/predict",
                {"features": row_with_secrets(fail=TEXTS["drop"], **{"drop number": TEXTS["drop"]})},
            ),
            "no rows": ("/predict/batch", {"rows": [TEXTS["hash"], [NUMBERS["hash"]]]}),
            "not the shape": ("/predict", [row_with_secrets()]),
            "a query": (f"/predict?name={TEXTS['hash']}&size={NUMBERS['hash']!r}", {"features": row_with_secrets()}),
            "a query elsewhere": (f"/nowhere?name={TEXTS['drop']}", private),
        }
        for name, (path, body) in calls.items():
            answer = httpx.post(f"{self.url}{path}", json=body, timeout=60)
            self.answers[name] = answer.content + str(answer.headers).encode()
        cut = json.dumps({"features": row_with_secrets()})[:-3]
        self.answers["cut"] = httpx.post(f"{self.url}/predict", content=cut, timeout=60).content
        for path in ("model", "openapi.json", "metrics"):
            self.answers[path] = httpx.get(f"{self.url}/{path}", timeout=60).content

    def sinks(self) -> dict[str, bytes]:
        """All that it left in its folder, its output, and its answers."""
        kept = {place.name: read_files(place) for place in self.folder.iterdir() if place.name != "hub"}
        return {**kept, "stdout": self.process.log.encode(), **{f"answer: {k}": v for k, v in self.answers.items()}}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What ends with the test."""
    with ExitStack() as entered:
        yield entered


def serve(stack: ExitStack, packed: tuple[Path, dict[str, str]], folder: Path, **env: str) -> Served:
    """Start a service that leaves everything in a folder."""
    bundle, own = packed
    kept = {
        "MODELTRACE_LOG_FILE": str(folder / "service.jsonl"),
        "MODELTRACE_STORE": str(folder / "store" / "predictions.db"),
        "MODELTRACE_SPOOL_DIR": str(folder / "spool"),
        "MODELTRACE_FLUSH_TIMEOUT": "30",  # whatever else the machine does, all of it is delivered
        "OTEL_METRICS_EXPORTER": "otlp,prometheus",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
    }
    process, url = stack.enter_context(running_service(bundle, seconds=300, **{**own, **kept, **env}))
    return Served(url, folder, process)


def unpacked(endpoint: OtlpEndpoint) -> bytes:
    """What an endpoint was sent."""
    return b"\0".join(
        gzip.decompress(one.body) if one.headers.get("content-encoding") == "gzip" else one.body
        for one in endpoint.requests
    )


@pytest.mark.parametrize("way", WAYS)
def test_no_secret_leaves_the_service(
    stack: ExitStack, packed: tuple[Path, dict[str, str]], tmp_path: Path, way: str
) -> None:
    """Not over OTLP, not in a log line, not in the store, not in an answer; what is plain is in all of them."""
    endpoint = stack.enter_context(otlp_http())
    service = serve(stack, packed, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.url, **WAYS[way])
    service.ask()
    wait_until(lambda: b"ml.feature.observations" in unpacked(endpoint), description="metric points")
    service.process.stop()

    sinks = {**service.sinks(), "OTLP": unpacked(endpoint)}
    assert {name: leaked for name, content in sinks.items() if (leaked := leaked_secrets(content))} == {}
    for name in ("OTLP", "store", "stdout", "service.jsonl"):  # who looks finds what is there
        assert leaked_secrets(sinks[name], ("plain",)) == [f"plain: {TEXTS['plain']}", f"plain: {NUMBERS['plain']}"], (
            name
        )
    statuses = [
        json.loads(service.answers[name].partition(b"Headers(")[0])["error"]["type"]
        for name in ("one, failing", "many, failing")
    ]
    assert statuses == ["inference_failed"] * 2
    assert b"TellTaleError" in sinks["OTLP"]
    assert b"KeyError" in sinks["stdout"]
    assert b"withheld" in sinks["stdout"]


def test_no_secret_waits_on_disk(stack: ExitStack, packed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """What an endpoint does not take is spooled, and that has no secret either."""
    endpoint = stack.enter_context(otlp_http())
    endpoint.respond = lambda _: Response(503)
    service = serve(stack, packed, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.url, MODELTRACE_FLUSH_TIMEOUT="5")
    service.ask()
    wait_until(lambda: leaked_secrets(read_files(tmp_path / "spool"), ("plain",)), description="something on disk")
    service.process.stop()

    sinks = service.sinks()
    assert leaked_secrets(sinks["spool"], ("plain",)) == [f"plain: {TEXTS['plain']}", f"plain: {NUMBERS['plain']}"]
    assert {name: leaked for name, content in sinks.items() if (leaked := leaked_secrets(content))} == {}


def test_no_secret_is_in_the_hub(stack: ExitStack, packed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Neither in the bytes of its database nor in any row of any table."""
    hub = stack.enter_context(running_hub(tmp_path / "hub"))
    service = serve(stack, packed, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=hub.otlp_url)
    service.ask()
    service.process.stop()
    assert hub.process.stop() == 0

    database = next((tmp_path / "hub").glob("*.duckdb"))
    with duckdb.connect(str(database), read_only=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        rows = b"\0".join(str(connection.table(one).fetchall()).encode() for one in tables)
    assert leaked_secrets(rows, ("plain",)) == [f"plain: {TEXTS['plain']}", f"plain: {NUMBERS['plain']}"]
    assert leaked_secrets(rows + read_files(tmp_path / "hub")) == []


def test_equal_values_stay_equal_and_bins_are_told(
    stack: ExitStack, packed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """The store says of `hash` the same digits for the same value, of `bucket` a bin, and nothing of `drop`."""
    service = serve(stack, packed, tmp_path, OTEL_SDK_DISABLED="true")
    for row in (
        row_with_secrets(),
        row_with_secrets(),
        row_with_secrets(**{"hash text": "Bonn", "bucket number": 0.0}),
    ):
        httpx.post(f"{service.url}/predict", json={"features": row}, timeout=60).raise_for_status()
    service.process.stop()

    with sqlite3.connect(tmp_path / "store" / "predictions.db") as connection:
        kept = [json.loads(inputs) for (inputs,) in connection.execute("SELECT inputs FROM predictions ORDER BY time")]
    first, second, third = kept
    assert first == second
    assert set(first) == {name for name in row_with_secrets() if not name.startswith("drop")}
    assert first["hash text"] != third["hash text"]
    assert first["hash text"] != first["hash number"] == third["hash number"]
    assert len(first["hash text"]) == 16
    assert (first["bucket text"], first["bucket number"], third["bucket number"]) == ("other", "09", "04")


def test_a_bundle_says_nothing_of_its_training_data(packed: tuple[Path, dict[str, str]]) -> None:
    """`model.json` has no private value, though each occurs in training."""
    content = (packed[0] / "model.json").read_bytes()

    assert leaked_secrets(content) == []
    assert leaked_secrets(content, ("plain",)) == [f"plain: {TEXTS['plain']}", f"plain: {NUMBERS['plain']}"]
