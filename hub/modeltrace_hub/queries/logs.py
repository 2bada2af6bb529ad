"""List log records, newest first."""

from typing import Final

from modeltrace_hub.queries.conditions import record_conditions
from modeltrace_hub.queries.filters import LogFilter
from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.search_windows import collect_newest
from modeltrace_hub.queries.trace import locate_trace

_CONDITIONS: Final = {
    "service": "service_name = $service",
    "trace_id": "trace_id = $trace_id",
    "severity": "severity_number >= $severity",
    "q": "contains(lower(body), lower($q))",
}


def list_logs(reader: Reader, filters: LogFilter) -> list[Record]:
    """Return matching log records, newest first."""
    conditions, values = record_conditions(reader, filters, _CONDITIONS)
    if filters.trace_id is not None:
        conditions.append("received_ns BETWEEN $first_received_ns AND $last_received_ns")
        values |= locate_trace(reader, filters.trace_id)
    time_range = filters.time_range
    newest_ns = reader.fetch_one("get_newest_log_time", **time_range)["time_ns"]
    if newest_ns is None:
        return []

    def fetch(since_ns: int, until_ns: int, limit: int) -> list[Record]:
        return reader.fetch_all("list_logs", conditions, **values, since_ns=since_ns, until_ns=until_ns, limit=limit)

    return collect_newest(fetch, newest_ns, time_range["since_ns"] - 1, filters.limit)
