"""The questions that the pages and the API put to the store.

Each stands in a file of its own, hub/modeltrace_hub/sql/queries/*.sql; what several of them have in common in
hub/modeltrace_hub/sql/parts, put in
where they name it in braces. Values are always bound; where a question takes filters, the conditions are fixed texts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, Final

import duckdb
import orjson

from modeltrace_hub.queries.filters import MAX_NS, LogFilter, MetricFilter, TraceFilter
from modeltrace_hub.store import Store

Record = dict[str, Any]

# The newest traces are looked for in windows that grow until there are enough.
WINDOWS_NS: Final = (2 * 10**9, 60 * 10**9, 30 * 60 * 10**9, 12 * 3600 * 10**9)
# A trace's spans are looked for this long around the window in which it was found. A time that is further ahead of its
# arrival is not believed: lists put the record where it arrived.
SLACK_NS: Final = 3600 * 10**9
MOST_SERVICES: Final = 200
MOST_METRICS: Final = 2000

# JSON columns are text to DuckDB's Python side.
_JSON: Final = frozenset(
    {
        "attributes",
        "resource_attributes",
        "scope_attributes",
        "filtered_attributes",
        "events",
        "links",
        "metadata",
        "resource_entity_refs",
    }
)

_ATTRIBUTE: Final = (
    "coalesce(json_extract_string(attributes, $key_{n}), json_extract_string(resource_attributes, $key_{n}))"
    " = $value_{n}"
)


class Queries:
    """All questions, read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        parts = {**_read("sql/parts"), "slack_ns": str(SLACK_NS)}
        for name, table in (("listed_logs", "logs"), ("listed_points", "metric_points")):
            parts[name] = _fill(parts["listed_records"], {"table": table})
        parts = {name: _fill(sql, parts) for name, sql in parts.items()}
        self._sql = {name: _fill(sql, parts) for name, sql in _read("sql/queries").items()}

    @contextmanager
    def ask(self) -> Iterator["Reader"]:
        """Ask several questions of one moment.

        Raises:
            QueryTimeoutError: all of it took too long.
            ReadersBusyError: too many others ask.
        """
        with self._store.read() as cursor:
            yield Reader(cursor, self._sql)


