"""Log records are found by trace ID in the file that the Collector writes."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from modeltrace.client.service import UnreachableError
from modeltrace.doctor.backends import stack
from modeltrace.doctor.backends.backend import LogRecordRef
from modeltrace.doctor.backends.log_file import LOOK_BACK_SECONDS, LogFile, default_log_file
from modeltrace.doctor.backends.stack import StackAddresses, StackBackend, find_log_store
from stack.cache import Cache
from stack.components import Ports, read_components
from stack.layout import Layout

TRACE, OTHER = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
PREDICTION, ACCESS = LogRecordRef("modeltrace.prediction", "ml.prediction"), LogRecordRef("uvicorn.access", "")


def request(trace_id: str, *records: LogRecordRef, body: str = "text") -> str:
    """Return a line of the file: an OTLP request with one scope per record."""
    scopes = [
        {
            "scope": {"name": log.logger},
            "logRecords": [
                {
                    "timeUnixNano": "1",
                    "body": {"stringValue": body},
                    "traceId": trace_id,
                    **({"eventName": log.event_name} if log.event_name else {}),
                }
            ],
        }
        for log in records
    ]
    return json.dumps({"resourceLogs": [{"resource": {}, "scopeLogs": scopes}]}, separators=(",", ":"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of a Collector that has just started: its folder exists, the file does not."""
    path = tmp_path / "a folder" / "records.jsonl"
    path.parent.mkdir()
    return path


def read(file: Path, trace_id: str = TRACE) -> Sequence[LogRecordRef]:
    """Return the records of a trace in the file."""
    return asyncio.run(LogFile(file).log_records(trace_id))


def test_default_is_the_file_of_the_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default file is the one that the Collector of `./dev stack up` writes."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    components = read_components()
    layout = Layout(
        components.without(["loki"]), Ports.default(components), Cache(tmp_path), tmp_path / "modeltrace" / "stack"
    )

    assert default_log_file() == layout.log_record_file


def test_only_the_records_of_the_trace_are_returned(file: Path) -> None:
    """Records of several requests are returned with logger and event; a trace ID in a body does not match."""
    lines = [
        request(TRACE, PREDICTION),
        request(OTHER, PREDICTION, ACCESS),
        request(TRACE, ACCESS),
        request(OTHER, PREDICTION, body=TRACE),
    ]
    file.write_text("".join(line + "\n" for line in lines))

    assert read(file) == [PREDICTION, ACCESS]
    assert read(file, "f" * 32) == []


def test_missing_file_has_no_records(file: Path) -> None:
    """A missing file in an existing folder is not an error: the Collector creates it with the first record."""
    asyncio.run(LogFile(file).check())

    assert read(file) == []


def test_recent_rotated_files_are_read(file: Path) -> None:
    """A file that was rotated recently is read; an old one is not."""
    for name, age in (("records-2026-11-29T10-00-00.000-size.jsonl", 0), ("records-old.jsonl", 2 * LOOK_BACK_SECONDS)):
        rotated = file.with_name(name)
        rotated.write_text(request(TRACE, PREDICTION) + "\n")
        os.utime(rotated, (rotated.stat().st_mtime - age,) * 2)
    file.write_text("\n" + request(TRACE, ACCESS) + "\n")

    assert sorted(read(file), key=str) == [PREDICTION, ACCESS]


def test_incomplete_last_line_is_skipped(file: Path) -> None:
    """The line is read once its newline is written."""
    line = request(TRACE, PREDICTION)
    file.write_text(line[:-20])
    assert read(file) == []
    with file.open("a") as more:
        more.write(line[-20:] + "\n")

    assert read(file) == [PREDICTION]


@pytest.mark.parametrize("rest", [request(TRACE, ACCESS)[:90], request(TRACE, ACCESS)], ids=["part", "all but its end"])
def test_incomplete_request_of_a_killed_collector_is_skipped(file: Path, rest: str) -> None:
    """The next request on the same line is read. The incomplete one was not acknowledged and is sent again."""
    file.write_text(rest + request(TRACE, PREDICTION, body='a body with {"resourceLogs" in it') + "\n")

    assert read(file) == [PREDICTION]


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    """The error names the file and the option."""
    with pytest.raises(UnreachableError, match=r"no Collector writes log records to .*records\.jsonl \(--log-file\)"):
        asyncio.run(LogFile(tmp_path / "nowhere" / "records.jsonl").check())


def test_link_names_the_file_and_a_command(file: Path) -> None:
    """The command prints the records of the trace."""
    file.write_text(request(TRACE, PREDICTION, ACCESS) + "\n" + request(OTHER, PREDICTION) + "\n")
    link = LogFile(file).link(TRACE, 0.0, "http://grafana")

    assert link.url == f"file://{str(file).replace(' ', '%20')}"
    if shutil.which("jq") is None:
        pytest.skip("no jq on PATH")
    records = subprocess.check_output(["sh", "-c", link.query], text=True).splitlines()
    assert [json.loads(record)["traceId"] for record in records] == [TRACE, TRACE]


def client_of_loki(status: int) -> httpx.AsyncClient:
    """Return a client of a Loki that answers with this status; 0: nothing listens."""

    def loki(_: httpx.Request) -> httpx.Response:
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, json={"status": "success"})

    return httpx.AsyncClient(transport=httpx.MockTransport(loki))


@pytest.mark.parametrize(
    ("status", "configured", "used"),
    [(0, {}, True), (200, {}, False), (0, {"loki": "http://loki"}, False), (200, {"log_file": Path("named")}, False)],
    ids=["no Loki", "Loki", "another Loki was named", "another file was named"],
)
def test_default_file_is_used_if_no_loki_answers(
    file: Path, monkeypatch: pytest.MonkeyPatch, status: int, configured: dict[str, Any], *, used: bool
) -> None:
    """The default file is used only if neither Loki's address nor a file is given."""
    monkeypatch.setattr(stack, "default_log_file", lambda: file)

    async def find() -> StackAddresses:
        async with client_of_loki(status) as client:
            return await find_log_store(client, StackAddresses(**configured))

    addresses = asyncio.run(find())

    assert (addresses.log_file == file) is used
    assert used or addresses == StackAddresses(**configured)


def test_queue_of_the_file_exporter_is_not_queried(file: Path) -> None:
    """The exporter to the file has no queue: it writes before it answers."""

    async def explain() -> list[str]:
        async with httpx.AsyncClient() as client:
            return await StackBackend(client, StackAddresses(log_file=file)).explain_missing(["log record"])

    (line,) = asyncio.run(explain())

    assert line == "the Collector has no queue for the log file: were the records rejected? ./dev stack logs otelcol"
