"""Find faults of the received telemetry: what is missing, wrong, late, dropped or too much."""

import time
from collections.abc import Iterator
from typing import Final

from pydantic import Field

from modeltrace_hub.durations import parse_duration_ns
from modeltrace_hub.ingest_stats import IngestStats
from modeltrace_hub.queries.parameters import Parameters
from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.web.format import duration, plural

MAX_ROWS: Final = 20
# Parents and spans that arrive later than this are missing.
SETTLED_NS: Final = 60 * 10**9
# Clocks of machines that are synchronized differ by less.
MIN_SKEW_NS: Final = 5 * 10**6
MIN_AHEAD_NS: Final = 10**9
MIN_LATE_NS: Final = 300 * 10**9
MAX_SERIES: Final = 2000
MAX_KEYS: Final = 500
MAX_ATTRIBUTE_BYTES: Final = 32 * 2**10


class HealthFilter(Parameters):
    """The time that is checked."""

    window: str = Field("1h", pattern=r"^[0-9]{1,4}[smhd]$", description="Records that arrived since, such as 1h.")

    @property
    def since_ns(self) -> int:
        """The arrival of the oldest checked record."""
        return max(time.time_ns() - (parse_duration_ns(self.window) or 0), 0)


def check_health(reader: Reader, stats: IngestStats, filters: HealthFilter) -> list[Record]:
    """Return the findings.

    Each has `check` (a name that does not change), `service`, `count` (affected records), `text`, `advice` and
    `trace_ids` (up to three examples).
    """
    window = {"since_ns": filters.since_ns, "limit": MAX_ROWS}
    settled = {**window, "settled_ns": time.time_ns() - SETTLED_NS}
    return [
        *_missing_parents(reader, settled),
        *_clock_skew(reader, window),
        *_wrong_arrivals(reader, window),
        *_unnamed_services(reader, window),
        *_many_series(reader, window),
        *_large_attributes(reader, window),
        *_dropped_items(reader, window),
        *_logs_without_span(reader, settled),
        *_rejected_records(stats),
    ]


def _missing_parents(reader: Reader, values: Record) -> Iterator[Record]:
    for row in reader.fetch_all("find_missing_parents", **values):
        spans, traces = plural(row["record_count"], "span"), plural(row["trace_count"], "trace")
        text = f"The parents of {spans} in {traces} are missing."
        advice = (
            "The service that calls this one sends elsewhere, is not instrumented, or its spans were dropped or not "
            "sampled."
        )
        yield _finding("missing_parent", row, row["record_count"], text, advice)


def _clock_skew(reader: Reader, values: Record) -> Iterator[Record]:
    for row in reader.fetch_all("find_clock_skew", **values, min_skew_ns=MIN_SKEW_NS):
        caller = row["other_service_name"] or "(no name)"
        text = (
            f"{plural(row['record_count'], 'span')} start before the span of {caller} that called them, by up to "
            f"{duration(row['skew_ns'])}."
        )
        yield _finding("clock_skew", row, row["record_count"], text, "Synchronize the clocks of both machines (NTP).")


def _wrong_arrivals(reader: Reader, values: Record) -> Iterator[Record]:
    rows = reader.fetch_all("find_wrong_arrivals", **values, min_ahead_ns=MIN_AHEAD_NS, min_late_ns=MIN_LATE_NS)
    for row in rows:
        if row["ahead_count"]:
            text = (
                f"The times of {plural(row['ahead_count'], 'record')} are ahead of their arrival, by up to "
                f"{duration(row['ahead_ns'])}."
            )
            advice = "Set the clock of the sender (NTP)."
            yield _finding("clock_ahead", row, row["ahead_count"], text, advice, "ahead_trace_ids")
        if row["late_count"]:
            text = (
                f"{plural(row['late_count'], 'record')} arrived more than {duration(MIN_LATE_NS)} after their time, "
                f"the latest after {duration(row['late_ns'])}."
            )
            advice = "The sender retries or queues, its clock is wrong, or a file of recorded telemetry was opened."
            yield _finding("late", row, row["late_count"], text, advice, "late_trace_ids")


