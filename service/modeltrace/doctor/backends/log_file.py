"""The file that the Collector of a stack without Loki writes log records to (otel/log-file.yaml)."""

import asyncio
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import platformdirs

from modeltrace.client.service import UnreachableError
from modeltrace.doctor.backends.backend import Link, LogRecordRef

# Seconds looked back: a prediction that is followed is not older, and rotated files need not all be read.
LOOK_BACK_SECONDS = 900
# How each OTLP request begins. In a string its quotes would be escaped, so it stands nowhere else.
REQUEST_PREFIX = b'{"resourceLogs"'


def default_log_file() -> Path:
    """Where the Collector of `./dev stack up` writes."""
    return platformdirs.user_state_path("modeltrace") / "stack" / "data" / "otelcol" / "logs" / "records.jsonl"


class LogFile:
    """Reads log records from the file and from those that it was rotated to."""

    title = "the Collector's log file"
    exporter_name = ""  # the exporter writes before it answers

    def __init__(self, path: Path) -> None:
        self._path = path

    async def check(self) -> None:
        """See that a Collector writes there: the folder exists from its start on, the file from the first record on."""
        if not self._path.parent.is_dir():
            raise UnreachableError(f"no Collector writes log records to {self._path} (--log-file)")

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """The log records of a trace."""
        return await asyncio.to_thread(self._logs, trace_id)

    def link(self, trace_id: str, at: float, grafana: str | None) -> Link:  # noqa: ARG002  Loki needs them
        """The file, and the command that finds the records in it."""
        wanted = f'.resourceLogs[].scopeLogs[].logRecords[] | select(.traceId == "{trace_id}")'
        return Link("logs", self._path.as_uri(), f"jq -c {shlex.quote(wanted)} {shlex.quote(str(self._path))}")

    def _logs(self, trace_id: str) -> list[LogRecordRef]:
        return [
            LogRecordRef(scope.get("scope", {}).get("name", ""), _event_name(record))
            for path in self._recent_files()
            for request in _requests(path, trace_id.encode())
            for resource in request["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
            if record.get("traceId") == trace_id
        ]

    def _recent_files(self) -> list[Path]:
        since = time.time() - LOOK_BACK_SECONDS
        files = self._path.parent.glob(f"{self._path.stem}*{self._path.suffix}")
        return sorted(file for file in files if file.stat().st_mtime >= since)


def _requests(path: Path, needle: bytes) -> Iterator[dict[str, Any]]:
    """The OTLP requests in whose line the needle stands.

    A Collector that was killed may leave the beginning of a line, to which the next request is appended; the sender
    repeats what was cut off. The last line may not be complete yet.
    """
    with path.open("rb") as file:
        for line in file:
            if needle in line and line.endswith(b"\n"):
                yield orjson.loads(line[max(0, line.rfind(REQUEST_PREFIX)) :])


def _event_name(record: dict[str, Any]) -> str:
    return str(record.get("eventName", ""))
