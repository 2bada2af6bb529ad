"""Archives: what is written is read again, and a command is recorded."""

import io
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from tests.helpers.archives import archive, tables, upload
from tests.helpers.full_telemetry import IDS, SPAN_ID, TRACE_ID, full_requests
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, span, trace_request
from tests.helpers.processes import run


@pytest.fixture(scope="module")
def hub() -> Iterator[InProcessHub]:
    """Yield a hub with a request of each signal, and a span of another trace."""
    with in_process_hub() as hub:
        headers = {"Content-Type": "application/x-protobuf"}
        for path, request in full_requests().items():
            hub.client.post(f"/v1/{path}", content=request.SerializeToString(), headers=headers).raise_for_status()
        yield hub


def test_another_hub_stores_the_same_rows(hub: InProcessHub) -> None:
    """Every column of every table survives."""
    content = archive(hub, since="0")
    with in_process_hub() as other:
        answer = upload(other, content).json()
        assert answer == {"stored": {"traces": 2, "logs": 1, "metrics": 5}, "rejected": 0, "trace_ids": [TRACE_ID]}
        assert tables(other) == tables(hub)


def test_an_archive_of_a_trace_has_its_spans_log_records_and_points(hub: InProcessHub) -> None:
    """A summary is not in it, because no attribute or exemplar shows that the trace contributed to it."""
    content = archive(hub, trace_id=TRACE_ID.upper())
    with in_process_hub() as other:
        upload(other, content).raise_for_status()
        expected = tables(hub)
        names = [name for (name,) in hub.rows("SELECT name FROM metric_points") if name != "summary"]
        assert sorted(names) == sorted(name for (name,) in other.rows("SELECT name FROM metric_points"))
        assert {**tables(other), "metric_points": []} == {**expected, "metric_points": []}


def test_the_page_of_an_archive_needs_nothing_else(hub: InProcessHub) -> None:
    """It has no scripts and no addresses, escapes telemetry, and shows spans and log records."""
    files = zipfile.ZipFile(io.BytesIO(archive(hub, trace_id=TRACE_ID)))
    page = files.read("index.html").decode()
    assert not re.search(r"<script|https?://|src=|href=", page)
    assert "&lt;b&gt;é" in page
    assert "it failed" in page
    assert "<b>é" not in page
    assert orjson.loads(files.read("manifest.json"))["spans"] == 2
    assert [*orjson.loads(files.read("traces.jsonl"))] == ["resourceSpans"]


@pytest.mark.slow
def test_a_large_trace_has_a_page_of_at_most_1_mb() -> None:
    """The page lists fewer spans; the JSON has all."""
    with in_process_hub() as hub:
        spans = [
            span(trace_id=IDS["trace_id"], name=f"span {number}", attributes=[attribute("text", "x" * 1500)])
            for number in range(3000)
        ]
        body = trace_request(*spans).SerializeToString()
        hub.client.post("/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"})
        files = zipfile.ZipFile(io.BytesIO(archive(hub, trace_id=TRACE_ID)))
    assert 100_000 < files.getinfo("index.html").file_size <= 10**6
    assert "more\u202f" in files.read("index.html").decode() or "more span" in files.read("index.html").decode()
    lines = files.read("traces.jsonl").splitlines()
    groups = [orjson.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"] for line in lines]
    assert sum(map(len, groups)) == 3000
    assert max(map(len, lines)) <= 4 * 2**20


@pytest.mark.parametrize(
    "parameters", [{}, {"trace_id": TRACE_ID, "since": "1h"}, {"trace_id": "xyz"}, {"since": "never"}]
)
def test_invalid_selections_are_rejected(hub: InProcessHub, parameters: dict[str, str]) -> None:
    """An archive needs trace IDs or a time range."""
    assert httpx.get(f"{hub.page_url}/api/archive", params=parameters).status_code == 422


PROGRAM = """
import os, sys, urllib.request
body = sys.argv[1].encode()
request = urllib.request.Request(os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/traces", body)
request.add_header("Content-Type", "application/json")
urllib.request.urlopen(request)
print(os.environ["OTEL_SERVICE_NAME"], os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
sys.exit(3)
"""


@pytest.mark.slow
def test_a_command_is_recorded(tmp_path: Path) -> None:
    """The archive has what the command sent, and the exit code is that of the command."""
    body = orjson.dumps(
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": TRACE_ID, "spanId": SPAN_ID, "name": "n"}]}]}]}
    )
    output = tmp_path / "run.zip"
    arguments = ["--output", str(output), "--", sys.executable, "-c", PROGRAM, body.decode()]
    environ = {
        "MODELTRACE_HUB_KEY": "a-key-of-twenty-characters",
        "OTEL_SERVICE_NAME": "job",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9",
    }

    ended = run(["modeltrace_hub", "record", *arguments], env=environ)

    assert (ended.returncode, ended.stdout) == (3, "job None\n"), ended.stderr
    assert f"1\u202fspan, 0\u202flog records, 0\u202fdata points in {output}" in ended.stderr
    assert TRACE_ID in zipfile.ZipFile(output).read("traces.jsonl").decode()
    assert run(["modeltrace_hub", "record", "--output", str(output), "--", "/no/such/command"]).returncode == 127
