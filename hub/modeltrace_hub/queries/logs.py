"""List log records, count them over time and by property, and group similar ones."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modeltrace_hub.durations import MAX_NS
from modeltrace_hub.queries.conditions import sql_conditions
from modeltrace_hub.queries.filter_fields import SEVERITIES
from modeltrace_hub.queries.list_parameters import LogFilter
from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.search_windows import NOT_NEWER_THAN_CURSOR, WINDOW_AGES_NS, collect_newest, cut_page
from modeltrace_hub.queries.trace import locate_trace
from modeltrace_hub.sql_files import load_fragment

# Without a time range, the records of this period up to the newest record are counted.
COUNTED_NS: Final = 3600 * 10**9
MAX_STEPS: Final = 60
MAX_GROUPED_RECORDS: Final = 20_000
# The number of records before and after the one that `around` selects.
RECORDS_AROUND: Final = 50
NO_SEVERITY: Final = "none"
SEVERITY_NAMES: Final = (NO_SEVERITY, *SEVERITIES)

_IN_TRACE: Final = "trace_id = $trace_id AND received_ns BETWEEN $first_received_ns AND $last_received_ns"


@dataclass(frozen=True, slots=True)
class LogCounts:
    """The counted records: in total, by severity for each step of time, and by property.

    The range of time is from `since_ns` (exclusive) to `until_ns` (inclusive), in steps of `step_ns`.
    """

    since_ns: int
    until_ns: int
    step_ns: int
    total: int
    steps: list[dict[str, int]]
    facets: dict[str, dict[str, int]]


def list_logs(reader: Reader, filters: LogFilter) -> tuple[list[Record], str | None]:
    """Return matching log records, newest first, and the cursor of the next page; None if there is no next page.

    With `around`, the records are those before and after this time, and there is no cursor.
    """
    conditions, values = _log_conditions(reader, filters)
    if filters.around is not None:
        return _list_around(reader, filters, conditions, values), None
    cursor_ns, cursor_received_ns, skip = filters.cursor_position
    if filters.cursor is not None:
        conditions.append(NOT_NEWER_THAN_CURSOR)
        values |= {"cursor_ns": cursor_ns, "cursor_received_ns": cursor_received_ns}
    since_ns, until_ns = filters.time_range["since_ns"], min(filters.time_range["until_ns"], cursor_ns)
    records = _newest(reader, conditions, values, since_ns, until_ns, filters.limit + skip + 1)
    return cut_page(records, filters.limit, skip)


def count_logs(reader: Reader, filters: LogFilter) -> LogCounts | None:
    """Count the matching records; None if there are none in the time range."""
    conditions, values = _log_conditions(reader, filters)
    time_range = filters.time_range
    newest_ns = reader.fetch_one("get_newest_log_time", **time_range)["time_ns"]
    if newest_ns is None:
        return None
    until_ns = newest_ns if filters.until is None else filters.until
    since_ns = max(until_ns - COUNTED_NS if filters.since is None else filters.since - 1, -1)
    step_ns = -(-max(until_ns - since_ns, 1) // MAX_STEPS)
    rows = reader.fetch_all("count_logs", conditions, **values, since_ns=since_ns, until_ns=until_ns, step_ns=step_ns)
    steps: list[Counter[str]] = [Counter() for _ in range(-(-(until_ns - since_ns) // step_ns))]
    facets: dict[str, Counter[str]] = {name: Counter() for name in ("severity", "service", "event", "scope")}
    for row in rows:
        severity = SEVERITY_NAMES[row["severity"]]
        steps[row["step"]][severity] += row["record_count"]
        for name, value in (
            ("severity", severity),
            ("service", row["service_name"]),
            ("event", row["event_name"]),
            ("scope", row["scope_name"]),
        ):
            facets[name][value] += row["record_count"]
    return LogCounts(
        since_ns,
        until_ns,
        step_ns,
        sum(row["record_count"] for row in rows),
        [dict(step) for step in steps],
        {name: dict(counts.most_common()) for name, counts in facets.items()},
    )


def group_logs(reader: Reader, filters: LogFilter) -> list[Record]:
    """Return groups of similar records among the newest `MAX_GROUPED_RECORDS` matching ones, the largest first."""
    conditions, values = _log_conditions(reader, filters)
    time_range = {**filters.time_range, "since_ns": filters.time_range["since_ns"] - 1}
    return reader.fetch_all(
        "group_logs", conditions, **values, **time_range, max_records=MAX_GROUPED_RECORDS, limit=filters.limit
    )


def _log_conditions(reader: Reader, filters: LogFilter) -> tuple[list[str], dict[str, Any]]:
    conditions, values = sql_conditions(reader, filters.conditions)
    trace_ids = [
        item.value for item in filters.conditions if item.field and item.name == "trace_id" and item.operator == "="
    ]
    if trace_ids:
        conditions.append(_IN_TRACE)
        values |= locate_trace(reader, str(trace_ids[0]))
    if filters.pattern is not None:
        conditions.append(f"{load_fragment('log_pattern')} = $pattern")
        values["pattern"] = filters.pattern
    return conditions, values


def _newest(
    reader: Reader, conditions: list[str], values: Mapping[str, Any], since_ns: int, until_ns: int, limit: int
) -> list[Record]:
    """Return the newest records of a time range that includes both ends."""
    newest_ns = reader.fetch_one("get_newest_log_time", since_ns=since_ns, until_ns=until_ns)["time_ns"]
    if newest_ns is None:
        return []

    def fetch(since_ns: int, until_ns: int, limit: int) -> list[Record]:
        return reader.fetch_all("list_logs", conditions, **values, since_ns=since_ns, until_ns=until_ns, limit=limit)

    return collect_newest(fetch, newest_ns, since_ns - 1, limit)


def _list_around(reader: Reader, filters: LogFilter, conditions: list[str], values: Mapping[str, Any]) -> list[Record]:
    """Return the records after, at and before the time `filters.around`."""
    around_ns = filters.around or 0
    later: list[Record] = []
    since_ns = around_ns
    for age_ns in (*WINDOW_AGES_NS, MAX_NS):
        until_ns = min(around_ns + age_ns, MAX_NS)
        later += reader.fetch_all(
            "list_later_logs",
            conditions,
            **values,
            since_ns=since_ns,
            until_ns=until_ns,
            limit=RECORDS_AROUND - len(later),
        )
        if len(later) >= RECORDS_AROUND:
            break
        since_ns = until_ns
    return [*reversed(later), *_newest(reader, conditions, values, 0, around_ns, RECORDS_AROUND + 1)]
