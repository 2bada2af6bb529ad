"""Log records in the Collector's file are found by trace ID, as the real Collector writes it."""

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
AUDIT, ACCESS = LogRecordRef("modeltrace.prediction", "ml.prediction"), LogRecordRef("uvicorn.access", "")


def request(trace_id: str, *seen: LogRecordRef, body: str = "said") -> str:
    """One line of the file: a request with a scope a record."""
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
        for log in seen
    ]
    return json.dumps({"resourceLogs": [{"resource": {}, "scopeLogs": scopes}]}, separators=(",", ":"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a Collector writes that has just started."""
    path = tmp_path / "a folder" / "records.jsonl"
    path.parent.mkdir()
    return path


def found(file: Path, trace_id: str = TRACE) -> Sequence[LogRecordRef]:
    """What the file holds of a trace."""
    return asyncio.run(LogFile(file).log_records(trace_id))


def test_the_default_is_where_the_stack_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without an option, the file is that of `./dev stack up`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    parts = read_components()
    layout = Layout(parts.without(["loki"]), Ports.default(parts), Cache(tmp_path), tmp_path / "modeltrace" / "stack")

    assert default_log_file() == layout.log_record_file


def test_a_traces_records_are_found_and_no_others(file: Path) -> None:
    """Each with its logger and event, however they are spread over requests."""
    lines = [
        request(TRACE, AUDIT),
        request(OTHER, AUDIT, ACCESS),
        request(TRACE, ACCESS),
        request(OTHER, AUDIT, body=TRACE),
    ]
    file.write_text("".join(line + "\n" for line in lines))

    assert found(file) == [AUDIT, ACCESS]
    assert found(file, "f" * 32) == []


def test_before_the_first_record_there_is_nothing(file: Path) -> None:
    """The folder exists from the Collector's start on: no file is no error."""
    asyncio.run(LogFile(file).check())

    assert found(file) == []


def test_rotated_files_are_read_while_they_may_hold_it(file: Path) -> None:
    """One that was rotated in the meantime is; one from long ago is not."""
    for name, age in (("records-2026-11-29T10-00-00.000-size.jsonl", 0), ("records-old.jsonl", 2 * LOOK_BACK_SECONDS)):
        rotated = file.with_name(name)
        rotated.write_text(request(TRACE, AUDIT) + "\n")
        os.utime(rotated, (rotated.stat().st_mtime - age,) * 2)
    file.write_text("\n" + request(TRACE, ACCESS) + "\n")

    assert sorted(found(file), key=str) == [AUDIT, ACCESS]


def test_a_line_that_is_still_being_written_waits(file: Path) -> None:
    """It is read once it has its end."""
    line = request(TRACE, AUDIT)
    file.write_text(line[:-20])
    assert found(file) == []
    with file.open("a") as more:
        more.write(line[-20:] + "\n")

    assert found(file) == [AUDIT]


@pytest.mark.parametrize("rest", [request(TRACE, ACCESS)[:90], request(TRACE, ACCESS)], ids=["part", "all but its end"])
def test_what_a_killed_collector_left_is_skipped(file: Path, rest: str) -> None:
    """The next request stands behind it on the same line; what was cut off had no answer and is sent again."""
    file.write_text(rest + request(TRACE, AUDIT, body='a body with {"resourceLogs" in it') + "\n")

    assert found(file) == [AUDIT]


def test_a_missing_folder_names_file_and_option(tmp_path: Path) -> None:
    """No Collector has started there."""
    with pytest.raises(UnreachableError, match=r"no Collector writes log records to .*records\.jsonl \(--log-file\)"):
        asyncio.run(LogFile(tmp_path / "nowhere" / "records.jsonl").check())


def test_the_link_leads_to_the_file_and_brings_the_command(file: Path) -> None:
    """The command finds the records of the trace."""
    file.write_text(request(TRACE, AUDIT, ACCESS) + "\n" + request(OTHER, AUDIT) + "\n")
    link = LogFile(file).link(TRACE, 0.0, "http://grafana")

    assert link.url == f"file://{str(file).replace(' ', '%20')}"
    if shutil.which("jq") is None:
        pytest.skip("no jq on PATH")
    records = subprocess.check_output(["sh", "-c", link.query], text=True).splitlines()
    assert [json.loads(record)["traceId"] for record in records] == [TRACE, TRACE]


def answering(status: int) -> httpx.AsyncClient:
    """A client of a Loki that answers so, or of nobody."""

    def loki(_: httpx.Request) -> httpx.Response:
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, json={"status": "success"})

    return httpx.AsyncClient(transport=httpx.MockTransport(loki))


@pytest.mark.parametrize(
    ("status", "given", "taken"),
    [(0, {}, True), (200, {}, False), (0, {"loki": "http://loki"}, False), (200, {"log_file": Path("named")}, False)],
    ids=["no Loki", "Loki", "another Loki was named", "another file was named"],
)
def test_the_stacks_own_file_takes_the_place_of_an_absent_loki(
    file: Path, monkeypatch: pytest.MonkeyPatch, status: int, given: dict[str, Any], *, taken: bool
) -> None:
    """Only where nobody said where to look."""
    monkeypatch.setattr(stack, "default_log_file", lambda: file)

    async def choose() -> StackAddresses:
        async with answering(status) as client:
            return await find_log_store(client, StackAddresses(**given))

    chosen = asyncio.run(choose())

    assert (chosen.log_file == file) is taken
    assert taken or chosen == StackAddresses(**given)


def test_no_queue_is_asked_about(file: Path) -> None:
    """The exporter to the file writes before it answers: nothing can wait for it."""

    async def explain() -> list[str]:
        async with httpx.AsyncClient() as client:
            return await StackBackend(client, StackAddresses(log_file=file)).explain_missing(["log record"])

    (line,) = asyncio.run(explain())

    assert line == "the Collector's log file has no queue before it: was it refused? ./dev stack logs otelcol"
