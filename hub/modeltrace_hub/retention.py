"""Delete the oldest rows of all tables when the age or size limit is exceeded, and unused resources and scopes.

The age of a row is the time since its arrival at the hub. The sender's clock is not used, so a sender with a wrong
clock loses no data. Rows are stored in the order of arrival. Deleting the oldest rows therefore empties whole row
groups, and DuckDB can reuse their blocks. The file itself does not shrink.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import duckdb

from modeltrace_hub.decode.batch import SHARED_TABLES
from modeltrace_hub.store import Store
from modeltrace_hub.trace_summaries import delete_trace_summaries

TABLES: Final = ("spans", "logs", "metric_points", "exemplars")

# When the size limit is exceeded, rows are deleted until the size is this share of the limit. Deletions are then rare.
SIZE_TARGET_SHARE: Final = 0.9

# DuckDB frees only whole row groups of 122,880 rows. If at most this many rows of a table remain, they are rewritten.
MAX_REWRITE_ROWS: Final = 2 * 122_880

# Maximum rate of deletions by age, as a multiple of (all rows / age limit). The hub needs a tenth of the age limit to
# delete all rows at this rate, for example after a long time in which it did not run.
MAX_AGE_RATE: Final = 10
# Maximum share of all rows that is deleted by age at once.
MAX_DELETE_SHARE: Final = 0.1
# Deletions by age wait until this share of all rows may be deleted, because each transaction has a fixed cost.
MIN_DELETE_SHARE: Final = 0.01

_MAX_SIZE_PASSES: Final = 10
_HOUR_NS: Final = 3600 * 10**9
_ARRIVAL_TIMES: Final = " UNION ALL ".join(f"SELECT received_ns FROM {table}" for table in TABLES)  # noqa: S608  fixed names

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionState:
    """The deletions so far."""

    deleted_before_ns: int | None = None  # rows that arrived earlier are deleted; None if no row was ever deleted
    deleted_rows: Mapping[str, int] = field(default_factory=dict)  # number of rows deleted since the start, by table


class Retention:
    """Enforce the limits `max_age` and `max_size` of the hub's settings. The writer thread calls `enforce`.

    `state` has the deletions so far. Any thread may read it, because it is replaced as a whole.

    The age limit does not trust the clock alone, because setting the clock forward must not delete all rows. Ages are
    computed relative to the earlier of two times: the clock, and the arrival of the newest row plus the time that has
    passed since then. At first, at most `MAX_DELETE_SHARE` of all rows are deleted by age; `MAX_AGE_RATE` limits the
    rate of later deletions.
    """

    def __init__(
        self, store: Store, *, max_age: timedelta, max_size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._max_age_ns = int(max_age.total_seconds() * 1e9)
        self._max_size = max_size
        self._clock = clock
        pruned = store.read_meta("pruned_before_ns")
        self.state = RetentionState(None if pruned is None else int(pruned))
        self._newest_ns = 0
        self._newest_seen = self._enforced = clock()
        # The number of rows that may be deleted by age now. The first call limits it to `MAX_DELETE_SHARE` of all rows.
        self._deletable_rows = math.inf
        # The number of rows from which the rate of deletions is computed.
        self._base_rows = 0
        self._limited = self._clock_ahead = False

    def enforce(self, now_ns: int) -> int:
        """Delete the rows that exceed the limits; return their number."""
        deleted = self._enforce_age(now_ns)
        for _ in range(_MAX_SIZE_PASSES):
            live = self._store.size().live
            if live <= self._max_size:
                break
            cutoff = self._arrival_quantile(1 - SIZE_TARGET_SHARE * self._max_size / live)
            if cutoff is None:
                break
            deleted += self._delete_before(cutoff + 1)
        return deleted

    def _enforce_age(self, now_ns: int) -> int:
        """Delete the rows that exceed the age limit, or a part of them if there are many; return the number deleted."""
        clock = self._clock()
        elapsed, self._enforced = clock - self._enforced, clock
        with self._store.read(timeout=60) as cursor:
            row = cursor.execute(f"SELECT count(*), max(received_ns) FROM ({_ARRIVAL_TIMES})").fetchone()  # noqa: S608  fixed names
        total, newest = row or (0, None)
        if newest is None:
            return 0
        cutoff = self._reference_time(now_ns, newest, clock, elapsed) - self._max_age_ns
        self._base_rows = max(self._base_rows, total) if self._limited else total
        rate_share = MAX_AGE_RATE * elapsed * 1e9 / self._max_age_ns
        max_deletable = max(1.0, min(max(MAX_DELETE_SHARE, rate_share), 1.0) * self._base_rows)
        self._deletable_rows = min(self._deletable_rows + rate_share * self._base_rows, max_deletable)
        with self._store.read(timeout=60) as cursor:
            expired = sum(_count(cursor, table, "<", cutoff) for table in TABLES)
        limited = expired > self._deletable_rows
        if limited and not self._limited:
            logger.warning(
                "%s of %s rows exceeded the age limit at the same time: the clock was set forward, or the hub did not "
                "run for long. They are deleted in parts within %.1f h. If the clock is wrong, correct it.",
                *(f"{expired:,}", f"{total:,}", expired / total * self._max_age_ns / MAX_AGE_RATE / 3.6e12),
            )
        self._limited = limited
        if limited:
            if self._deletable_rows < max(1.0, MIN_DELETE_SHARE * self._base_rows):
                return 0
            quantile = self._arrival_quantile(min(self._deletable_rows / total, 1.0))
            cutoff = min(cutoff, cutoff if quantile is None else quantile + 1)
        deleted = self._delete_before(cutoff)
        self._deletable_rows -= deleted
        return deleted

    def _reference_time(self, now_ns: int, newest_ns: int, clock: float, elapsed: float) -> int:
        """Return the time that ages are computed relative to.

        Args:
            now_ns: wall-clock time.
            newest_ns: arrival of the newest row.
            clock: monotonic time in seconds.
            elapsed: seconds since the limits were last enforced.
        """
        if newest_ns != self._newest_ns:
            age = (now_ns - newest_ns) / 1e9
            # The row arrived after the previous call. Trust its age only if it is not longer than the time since then.
            self._newest_ns, self._newest_seen = newest_ns, clock - (age if 0 <= age <= elapsed else 0.0)
        earliest = newest_ns + int((clock - self._newest_seen) * 1e9)
        clock_ahead = now_ns - earliest > max(self._max_age_ns, _HOUR_NS)
        if clock_ahead and not self._clock_ahead:
            logger.warning(
                "The newest row arrived %.1f h before the time of this machine's clock. The clock may be wrong, so "
                "ages are counted from the arrival of that row.",
                (now_ns - earliest) / 3.6e12,
            )
        self._clock_ahead = clock_ahead
        return min(now_ns, earliest)

    def _arrival_quantile(self, share: float) -> int | None:
        """Return the time by which `share` of all rows had arrived; None if there are no rows."""
        with self._store.read(timeout=60) as cursor:
            row = cursor.execute(f"SELECT quantile_disc(received_ns, ?) FROM ({_ARRIVAL_TIMES})", [share]).fetchone()  # noqa: S608  fixed names
        return None if row is None or row[0] is None else int(row[0])

    def _delete_before(self, cutoff: int) -> int:
        """Delete the rows that arrived before `cutoff` in one transaction, then free their blocks."""
        with self._store.read(timeout=60) as cursor:
            expired = {table: _count(cursor, table, "<", cutoff) for table in TABLES}
            remaining = {table: _count(cursor, table, ">=", cutoff) for table in TABLES}
        if not any(expired.values()):
            return 0
        with self._store.write() as connection:
            for table in TABLES:
                if expired[table]:
                    rewrite = 0 < remaining[table] <= MAX_REWRITE_ROWS
                    _delete(connection, table, f"received_ns >= {cutoff:d}", rewrite=rewrite)
            delete_trace_summaries(connection, cutoff)
            for table, column in SHARED_TABLES.items():
                _delete_unused(connection, table, column)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('pruned_before_ns', ?)", [str(cutoff)])
        self._store.checkpoint()
        self.state = RetentionState(cutoff, Counter(self.state.deleted_rows) + Counter(expired))
        return sum(expired.values())


def _count(cursor: duckdb.DuckDBPyConnection, table: str, operator: str, cutoff: int) -> int:
    row = cursor.execute(f"SELECT count(*) FROM {table} WHERE received_ns {operator} ?", [cutoff]).fetchone()  # noqa: S608  fixed names
    return int(row[0]) if row else 0


def _delete_unused(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> None:
    """Delete the resources or scopes that no record refers to."""
    used = " UNION ".join(f"SELECT {column} FROM {records}" for records in TABLES if records != "exemplars")  # noqa: S608  fixed names
    kept = f"{column} IN ({used})"
    row = connection.execute(f"SELECT count(*) FROM {table} WHERE NOT ({kept})").fetchone()  # noqa: S608  fixed names
    if row and row[0]:
        _delete(connection, table, kept, rewrite=True)


def _delete(connection: duckdb.DuckDBPyConnection, table: str, kept: str, *, rewrite: bool) -> None:
    """Delete the rows of a table that do not meet the condition `kept`; with `rewrite`, write the others again."""
    if not rewrite:
        connection.execute(f"DELETE FROM {table} WHERE NOT ({kept})")  # noqa: S608  fixed names
        return
    connection.execute(f"CREATE TEMP TABLE remaining AS FROM {table} WHERE {kept}")
    connection.execute(f"DELETE FROM {table}")  # noqa: S608  fixed names
    connection.execute(f"INSERT INTO {table} FROM remaining")
    connection.execute("DROP TABLE remaining")
