"""Read log records from the file that the Collector of a stack without Loki writes (otel/log-file.yaml)."""

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

# Older rotated files are not read: the prediction was sent within this time.
LOOK_BACK_SECONDS = 900
# The beginning of each OTLP request. Quotes are escaped inside strings, so it occurs nowhere else.
REQUEST_PREFIX = b'{"resourceLogs"'


def default_log_file() -> Path:
    """Return the file that the Collector of `./dev stack up` writes."""
    return platformdirs.user_state_path("modeltrace") / "stack" / "data" / "otelcol" / "logs" / "records.jsonl"


class LogFile:
    """Log records in the file and its rotated predecessors."""

    title = "the log file"
    exporter_name = ""  # the exporter has no queue: it writes before it answers

    def __init__(self, path: Path) -> None:
        self._path = path

    async def check(self) -> None:
        """Check that the folder exists. The Collector creates it at start, and the file with the first record."""
        if not self._path.parent.is_dir():
            raise UnreachableError(f"no Collector writes log records to {self._path} (--log-file)")

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """Return the log records of a trace."""
        return await asyncio.to_thread(self._read_records, trace_id)

    def link(self, trace_id: str, timestamp: float, grafana: str | None) -> Link:  # noqa: ARG002  Loki needs them
        """Return the file, and a command that prints the records of a trace."""
        jq_filter = f'.resourceLogs[].scopeLogs[].logRecords[] | select(.traceId == "{trace_id}")'
        return Link("logs", self._path.as_uri(), f"jq -c {shlex.quote(jq_filter)} {shlex.quote(str(self._path))}")

    def _read_records(self, trace_id: str) -> list[LogRecordRef]:
        return [
            LogRecordRef(scope.get("scope", {}).get("name", ""), str(record.get("eventName", "")))
            for path in self._recent_files()
            for request in _read_requests(path, trace_id.encode())
            for resource in request["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
            if record.get("traceId") == trace_id
        ]

    def _recent_files(self) -> list[Path]:
        since = time.time() - LOOK_BACK_SECONDS
        files = self._path.parent.glob(f"{self._path.stem}*{self._path.suffix}")
        return sorted(file for file in files if file.stat().st_mtime >= since)


def _read_requests(path: Path, needle: bytes) -> Iterator[dict[str, Any]]:
    """Yield the OTLP requests whose line contains `needle`.

    A killed Collector may leave an incomplete request, and the next request is then appended to the same line. Skip the
    incomplete request, because the sender repeats it. Also skip a last line that is not complete yet.
    """
    with path.open("rb") as file:
        for line in file:
            if needle in line and line.endswith(b"\n"):
                yield orjson.loads(line[max(0, line.rfind(REQUEST_PREFIX)) :])
