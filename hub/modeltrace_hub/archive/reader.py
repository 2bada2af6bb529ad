"""Read files of telemetry: archives, OTLP/JSON lines as the Collector's file exporter writes them, Jaeger's JSON."""

import io
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import orjson

from modeltrace_hub.archive.jaeger import convert_jaeger
from modeltrace_hub.decode import otlp_json
from modeltrace_hub.decode.batch import Batch, Problems
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.errors import MalformedError, TooLargeError
from modeltrace_hub.receive.signals import LOGS, METRICS, TRACES, Signal
from modeltrace_hub.writer import Writer

ARCHIVE_FILES: Final = ("traces.jsonl", "logs.jsonl", "metrics.jsonl")
MAX_FILE_BYTES: Final = 256 * 2**20
# The position of the column `trace_id` in a row of `spans`.
_TRACE_ID: Final = 1
_SIGNALS: Final = {"resourceSpans": TRACES, "resourceLogs": LOGS, "resourceMetrics": METRICS}


@dataclass(slots=True)
class ImportedFile:
    """What was stored from a file.

    Attributes:
        counts: stored records by signal.
        rejected: records that break the protocol.
        trace_ids: the traces of its spans.
    """

    counts: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    trace_ids: set[str] = field(default_factory=set)


def import_file(content: bytes, writer: Writer, max_request_bytes: int) -> ImportedFile:
    """Store the telemetry of a file.

    Args:
        content: the file.
        writer: a running writer.
        max_request_bytes: the limits of a request follow from it; each line of a file is one request.

    Raises:
        MalformedError: the content is none of the formats.
        TooLargeError: the content, or a line of it, is too large.
        RetryableError: it was not stored completely.
    """
    imported = ImportedFile()
    for signal, body in _requests(content):
        problems = Problems()
        budget = Budget.from_limits(max(max_request_bytes, len(body)), writer.max_rows)
        request = otlp_json.parse(body, signal.request_type, signal.shape, budget, problems)
        tables = signal.decode(
            request, time.time_ns(), Budget.from_limits(max_request_bytes, writer.max_rows), problems
        )
        batch = Batch(signal.name, tables, len(body), 0, problems)
        if batch.row_count:
            writer.submit(batch).result()
        imported.counts[signal.name] += batch.accepted
        imported.rejected += problems.rejected.total()
        imported.trace_ids |= {row[_TRACE_ID] for row in tables.get("spans", ())}
    if not imported.counts.total():
        raise MalformedError("The file has no telemetry.")
    return imported


def _requests(content: bytes) -> Iterator[tuple[Signal, bytes]]:
    """Yield the export requests of a file, each with its signal."""
    if len(content) > MAX_FILE_BYTES:
        raise _too_large()
    if content.startswith(b"PK"):
        for lines in _read_zip(content):
            yield from _read_lines(lines)
        return
    document = _load_document(content)
    if isinstance(document, dict) and "data" in document:
        yield TRACES, orjson.dumps(convert_jaeger(document))
    elif isinstance(document, dict):
        yield from _split_document(document)
    else:
        yield from _read_lines(content)


def _read_zip(content: bytes) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = [info for info in archive.infolist() if info.filename in ARCHIVE_FILES]
            # The sizes of the directory may be wrong, so the limit also applies to what is read.
            remaining = MAX_FILE_BYTES
            for info in infos:
                with archive.open(info) as file:
                    lines = file.read(remaining + 1)
                remaining -= len(lines)
                if remaining < 0:
                    raise _too_large()
                yield lines
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise MalformedError(f"The archive cannot be read: {error}") from None


def _load_document(content: bytes) -> object:
    """Return the file as one JSON document; None if it is not one."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _read_lines(content: bytes) -> Iterator[tuple[Signal, bytes]]:
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        document = _load_document(line)
        if not isinstance(document, dict):
            raise MalformedError(
                f"Line {number} is not a JSON object. The hub opens its archives, OTLP/JSON lines, and JSON of Jaeger."
            )
        yield from _split_document(document)


def _split_document(document: dict[str, object]) -> Iterator[tuple[Signal, bytes]]:
    """Yield the requests of one object, which may have several signals."""
    names = [name for name in _SIGNALS if name in document]
    if not names:
        raise MalformedError(
            "The file has JSON that is no telemetry. The hub opens its archives, OTLP/JSON lines, and JSON of Jaeger."
        )
    for name in names:
        yield _SIGNALS[name], orjson.dumps({name: document[name]})


def _too_large() -> TooLargeError:
    return TooLargeError(f"The file has more than {MAX_FILE_BYTES // 2**20} MiB of telemetry. Split it.")
