"""Select the telemetry of an archive: that of some traces, or of a time range."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Self

import orjson
from pydantic import Field, model_validator

from modeltrace_hub.archive.otlp_encoding import encode_logs, encode_points, encode_spans
from modeltrace_hub.errors import TooLargeError
from modeltrace_hub.queries.list_parameters import TimeRangeFilter
from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.trace import locate_trace
from modeltrace_hub.queries.trace_metrics import find_contributions

MAX_RECORDS: Final = 100_000
MAX_TRACES: Final = 100
MAX_EXEMPLARS: Final = 1000
# A hub with the default settings opens lines of 16 MiB.
MAX_LINE_BYTES: Final = 4 * 2**20
ROWS_PER_LINE: Final = 1000
# Data points of a trace are those of its series in this time around its spans.
POINTS_AROUND_NS: Final = 120 * 10**9

_IN_TRACES: Final = "list_contains($trace_ids, trace_id)"
_IN_TIME: Final = "time_ns BETWEEN $since_ns AND $until_ns"
_SPANS_IN_TIME: Final = "start_ns BETWEEN $since_ns AND $until_ns"
_IN_SERIES: Final = f"list_contains($series, series_id) AND {_IN_TIME}"

TraceId = Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")]


class ArchiveFilter(TimeRangeFilter):
    """What an archive has: the telemetry of traces, or of a time range."""

    trace_id: list[TraceId] = Field([], max_length=MAX_TRACES, description="A trace; may be repeated.")

    @model_validator(mode="after")
    def _check_one_kind(self) -> Self:
        if bool(self.trace_id) == (self.since is not None or self.until is not None):
            raise ValueError("name traces (trace_id) or a time range (since, until)")
        return self


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of an archive, in the order of the encoding."""

    spans: list[Record]
    logs: list[Record]
    points: list[Record]

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Yield the content of each file of export requests with the name of the file."""
        yield "traces.jsonl", b"".join(_encode_lines(self.spans, encode_spans))
        yield "logs.jsonl", b"".join(_encode_lines(self.logs, encode_logs))
        yield "metrics.jsonl", b"".join(_encode_lines(self.points, encode_points))


def _encode_lines(rows: list[Record], encode: Callable[[Iterable[Record]], Record]) -> Iterator[bytes]:
    """Yield lines of one export request each. A hub opens lines up to the limit of a request."""
    for start in range(0, len(rows), ROWS_PER_LINE):
        yield from _encode_rows(rows[start : start + ROWS_PER_LINE], encode)


def _encode_rows(rows: list[Record], encode: Callable[[Iterable[Record]], Record]) -> Iterator[bytes]:
    line = orjson.dumps(encode(rows)) + b"\n"
    if len(line) <= MAX_LINE_BYTES or len(rows) == 1:
        yield line
        return
    middle = len(rows) // 2
    yield from _encode_rows(rows[:middle], encode)
    yield from _encode_rows(rows[middle:], encode)


def select_telemetry(reader: Reader, filters: ArchiveFilter) -> Selection:
    """Read the rows.

    Raises:
        TooLargeError: there are more than `MAX_RECORDS` of a signal.
    """
    if not filters.trace_id:
        time_range = filters.time_range
        return Selection(
            _fetch(reader, "spans", [_SPANS_IN_TIME], **time_range),
            _fetch(reader, "logs", [_IN_TIME], **time_range),
            _fetch(reader, "points", [_IN_TIME], **time_range),
        )
    trace_ids = [trace_id.lower() for trace_id in filters.trace_id]
    spans = _fetch(reader, "spans", [_IN_TRACES], trace_ids=trace_ids)
    logs = _fetch(reader, "logs", [_IN_TRACES], trace_ids=trace_ids)
    series = sorted({series_id for trace_id in trace_ids for series_id in _find_series(reader, trace_id)})
    times = [span["start_ns"] for span in spans] + [span["end_ns"] for span in spans]
    points: list[Record] = []
    if series and times:
        since_ns, until_ns = min(times) - POINTS_AROUND_NS, max(times) + POINTS_AROUND_NS
        points = _fetch(reader, "points", [_IN_SERIES], series=series, since_ns=since_ns, until_ns=until_ns)
    return Selection(spans, logs, points)


def _find_series(reader: Reader, trace_id: str) -> Sequence[str]:
    """Return the series to which a trace contributed, or of which it is an exemplar."""
    trace = locate_trace(reader, trace_id)
    spans = reader.fetch_all("list_trace_spans", **trace, limit=MAX_RECORDS)
    exemplars = reader.fetch_all("list_trace_exemplars", trace_id=trace_id, limit=MAX_EXEMPLARS)
    points = find_contributions(reader, trace, spans, exemplars)
    return [record["series_id"] for record in (*exemplars, *points)]


def _fetch(reader: Reader, signal: str, conditions: Sequence[str], **values: object) -> list[Record]:
    rows = reader.fetch_all(f"export_{signal}", conditions, **values, limit=MAX_RECORDS + 1)
    if len(rows) > MAX_RECORDS:
        raise TooLargeError(
            f"The archive would have more than {MAX_RECORDS:,} {signal}. Select fewer traces, or a shorter time range."
        )
    return rows
