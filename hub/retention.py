"""Age and size limits: the oldest rows of all signals go first, by time of arrival.

Arrival, not the sender's clock: a sender whose clock is wrong loses nothing, and since rows lie in the order of arrival
whole row groups become empty, which is what DuckDB needs to use their blocks again. The file itself does not shrink.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import duckdb

from hub.store import Store

TABLES: Final = ("spans", "logs", "metric_points", "exemplars")

# A size limit is enforced down to this share of it, so that it is not at work all the time.
TARGET: Final = 0.9

# DuckDB frees only whole row groups of 122,880 rows; of smaller tables the rows that stay are written anew.
REWRITE_ROWS: Final = 2 * 122_880

_MOST_STEPS: Final = 10


@dataclass(frozen=True, slots=True)
class Kept:
    """What is still there: rows received before `pruned_before_ns` are gone (None: nothing ever was deleted).

    `deleted` counts rows since the start, by table.
    """

    pruned_before_ns: int | None = None
    deleted: Counter[str] = field(default_factory=Counter)


class Retention:
    """Enforces the limits when the writer thread asks it to. Any thread may read `kept`."""

    def __init__(self, store: Store, *, max_age: timedelta, max_size: int) -> None:
        self._store = store
        self._max_age_ns = int(max_age.total_seconds() * 1e9)
        self._max_size = max_size
        self._lock = threading.Lock()
        pruned = store.meta("pruned_before_ns")
        self._kept = Kept(None if pruned is None else int(pruned))

    @property
    def kept(self) -> Kept:
        """What is still there."""
        with self._lock:
            return self._kept

    def enforce(self, now_ns: int) -> int:
        """Delete what is over the limits; how many rows that was."""
        deleted = self._delete_before(now_ns - self._max_age_ns)
        for _ in range(_MOST_STEPS):
            live = self._store.size().live
            if live <= self._max_size:
                break
            cut = self._cut(1 - TARGET * self._max_size / live)
            if cut is None:
                break
            deleted += self._delete_before(cut + 1)
        return deleted

    def _cut(self, share: float) -> int | None:
        """The time of arrival by which `share` of all rows had arrived; None when there are no rows."""
        times = " UNION ALL ".join(f"SELECT received_ns FROM {table}" for table in TABLES)  # noqa: S608  fixed names
        with self._store.read(seconds=60) as cursor:
            row = cursor.execute(f"SELECT quantile_disc(received_ns, ?) FROM ({times})", [share]).fetchone()  # noqa: S608  fixed names
        return None if row is None or row[0] is None else int(row[0])

    def _delete_before(self, cut: int) -> int:
        """Delete rows received before `cut` in one transaction, then free their blocks."""
        with self._store.read(seconds=60) as cursor:
            old = {table: _count(cursor, table, "<", cut) for table in TABLES}
            young = {table: _count(cursor, table, ">=", cut) for table in TABLES}
        if not any(old.values()):
            return 0
        with self._store.write() as connection:
            for table in TABLES:
                if old[table]:
                    _delete(connection, table, cut, rewrite=0 < young[table] <= REWRITE_ROWS)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('pruned_before_ns', ?)", [str(cut)])
        self._store.checkpoint()
        with self._lock:
            self._kept = Kept(cut, self._kept.deleted + Counter(old))
        return sum(old.values())


def _count(cursor: duckdb.DuckDBPyConnection, table: str, operator: str, cut: int) -> int:
    row = cursor.execute(f"SELECT count(*) FROM {table} WHERE received_ns {operator} ?", [cut]).fetchone()  # noqa: S608  fixed names
    return int(row[0]) if row else 0


def _delete(connection: duckdb.DuckDBPyConnection, table: str, cut: int, *, rewrite: bool) -> None:
    """Delete the rows of one table received before `cut`."""
    if not rewrite:
        connection.execute(f"DELETE FROM {table} WHERE received_ns < ?", [cut])  # noqa: S608  fixed names
        return
    connection.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table} WHERE received_ns >= ?", [cut])  # noqa: S608  fixed names
    connection.execute(f"DELETE FROM {table}")  # noqa: S608  fixed names
    connection.execute(f"INSERT INTO {table} SELECT * FROM kept")  # noqa: S608  fixed names
    connection.execute("DROP TABLE kept")