class Reader:
    """The answers as of one moment: a list of records, each column by its name."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, sql: Mapping[str, str]) -> None:
        self._cursor = cursor
        self._sql = sql

    def records(
        self, question: str, filters: Sequence[str] = (), having: Sequence[str] = (), **values: object
    ) -> list[Record]:
        """Put a question. `filters` and `having` are fixed conditions whose values are among `values`."""
        sql = self._sql[question]
        if "{filters}" in sql:
            sql = sql.replace("{filters}", _and(filters)).replace("{having}", _and(having))
        if "$instances" in sql:  # of all processes, unless some are named
            values.setdefault("instances", None)
        cursor = self._cursor.execute(sql, values)
        names = [column[0] for column in cursor.description or ()]
        return [_record(names, row) for row in cursor.fetchall()]

    def one(self, question: str, **values: object) -> Record:
        """The only record of the answer."""
        (record,) = self.records(question, (), (), **values)
        return record

    def traces(self, asked: TraceFilter) -> tuple[list[Record], str | None]:
        """Traces, newest first, and the cursor of those that follow, if there are any."""
        filters, values = _conditions(asked)
        if asked.name is not None:
            filters.append("contains(lower(name), lower($name))")
            values["name"] = asked.name
        if asked.error:
            filters.append("status_code = 'ERROR'")
        having, of_trace = _having(asked)
        before, before_id = asked.place
        ceiling = min(MAX_NS if asked.until is None else asked.until, before, MAX_NS - SLACK_NS)
        kept = self.one("span_times", floor_ns=asked.since or 0, ceiling_ns=ceiling)
        newest, oldest = kept["newest_ns"], kept["oldest_ns"]
        if newest is None:
            return [], None
        lowest = max(asked.since or 0, oldest)
        found: list[Record] = []
        for window in (*WINDOWS_NS, MAX_NS):
            floor = max(newest - window, lowest)
            found = self.records(
                "traces",
                filters,
                having,
                **values,
                **of_trace,
                floor_ns=floor,
                ceiling_ns=ceiling,
                before_ns=before,
                before_id=before_id,
                limit=asked.limit + 1,
            )
            if len(found) > asked.limit or floor == lowest:
                break
        more = len(found) > asked.limit
        found = found[: asked.limit]
        return found, f"{found[-1]['start_ns']}-{found[-1]['trace_id']}" if more else None

    def logs(self, asked: LogFilter) -> list[Record]:
        """Log records, newest first."""
        filters, values = _conditions(asked)
        if asked.trace_id is not None:
            filters.append("trace_id = $trace_id")
            values["trace_id"] = asked.trace_id
        if asked.severity is not None:
            filters.append("severity_number >= $severity")
            values["severity"] = asked.severity
        if asked.q is not None:
            filters.append("contains(lower(body), lower($q))")
            values["q"] = asked.q
        return self.records("logs", filters, **values, **_between(asked), limit=asked.limit)

    def metrics(self) -> list[Record]:
        """All metrics, each with its newest point."""
        return self.records("metrics", limit=MOST_METRICS)

    def points(self, asked: MetricFilter) -> list[Record]:
        """The points of the metric asked for, newest first."""
        filters, values = _conditions(asked)
        return self.records("metric_points", filters, **values, **_between(asked), name=asked.name, limit=asked.limit)

    def services(self) -> list[Record]:
        """Who has sent something."""
        return self.records("services", limit=MOST_SERVICES)


def _conditions(asked: TraceFilter | LogFilter | MetricFilter) -> tuple[list[str], dict[str, Any]]:
    """The conditions that all tables share, and their values."""
    filters: list[str] = []
    values: dict[str, Any] = {}
    if asked.service is not None:
        filters.append("service_name = $service")
        values["service"] = asked.service
    for n, (key, value) in enumerate(asked.attributes):
        filters.append(_ATTRIBUTE.format(n=n))
        values |= {f"key_{n}": pointer(key), f"value_{n}": value}
    return filters, values


def _having(asked: TraceFilter) -> tuple[list[str], dict[str, Any]]:
    """The conditions on a whole trace."""
    having: list[str] = []
    values: dict[str, Any] = {}
    if asked.error is False:
        having.append("count(*) FILTER (status_code = 'ERROR') = 0")
    if asked.min_duration is not None:
        having.append("trace_duration_ns >= $min_duration")
        values["min_duration"] = asked.min_duration
    if asked.max_duration is not None:
        having.append("trace_duration_ns <= $max_duration")
        values["max_duration"] = asked.max_duration
    return having, values


def _between(asked: LogFilter | MetricFilter) -> dict[str, Any]:
    return {"since_ns": asked.since or 0, "until_ns": MAX_NS if asked.until is None else asked.until}


def _fill(sql: str, parts: Mapping[str, str]) -> str:
    """Put in the parts that are named in braces; other braces stay."""
    return re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], found[0]), sql)


def _and(conditions: Sequence[str]) -> str:
    return "".join(f" AND {condition}" for condition in conditions)


def _read(folder: str) -> dict[str, str]:
    """The SQL files of a folder, by name."""
    files = resources.files("modeltrace_hub").joinpath(folder).iterdir()
    return {file.name.removesuffix(".sql"): file.read_text(encoding="utf-8") for file in files}


def pointer(key: str) -> str:
    """A JSON pointer (RFC 6901) to a key of the outermost object."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _record(names: Sequence[str], row: Sequence[Any]) -> Record:
    return {
        name: orjson.loads(value) if name in _JSON and value is not None else value
        for name, value in zip(names, row, strict=True)
    }
