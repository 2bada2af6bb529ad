"""Age and size limits: the oldest rows of all signals go first, by time of arrival.

Arrival, not the sender's clock: a sender whose clock is wrong loses nothing, and since rows lie in the order of arrival
whole row groups become empty, which is what DuckDB needs to use their blocks again. The file itself does not shrink.
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import duckdb

from modeltrace_hub.store import Store

TABLES: Final = ("spans", "logs", "metric_points", "exemplars")

# A size limit is enforced down to this share of it, so that it is not at work all the time.
TARGET: Final = 0.9

# DuckDB frees only whole row groups of 122,880 rows; of smaller tables the rows that stay are written anew.
REWRITE_ROWS: Final = 2 * 122_880

# Rows are deleted for their age at most this many times as fast as they grow old when they arrive evenly: those that
# arrived in a burst, or grew old while the hub did not run, are gone within a tenth of the age limit.
SPREAD: Final = 10
# This share of all rows may be deleted for their age at once; less than this slice is not worth a transaction.
SHARE: Final = 0.1
SLICE: Final = 0.01

_MOST_STEPS: Final = 10
_HOUR_NS: Final = 3600 * 10**9
_TIMES: Final = " UNION ALL ".join(f"SELECT received_ns FROM {table}" for table in TABLES)  # noqa: S608  fixed names

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is still there: rows received before `pruned_before_ns` are gone (None: nothing ever was deleted).

    `deleted` counts rows since the start, by table.
    """

    pruned_before_ns: int | None = None
    deleted: Mapping[str, int] = field(default_factory=dict)


class Retention:
    """Enforces the limits when the writer thread asks it to. Any thread may read `kept`.

    A clock that is set forward must not cost all rows, so the age limit does not trust it alone. Age counts from the
    clock, or from the newest row and the time that has passed since it was first seen if that is earlier. And rows are
    deleted no faster than `SPREAD` times as fast as they grow old, save for a first `SHARE` of them.
    """

    def __init__(
        self, store: Store, *, max_age: timedelta, max_size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._max_age_ns = int(max_age.total_seconds() * 1e9)
        self._max_size = max_size
        self._clock = clock
        self._lock = threading.Lock()
        pruned = store.meta("pruned_before_ns")
        self._kept = Kept(None if pruned is None else int(pruned))
        self._newest_ns = 0
        self._newest_seen = self._enforced = clock()
        # How many rows may be deleted because of their age, and of how many; as many as allowed at once, at first.
        self._budget = math.inf
        self._base = 0
        self._limited = self._behind = False

    @property
    def kept(self) -> Kept:
        """What is still there."""
        with self._lock:
            return self._kept

    def enforce(self, now_ns: int) -> int:
        """Delete what is over the limits; how many rows that was."""
        deleted = self._enforce_age(now_ns)
        for _ in range(_MOST_STEPS):
            live = self._store.size().live
            if live <= self._max_size:
                break
            cut = self._cut(1 - TARGET * self._max_size / live)
            if cut is None:
                break
            deleted += self._delete_before(cut + 1)
        return deleted

    def _enforce_age(self, now_ns: int) -> int:
        """Delete rows over the age limit, or a share of them when they are many; how many."""
        moment = self._clock()
        elapsed, self._enforced = moment - self._enforced, moment
        with self._store.read(seconds=60) as cursor:
            total, newest = cursor.execute(f"SELECT count(*), max(received_ns) FROM ({_TIMES})").fetchone() or (0, None)  # noqa: S608  fixed names
        if newest is None:
            return 0
        cut = self._now(now_ns, newest, moment, elapsed) - self._max_age_ns
        self._base = max(self._base, total) if self._limited else total
        aged = SPREAD * elapsed * 1e9 / self._max_age_ns
        self._budget = min(self._budget + aged * self._base, max(1.0, min(max(SHARE, aged), 1.0) * self._base))
        with self._store.read(seconds=60) as cursor:
            old = sum(_count(cursor, table, "<", cut) for table in TABLES)
        limited = old > self._budget
        if limited and not self._limited:
            logger.warning(
                "%s of %s rows are over the age limit at once: the clock was set forward, or the hub did not run for "
                "long. They are deleted a share at a time, within %.1f h. If the clock is wrong, set it right.",
                *(f"{old:,}", f"{total:,}", old / total * self._max_age_ns / SPREAD / 3.6e12),
            )
        self._limited = limited
        if limited:
            if self._budget < max(1.0, SLICE * self._base):
                return 0
            share = self._cut(min(self._budget / total, 1.0))
            cut = min(cut, cut if share is None else share + 1)
        deleted = self._delete_before(cut)
        self._budget -= deleted
        return deleted

    def _now(self, now_ns: int, newest_ns: int, moment: float, elapsed: float) -> int:
        """The time from which ages count; `elapsed` seconds have passed since the limits were enforced before."""
        if newest_ns != self._newest_ns:
            since = (now_ns - newest_ns) / 1e9
            # It has arrived since then: the clock is right if it says so, too.
            self._newest_ns, self._newest_seen = newest_ns, moment - (since if 0 <= since <= elapsed else 0.0)
        least = newest_ns + int((moment - self._newest_seen) * 1e9)
        behind = now_ns - least > max(self._max_age_ns, _HOUR_NS)
        if behind and not self._behind:
            logger.warning(
                "The newest row arrived %.1f h before the time of this machine's clock. The clock may be wrong, so "
                "ages count from that row.",
                (now_ns - least) / 3.6e12,
            )
        self._behind = behind
        return min(now_ns, least)

    def _cut(self, share: float) -> int | None:
        """The time of arrival by which `share` of all rows had arrived; None when there are no rows."""
        with self._store.read(seconds=60) as cursor:
            row = cursor.execute(f"SELECT quantile_disc(received_ns, ?) FROM ({_TIMES})", [share]).fetchone()  # noqa: S608  fixed names
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
            total = Counter(self._kept.deleted) + Counter(old)
            self._kept = Kept(cut, dict(total))
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
