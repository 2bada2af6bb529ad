"""The one writer: a thread that takes batches from a bounded queue and commits many at a time.

A batch that arrives alone is committed at once; those that arrive during a commit share the next one. A batch's future
is done when its rows are committed, which is when senders are answered.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import duckdb

from modeltrace_hub.decode.batch import Batch
from modeltrace_hub.errors import (
    ClosingError,
    QueryTimeoutError,
    QueueFullError,
    ReadersBusyError,
    StoreError,
    UnstorableError,
    WriteFailedError,
)
from modeltrace_hub.ingest_stats import Counts
from modeltrace_hub.retention import Retention
from modeltrace_hub.store import Store

logger = logging.getLogger(__name__)

RETENTION_INTERVAL: Final = 10.0
MERGE_BYTES: Final = 32 * 2**20
ROWS_A_COMMIT: Final = 50_000
# The database holds a commit in memory until it is merged.
BYTES_A_COMMIT: Final = 128 * 2**20

# What DuckDB does not recover from by itself, and what the store says from then on.
_FATAL: Final = (duckdb.FatalException, duckdb.ConnectionException, duckdb.InternalException, StoreError)

# What DuckDB says of a value that no column of its type can hold.
_UNSTORABLE: Final = (duckdb.DataError, duckdb.InvalidInputException)


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: Batch
    future: "Future[None]"


class Writer:
    """Owns the store's writing side from `start` to `close`.

    `generation` grows by one with every commit, so that pages can tell cheaply whether there is anything new.
    """

    def __init__(
        self, store: Store, retention: Retention, *, max_rows: int = 200_000, max_bytes: int = 64 * 2**20
    ) -> None:
        self.counts = Counts()
        self.retention = retention
        self.generation = 0
        self.max_rows = max_rows
        self._max_bytes = max_bytes
        self._store = store
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._rows = 0
        self._bytes = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="hub-writer")

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, batch: Batch) -> "Future[None]":
        """Queue the rows of one request. Any thread may call this.

        The future's exception, if any, is a `WriteFailedError` or an `UnstorableError`.

        Raises:
            QueueFullError: as many rows or bytes wait as may.
            ClosingError: `close` has been called.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # a sender that hangs up does not take its rows back
        self.counts.received(batch)
        with self._changed:
            if self._closing:
                reason = "closing"
            elif self._rows + batch.rows > self.max_rows or self._bytes + batch.size > self._max_bytes:
                reason = "queue_full"
            else:
                self._rows += batch.rows
                self._bytes += batch.size
                self._queue.append(_Waiting(batch, future))
                self._changed.notify()
                return future
        self.counts.refused(batch, reason)
        if reason == "closing":
            raise ClosingError("The hub is about to stop.")
        raise QueueFullError("The hub has as much waiting to be written as it may. Send it again in a moment.")

    def close(self) -> None:
        """Write what is queued, merge the log and end the thread. May be called again."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                if not self._queue and not self._closing:
                    self._changed.wait(max(0.0, due - time.monotonic()))
                group = self._take()
                closing = self._closing
            if group:
                self._commit(group)
                self._release(group)
            if time.monotonic() >= due:
                self._keep_house()
                due = time.monotonic() + RETENTION_INTERVAL
            if closing and not group:
                break
        self._merge()

    def _take(self) -> list[_Waiting]:
        """What goes into the next commit; still counted as waiting until it is over."""
        group: list[_Waiting] = []
        rows = expanded = 0
        while self._queue:
            batch = self._queue[0].batch
            rows += batch.rows
            expanded += batch.expanded
            if group and (rows > ROWS_A_COMMIT or expanded > BYTES_A_COMMIT):
                break
            group.append(self._queue.popleft())
        return group

    def _release(self, group: Sequence[_Waiting]) -> None:
        with self._changed:
            self._rows -= sum(waiting.batch.rows for waiting in group)
            self._bytes -= sum(waiting.batch.size for waiting in group)

    def _commit(self, group: Sequence[_Waiting]) -> None:
        """Write a group in one transaction and tell its senders."""
        try:
            with self._store.write() as connection:
                _append(connection, [waiting.batch for waiting in group])
        except (duckdb.DataError, duckdb.ProgrammingError) as error:
            # The rows' fault. Only those that are at fault shall bear it.
            if len(group) > 1:
                for waiting in group:
                    self._commit([waiting])
            elif isinstance(error, _UNSTORABLE):
                self._fail(group, error, "unstorable", UnstorableError)
            else:
                self._fail(group, error, "write_failed", WriteFailedError)
        except (duckdb.Error, StoreError, OSError) as error:
            self._fail(group, error, "write_failed", WriteFailedError)
            self._recover(error)
        else:
            self.generation += 1
            now = time.time_ns()
            for waiting in group:
                self.counts.stored(waiting.batch, now)
                waiting.future.set_result(None)
            if self._store.log_bytes() > MERGE_BYTES:
                self._merge()

    def _fail(
        self,
        group: Sequence[_Waiting],
        error: Exception,
        reason: str,
        answer: type[UnstorableError] | type[WriteFailedError],
    ) -> None:
        """Answer the senders of a group that is not stored."""
        logger.error("%d requests could not be written: %s", len(group), _first_line(error))
        advice = "send it again" if answer is WriteFailedError else "it would fail again"
        for waiting in group:
            self.counts.refused(waiting.batch, reason)
            waiting.future.set_exception(
                answer(f"The hub could not write this to its database. Nothing of it was kept; {advice}.")
            )

    def _keep_house(self) -> None:
        """Enforce the limits; a failure is logged and tried again the next time."""
        try:
            deleted = self.retention.enforce(time.time_ns())
        except (duckdb.Error, StoreError, OSError) as error:
            logger.warning("The limits of age and size could not be enforced: %s", _first_line(error))
            self._recover(error)
            return
        if deleted:
            self.generation += 1
            logger.info("%d rows over the limits of age and size were deleted", deleted)

    def _merge(self) -> None:
        """Merge the log into the file; what fails here is still in the log."""
        try:
            self._store.checkpoint()
        except (duckdb.Error, StoreError) as error:
            logger.warning("The write-ahead log could not be merged: %s", _first_line(error))
            self._recover(error)

    def _recover(self, error: Exception) -> None:
        """After an error that DuckDB calls fatal the file has to be opened anew; if that fails, again the next time."""
        if isinstance(error, QueryTimeoutError | ReadersBusyError) or not isinstance(error, _FATAL):
            return
        try:
            self._store.reopen()
        except StoreError as failure:
            logger.critical("%s", failure)


def _append(connection: duckdb.DuckDBPyConnection, batches: Sequence[Batch]) -> None:
    """Append the rows of all batches, table by table."""
    for table in sorted({table for batch in batches for table in batch.tables}):
        with connection.appender(table) as appender:
            for batch in batches:
                appender.append_rows(batch.tables.get(table, ()))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
