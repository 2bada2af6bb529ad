"""Read files of telemetry: archives, OTLP/JSON lines as the Collector's file exporter writes them, Jaeger's JSON."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from modeltrace_hub.archive.jaeger import UNKNOWN_PROCESS, convert_jaeger
from modeltrace_hub.archive.unpack import LineReader
from modeltrace_hub.decode import otlp_json
from modeltrace_hub.decode.batch import REJECTION_REASONS, Batch, Problems
from modeltrace_hub.decode.budget import BYTES_PER_MESSAGE, Budget
from modeltrace_hub.errors import HubError, MalformedError, TooLargeError
from modeltrace_hub.receive.signals import LOGS, METRICS, TRACES, Signal
from modeltrace_hub.writer import Writer

# The position of the column `trace_id` in a row of `spans`.
_TRACE_ID: Final = 1
_SIGNALS: Final = {"resourceSpans": TRACES, "resourceLogs": LOGS, "resourceMetrics": METRICS}
_FORMATS: Final = "The hub opens its archives, OTLP/JSON lines, and JSON of Jaeger."


@dataclass(slots=True)
class ImportedFile:
    """What was stored from a file.

    Attributes:
        counts: stored records by signal.
        rejections: records that were not stored, by reason.
        trace_ids: the traces of its spans.
    """

    counts: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    trace_ids: set[str] = field(default_factory=set)

    @property
    def rejected(self) -> int:
        """The number of records that were not stored."""
        return self.rejections.total()

    @property
    def rejection_text(self) -> str:
        """The records that were not stored and why; empty if all were stored."""
        return "; ".join(f"{count:,} rejected: {reason}" for reason, count in sorted(self.rejections.items()))


class _Request(NamedTuple):
    """An export request of a file. `place` names its line in messages; empty if the file is one document."""

    signal: Signal
    body: bytes
    place: str = ""


def import_file(content: bytes, writer: Writer, max_request_bytes: int) -> ImportedFile:
    """Store the telemetry of a file.

    Each line is stored before the next one is read. If a line cannot be stored, the message names it and says how many
    records were stored before it.

    Args:
        content: the file.
        writer: a running writer.
        max_request_bytes: the limit of a line, which is one request; other limits follow from it.

    Raises:
        MalformedError: the content is none of the formats.
        TooLargeError: the content, or a line of it, is too large.
        RetryableError: it was not stored completely.
    """
    imported = ImportedFile()
    try:
        for request in _requests(content, max_request_bytes, imported):
            _import_request(request, writer, max_request_bytes, imported)
    except HubError as error:
        if not imported.counts.total():
            raise
        raise type(error)(f"{error} {imported.counts.total():,} records before it were stored.") from None
    if not imported.counts.total():
        reason = f"No record of the file could be stored: {imported.rejection_text}."
        raise MalformedError(reason if imported.rejected else "The file has no telemetry.")
    return imported


def _import_request(request: _Request, writer: Writer, max_request_bytes: int, imported: ImportedFile) -> None:
    """Store a request, and add what was stored to `imported`.

    Raises:
        PermanentError: the request is invalid. The message names its line.
        RetryableError: it was not stored.
    """
    signal, body, place = request
    problems = Problems()
    try:
        budget = Budget.from_limits(max(max_request_bytes, len(body)), writer.max_rows)
        message = otlp_json.parse(body, signal.request_type, signal.shape, budget, problems)
        tables = signal.decode(
            message, time.time_ns(), Budget.from_limits(max_request_bytes, writer.max_rows), problems
        )
        batch = Batch(signal.name, tables, len(body), 0, problems)
        if batch.row_count:
            writer.submit(batch).result()
    except HubError as error:
        raise type(error)(f"{place}: {error}" if place else str(error)) from None
    imported.counts[signal.name] += batch.accepted
    imported.rejections.update({REJECTION_REASONS[reason]: count for reason, count in problems.rejected.items()})
    imported.trace_ids |= {row[_TRACE_ID] for row in tables.get("spans", ())}


def _requests(content: bytes, max_request_bytes: int, imported: ImportedFile) -> Iterator[_Request]:
    """Yield the export requests of a file. Spans that cannot be converted are added to the rejections."""
    reader = LineReader(content, max_request_bytes)
    max_objects = 2 * max_request_bytes // BYTES_PER_MESSAGE
    if not reader.is_archive and _is_document(reader.first_line(), max_objects):
        document = _load_document(reader.document(), max_objects)
        if isinstance(document, dict) and "data" in document:
            request, unknown = convert_jaeger(document)
            if unknown:
                imported.rejections[UNKNOWN_PROCESS] += unknown
            yield _Request(TRACES, orjson.dumps(request))
            return
        if isinstance(document, dict):
            yield from _split_document(document, "")
            return
    for place, line in reader.lines():
        document = _load_document(line, max_objects, place)
        if not isinstance(document, dict):
            raise MalformedError(f"{place} is not a JSON object. {_FORMATS}")
        yield from _split_document(document, place)


def _is_document(first_line: bytes, max_objects: int) -> bool:
    """Return whether a file is one JSON document, because its first line alone is no OTLP/JSON object."""
    document = _load_document(first_line, max_objects)
    return not isinstance(document, dict) or not document.keys() & _SIGNALS.keys()


def _load_document(content: bytes, max_objects: int, place: str = "The file") -> object:
    """Return JSON; None if it is not JSON.

    Raises:
        TooLargeError: it has too many objects and lists, which take much more memory than their text.
    """
    if content.count(b"{") + content.count(b"[") > max_objects:
        raise TooLargeError(f"{place} has more than {max_objects:,} JSON objects and lists. Split it.")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _split_document(document: dict[str, object], place: str) -> Iterator[_Request]:
    """Yield the requests of one object, which may have several signals."""
    names = [name for name in _SIGNALS if name in document]
    if not names:
        raise MalformedError(f"{place or 'The file'} has JSON that is no telemetry. {_FORMATS}")
    for name in names:
        yield _Request(_SIGNALS[name], orjson.dumps({name: document[name]}), place)
