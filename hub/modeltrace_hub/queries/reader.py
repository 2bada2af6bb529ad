"""Run the SQL queries of the pages and the API.

Each query is a file in hub/modeltrace_hub/sql/queries. SQL that several queries share is a file in
hub/modeltrace_hub/sql/fragments; a query includes it by its name in braces. Values are always bound as parameters.
Conditions are added to a query as fixed SQL texts, never as user input.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, Final

import duckdb
import orjson

from modeltrace_hub.durations import MAX_NS
from modeltrace_hub.queries.filters import LogFilter, MetricFilter, Parameters, RecordFilter, TraceFilter
from modeltrace_hub.store import Store

Record = dict[str, Any]

# Lengths of the search windows of `search_traces`. A longer window is searched if there are too few traces.
SEARCH_WINDOWS_NS: Final = (2 * 10**9, 60 * 10**9, 30 * 60 * 10**9, 12 * 3600 * 10**9)
# After a trace is found in a window, its spans are searched from this long before the window until this long after it.
# If the time of a record is ahead of its arrival by more than this, the record is listed by its arrival.
MAX_CLOCK_SKEW_NS: Final = 3600 * 10**9
MAX_SERVICES: Final = 200
MAX_METRICS: Final = 2000

# The SQL condition of each filter. A parameter has the name of its filter.
_SERVICE_CONDITION: Final = {"service": "service_name = $service"}
_TRACE_CONDITIONS: Final = {**_SERVICE_CONDITION, "name": "contains(lower(name), lower($name))"}
_WHOLE_TRACE_CONDITIONS: Final = {
    "min_duration": "trace_duration_ns >= $min_duration",
    "max_duration": "trace_duration_ns <= $max_duration",
}
_LOG_CONDITIONS: Final = {
    **_SERVICE_CONDITION,
    "trace_id": "trace_id = $trace_id",
    "severity": "severity_number >= $severity",
    "q": "contains(lower(body), lower($q))",
}
_POINT_CONDITIONS: Final = {**_SERVICE_CONDITION, "name": "name = $name"}
# An attribute of a record precedes the attribute of its resource with the same key.
_ATTRIBUTE_CONDITION: Final = (
    "coalesce(json_extract_string(attributes, $key_{n}) = $value_{n}, resource_id IN (SELECT resource_id FROM resources"
    " WHERE json_extract_string(resource_attributes, $key_{n}) = $value_{n}))"
)


class Queries:
    """Load all SQL files once and open readers that run them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        fragments = {**_read_sql_files("sql/fragments"), "max_clock_skew_ns": str(MAX_CLOCK_SKEW_NS)}
        for name, table in (("logs_in_window", "logs"), ("points_in_window", "metric_points")):
            fragments[name] = _insert_fragments(fragments["records_in_window"], {"table": table})
        fragments = {name: _insert_fragments(sql, fragments) for name, sql in fragments.items()}
        self._sql = {name: _insert_fragments(sql, fragments) for name, sql in _read_sql_files("sql/queries").items()}

    @contextmanager
    def open_reader(self) -> Iterator["Reader"]:
        """Yield a reader whose queries all see the same snapshot of the database.

        Raises:
            QueryTimeoutError: the queries together took too long.
            ReadersBusyError: too many readers are open.
        """
        with self._store.read() as cursor:
            yield Reader(cursor, self._sql)