def _unnamed_services(reader: Reader, values: Record) -> Iterator[Record]:
    for row in reader.fetch_all("find_unnamed_services", **values):
        text = f"{row['record_count']:,} {row['signal']} have no service.name."
        advice = "Set OTEL_SERVICE_NAME in the environment of the sender."
        yield _finding("no_service_name", row, row["record_count"], text, advice)


def _many_series(reader: Reader, values: Record) -> Iterator[Record]:
    for row in reader.fetch_all("find_many_series", **values, max_series=MAX_SERIES):
        text = f"The metric {row['name']} has {row['series_count']:,} series of one instance."
        advice = "Remove an attribute with a view of the SDK, or in the Collector."
        if row["key"] is not None:
            text += f" Its attribute {row['key']} has {row['value_count']:,} values."
        yield _finding("many_series", {**row, "trace_ids": []}, row["series_count"], text, advice)


def _large_attributes(reader: Reader, values: Record) -> Iterator[Record]:
    for row in reader.fetch_all("find_large_attributes", **values, max_bytes=MAX_ATTRIBUTE_BYTES, max_keys=MAX_KEYS):
        if row["key_count"] > MAX_KEYS:
            text = f"The spans have {row['key_count']:,} different attribute keys."
            advice = "Keys should be fixed names: put variable parts into values."
            yield _finding("many_keys", row, row["key_count"], text, advice)
        if row["large_count"]:
            text = (
                f"The attributes of {plural(row['large_count'], 'span')} have more than "
                f"{MAX_ATTRIBUTE_BYTES // 1024} KiB, up to {row['size'] // 1024:,} KiB."
            )
            advice = "Limit them with OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT, or record less."
            yield _finding("large_attributes", row, row["large_count"], text, advice)


def _dropped_items(reader: Reader, values: Record) -> Iterator[Record]:
    for row in reader.fetch_all("find_dropped_items", **values):
        text = (
            f"SDKs dropped {row['dropped_count']:,} attributes, events and links of "
            f"{plural(row['record_count'], 'record')}."
        )
        advice = "Raise the limits of the SDK (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, …), or record less."
        yield _finding("dropped_by_sdk", row, row["dropped_count"], text, advice)


def _logs_without_span(reader: Reader, values: Record) -> Iterator[Record]:
    for row in reader.fetch_all("find_logs_without_span", **values):
        text = f"{plural(row['record_count'], 'log record')} belong to sampled traces of which no span has arrived."
        advice = "The spans are sent elsewhere, were dropped, or were deleted by the limit of age or size."
        yield _finding("log_without_span", row, row["record_count"], text, advice)


def _rejected_records(stats: IngestStats) -> Iterator[Record]:
    """Yield the records that were not stored since the hub started. It is not known which service sent them."""
    for signal, counts in stats.snapshot().items():
        row: Record = {"service_name": None, "trace_ids": []}
        for reason, count in sorted(counts.rejected.items()):
            text = f"{count:,} records of {signal} break the protocol since the hub started: {reason}."
            yield _finding("rejected", row, count, text, "The response to the sender names the fields.")
        for reason, count in sorted(counts.refused.items()):
            text = f"{count:,} records of {signal} were not written since the hub started: {reason}."
            yield _finding("refused", row, count, text, "Senders try again, unless the reason is unstorable.")
        for reason, count in sorted(counts.failed_requests.items()):
            text = f"{plural(count, 'request')} of {signal} failed since the hub started: {reason}."
            yield _finding("failed_request", row, count, text, "The response to the sender has the reason.")


def _finding(check: str, row: Record, count: int, text: str, advice: str, examples_column: str = "trace_ids") -> Record:
    # An aggregate over records without a trace is NULL.
    examples: list[str | None] = row[examples_column] or []
    return {
        "check": check,
        "service": row["service_name"],
        "count": count,
        "text": text.replace("\u202f", " "),
        "advice": advice,
        "trace_ids": [trace_id for trace_id in dict.fromkeys(examples) if trace_id is not None],
    }
