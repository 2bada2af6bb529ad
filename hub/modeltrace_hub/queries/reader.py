"""Run the SQL queries of the pages and the API.

Values are always bound as parameters. Conditions are added to a query as fixed SQL texts, never as user input.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import duckdb
import orjson

from modeltrace_hub.queries.prediction_activity import PredictionActivity
from modeltrace_hub.sql_files import load_queries
from modeltrace_hub.store import Store

Record = dict[str, Any]

MAX_SERVICES: Final = 200
# The maximum time of a request's queries. Expensive requests delay no others, so they may take long on a busy machine.
QUERY_SECONDS: Final = 60.0


class Queries:
    """Load all SQL files once and open readers that run them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sql = load_queries()
        self._prediction_activity = PredictionActivity()

    @contextmanager
    def open_reader(self) -> Iterator["Reader"]:
        """Yield a reader whose queries all see the same snapshot of the database.

        Raises:
            QueryTimeoutError: the queries together took too long.
            ReadersBusyError: too many readers are open.
        """
        with self._store.read(QUERY_SECONDS) as cursor:
            yield Reader(cursor, self._sql, self._prediction_activity)


class Reader:
    """Run queries in one read transaction. A result is a list of dictionaries, keyed by column name."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, sql: Mapping[str, str], prediction_activity: PredictionActivity
    ) -> None:
        self.prediction_activity = prediction_activity
        self._cursor = cursor
        self._sql = sql

    def fetch_all(
        self,
        query: str,
        conditions: Sequence[str] = (),
        fragments: Mapping[str, str] = MappingProxyType({}),
        /,
        **values: object,
    ) -> list[Record]:
        """Run a query and return all rows.

        Args:
            query: name of the SQL file, without `.sql`.
            conditions: fixed SQL texts for the WHERE clause; their parameters are among `values`.
            fragments: fixed SQL texts for other names in braces.
            values: the parameters of the query.
        """
        sql = self._sql[query]
        if "{conditions}" in sql:
            sql = sql.replace("{conditions}", "".join(f" AND {condition}" for condition in conditions))
        for name, fragment in fragments.items():
            sql = sql.replace(f"{{{name}}}", fragment)
        for name in ("sources", "counted_service", "with_sums"):  # NULL selects all, and no sums
            if f"${name}" in sql:
                values.setdefault(name, None)
        cursor = self._cursor.execute(sql, values)
        # DuckDB returns JSON columns as text.
        columns = [(name, type_ == "JSON") for name, type_, *_ in cursor.description or ()]
        return [_to_record(columns, row) for row in cursor.fetchall()]

    def fetch_one(self, query: str, conditions: Sequence[str] = (), /, **values: object) -> Record:
        """Run a query that returns exactly one row."""
        (record,) = self.fetch_all(query, conditions, **values)
        return record

    def list_services(self) -> list[Record]:
        """Return the services whose telemetry is stored, with the number of their records."""
        return self.fetch_all("list_services", limit=MAX_SERVICES)

    def list_service_names(self) -> list[str]:
        """Return the names of the services whose telemetry is stored. This reads no records."""
        return [row["service_name"] for row in self.fetch_all("list_service_names", limit=MAX_SERVICES)]


def json_pointer(key: str) -> str:
    """Return the JSON pointer (RFC 6901) to a key of the outermost object."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _to_record(columns: Sequence[tuple[str, bool]], row: Sequence[Any]) -> Record:
    return {
        name: orjson.loads(value) if is_json and value is not None else value
        for (name, is_json), value in zip(columns, row, strict=True)
    }