class Reader:
    """Run queries in one read transaction. A result is a list of dictionaries, keyed by column name."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, sql: Mapping[str, str]) -> None:
        self._cursor = cursor
        self._sql = sql

    def fetch_all(
        self, query: str, conditions: Sequence[str] = (), having: Sequence[str] = (), **values: object
    ) -> list[Record]:
        """Run a query and return all rows.

        Args:
            query: name of the SQL file, without `.sql`.
            conditions: fixed SQL texts for the WHERE clause; their parameters are among `values`.
            having: the same for the HAVING clause.
            values: the parameters of the query.
        """
        sql = self._sql[query]
        if "{conditions}" in sql:
            sql = sql.replace("{conditions}", _join_conditions(conditions)).replace(
                "{having}", _join_conditions(having)
            )
        if "$instances" in sql:  # NULL selects all service instances
            values.setdefault("instances", None)
        cursor = self._cursor.execute(sql, values)
        # DuckDB returns JSON columns as text.
        columns = [(name, type_ == "JSON") for name, type_, *_ in cursor.description or ()]
        return [_to_record(columns, row) for row in cursor.fetchall()]

    def fetch_one(self, query: str, **values: object) -> Record:
        """Run a query that returns exactly one row."""
        (record,) = self.fetch_all(query, (), (), **values)
        return record

    def search_traces(self, filters: TraceFilter) -> tuple[list[Record], str | None]:
        """Return matching traces, newest first, and the cursor of the next page; None if there is no next page."""
        conditions, values = _record_conditions(filters, _TRACE_CONDITIONS)
        having, having_values = select_conditions(filters, _WHOLE_TRACE_CONDITIONS)
        if filters.error:
            conditions.append("status_code = 'ERROR'")
        elif filters.error is False:
            having.append("count(*) FILTER (status_code = 'ERROR') = 0")
        before, before_id = filters.cursor_position
        ceiling = min(MAX_NS if filters.until is None else filters.until, before, MAX_NS - MAX_CLOCK_SKEW_NS)
        time_range = self.fetch_one("get_span_time_range", floor_ns=filters.since or 0, ceiling_ns=ceiling)
        newest, oldest = time_range["newest_ns"], time_range["oldest_ns"]
        if newest is None:
            return [], None
        min_floor = max(filters.since or 0, oldest)
        traces: list[Record] = []
        for floor in window_starts(SEARCH_WINDOWS_NS, newest, min_floor):
            traces = self.fetch_all(
                "search_traces",
                conditions,
                having,
                **values,
                **having_values,
                floor_ns=floor,
                ceiling_ns=ceiling,
                before_ns=before,
                before_id=before_id,
                limit=filters.limit + 1,
            )
            if len(traces) > filters.limit:
                break
        has_more = len(traces) > filters.limit
        traces = traces[: filters.limit]
        return traces, f"{traces[-1]['start_ns']}-{traces[-1]['trace_id']}" if has_more else None

    def list_logs(self, filters: LogFilter) -> list[Record]:
        """Return matching log records, newest first."""
        conditions, values = _record_conditions(filters, _LOG_CONDITIONS)
        return self.fetch_all("list_logs", conditions, **values, **filters.time_range, limit=filters.limit)

    def list_metrics(self) -> list[Record]:
        """Return all metrics, each with its newest point."""
        return self.fetch_all("list_metrics", limit=MAX_METRICS)

    def list_points(self, filters: MetricFilter) -> list[Record]:
        """Return the points of the metric `filters.name`, newest first."""
        conditions, values = _record_conditions(filters, _POINT_CONDITIONS)
        return self.fetch_all("list_metric_points", conditions, **values, **filters.time_range, limit=filters.limit)

    def list_services(self) -> list[Record]:
        """Return the services whose telemetry is stored."""
        return self.fetch_all("list_services", limit=MAX_SERVICES)


def window_starts(lengths: Iterable[int], newest: int, oldest: int) -> Iterator[int]:
    """Yield the starts of search windows that end at the newest item. The last one contains all items."""
    for length in lengths:
        if newest - length <= oldest:
            break
        yield newest - length
    yield oldest


def select_conditions(filters: Parameters, by_filter: Mapping[str, str]) -> tuple[list[str], dict[str, Any]]:
    """Return the SQL conditions of the filters that are set, and their parameters."""
    values = {name: value for name in by_filter if (value := getattr(filters, name)) is not None}
    return [by_filter[name] for name in values], values


def _record_conditions(filters: RecordFilter, by_filter: Mapping[str, str]) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions on single records, with those on attributes, and their parameters."""
    conditions, values = select_conditions(filters, by_filter)
    for n, (key, value) in enumerate(filters.attributes):
        conditions.append(_ATTRIBUTE_CONDITION.format(n=n))
        values |= {f"key_{n}": json_pointer(key), f"value_{n}": value}
    return conditions, values


def _insert_fragments(sql: str, fragments: Mapping[str, str]) -> str:
    """Replace the names in braces by their fragments; leave other braces alone."""
    return re.sub(r"\{(\w+)\}", lambda match: fragments.get(match[1], match[0]), sql)


def _join_conditions(conditions: Sequence[str]) -> str:
    return "".join(f" AND {condition}" for condition in conditions)


def _read_sql_files(folder: str) -> dict[str, str]:
    """Return the SQL files of a folder by name."""
    files = resources.files("modeltrace_hub").joinpath(folder).iterdir()
    return {file.name.removesuffix(".sql"): file.read_text(encoding="utf-8") for file in files}


def json_pointer(key: str) -> str:
    """Return the JSON pointer (RFC 6901) to a key of the outermost object."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _to_record(columns: Sequence[tuple[str, bool]], row: Sequence[Any]) -> Record:
    return {
        name: orjson.loads(value) if is_json and value is not None else value
        for (name, is_json), value in zip(columns, row, strict=True)
    }
