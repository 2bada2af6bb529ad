"""Write batches in one thread. One commit can contain many batches.

Batches wait in a bounded queue. If the writer is idle, it commits a new batch at once. Batches that arrive during a
commit are written together by the next commit. The hub answers the sender after the rows are committed.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import duckdb

from modeltrace_hub.decode.batch import SHARED_TABLES, Batch, Row
from modeltrace_hub.error_status import error_status
from modeltrace_hub.errors import (
    HubError,
    QueryTimeoutError,
    QueueFullError,
    ReadersBusyError,
    RetryableError,
    ShuttingDownError,
    StoreError,
    UnstorableError,
    WriteFailedError,
)
from modeltrace_hub.ingest_stats import IngestStats
from modeltrace_hub.retention import Retention
from modeltrace_hub.store import Store
from modeltrace_hub.trace_id_filter import TraceIdFilter
from modeltrace_hub.trace_summaries import update_trace_summaries

logger = logging.getLogger(__name__)

RETENTION_INTERVAL_SECONDS: Final = 10.0
CHECKPOINT_WAL_BYTES: Final = 32 * 2**20
MAX_ROWS_PER_COMMIT: Final = 50_000
# DuckDB keeps committed rows in memory until the next checkpoint.
MAX_BYTES_PER_COMMIT: Final = 128 * 2**20
# The writer looks up a resource or scope in the database unless it remembers that it is stored.
MAX_STORED_IDS: Final = 10_000

# After these errors, the database must be opened again.
_FATAL_ERRORS: Final = (duckdb.FatalException, duckdb.ConnectionException, duckdb.InternalException, StoreError)

# DuckDB raises these errors for a value that a column cannot store.
_DATA_ERRORS: Final = (duckdb.DataError, duckdb.InvalidInputException)

_WRITE_FAILED: Final = "The hub could not write to its database. Nothing was stored; send the request again."


@dataclass(frozen=True, slots=True)
class _QueuedBatch:
    batch: Batch
    future: "Future[None]"


class Writer:
    """Write to the store from `start` to `close`.

    `generation` increases when rows are written or deleted. A page compares it to check whether it is up to date.
    """

    def __init__(
        self, store: Store, retention: Retention, *, max_rows: int = 200_000, max_bytes: int = 64 * 2**20
    ) -> None:
        self.stats = IngestStats()
        self.retention = retention
        self.generation = 0
        self.max_rows = max_rows
        self._max_bytes = max_bytes
        self._store = store
        self._changed = threading.Condition()
        self._queue: deque[_QueuedBatch] = deque()
        self._stored_ids: set[str] = set()  # some of the resources and scopes that are stored
        self._known_traces = TraceIdFilter()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="hub-writer")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, batch: Batch) -> "Future[None]":
        """Queue the rows of a request. Thread-safe.

        Returns:
            A future that is done when the rows are committed. Its exception is a `WriteFailedError` or an
            `UnstorableError`.

        Raises:
            QueueFullError: the queue has no space for the rows.
            ShuttingDownError: `close` has been called.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # forbid to cancel: the rows are written even if the sender disconnects
        self.stats.record_received(batch)
        error: RetryableError
        with self._changed:
            if self._closing:
                error = ShuttingDownError("The hub is shutting down.")
            elif not self._fits(batch):
                error = QueueFullError("The write queue of the hub is full. Send the request again in a moment.")
            else:
                self._queued_rows += batch.row_count
                self._queued_bytes += batch.request_bytes
                self._queue.append(_QueuedBatch(batch, future))
                self._changed.notify()
                return future
        self.stats.record_refused(batch, error_status(error).type)
        raise error

    @property
    def queued_rows(self) -> int:
        """The number of rows in the write queue."""
        return self._queued_rows

    def _fits(self, batch: Batch) -> bool:
        return (
            self._queued_rows + batch.row_count <= self.max_rows
            and self._queued_bytes + batch.request_bytes <= self._max_bytes
        )

    def close(self) -> None:
        """Write the queue, make a checkpoint and stop the thread. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        next_retention = time.monotonic()
        while True:
            with self._changed:
                if not self._queue and not self._closing:
                    self._changed.wait(max(0.0, next_retention - time.monotonic()))
                group = self._next_group()
                closing = self._closing
            if group:
                self._commit(group)
                self._release(group)
            if time.monotonic() >= next_retention:
                self._enforce_retention()
                next_retention = time.monotonic() + RETENTION_INTERVAL_SECONDS
            if closing and not group:
                break
        self._checkpoint()

    def _next_group(self) -> list[_QueuedBatch]:
        """Remove the batches of the next commit from the queue. Their size counts as queued until `_release`."""
        group: list[_QueuedBatch] = []
        rows = expanded = 0
        while self._queue:
            batch = self._queue[0].batch
            rows += batch.row_count
            expanded += batch.row_bytes
            if group and (rows > MAX_ROWS_PER_COMMIT or expanded > MAX_BYTES_PER_COMMIT):
                break
            group.append(self._queue.popleft())
        return group

    def _release(self, group: Sequence[_QueuedBatch]) -> None:
        with self._changed:
            self._queued_rows -= sum(queued.batch.row_count for queued in group)
            self._queued_bytes -= sum(queued.batch.request_bytes for queued in group)

    def _commit(self, group: Sequence[_QueuedBatch]) -> None:
        """Write a group in one transaction and complete its futures."""
        try:
            with self._store.write() as connection:
                batches = [queued.batch for queued in group]
                looked_up = append_batches(connection, batches, self._stored_ids, self._known_traces)
        except (duckdb.DataError, duckdb.ProgrammingError) as error:
            # Some rows are invalid. Commit each request alone, so that only the invalid ones fail.
            if len(group) > 1:
                for queued in group:
                    self._commit([queued])
            elif isinstance(error, _DATA_ERRORS):
                self._fail(
                    group, error, UnstorableError, "The database cannot store these rows. Do not send them again."
                )
            else:
                self._fail(group, error, WriteFailedError, _WRITE_FAILED)
        except (duckdb.Error, StoreError, OSError) as error:
            self._fail(group, error, WriteFailedError, _WRITE_FAILED)
            self._reopen_if_fatal(error)
        else:
            if len(self._stored_ids) > MAX_STORED_IDS:
                self._stored_ids.clear()
            self._stored_ids |= looked_up
            self.generation += 1
            now = time.time_ns()
            for queued in group:
                self.stats.record_stored(queued.batch, now)
                queued.future.set_result(None)
            if self._store.wal_bytes() > CHECKPOINT_WAL_BYTES:
                self._checkpoint()

    def _fail(self, group: Sequence[_QueuedBatch], cause: Exception, error_type: type[HubError], message: str) -> None:
        """Complete the futures of a group with an error."""
        logger.error("%d requests could not be written: %s", len(group), _first_line(cause))
        for queued in group:
            error = error_type(message)
            self.stats.record_refused(queued.batch, error_status(error).type)
            queued.future.set_exception(error)

    def _enforce_retention(self) -> None:
        """Enforce the age and size limits. On failure, log it; the next interval tries again."""
        self._stored_ids.clear()  # resources may be deleted, even if there is an error afterwards
        try:
            deleted = self.retention.enforce(time.time_ns())
        except (duckdb.Error, StoreError, OSError) as error:
            logger.warning("The age and size limits could not be enforced: %s", _first_line(error))
            self._reopen_if_fatal(error)
            return
        if deleted:
            self.generation += 1
            logger.info("%d rows over the age or size limit were deleted", deleted)

    def _checkpoint(self) -> None:
        """Merge the write-ahead log into the file. If that fails, the rows are still in the log."""
        try:
            self._store.checkpoint()
        except (duckdb.Error, StoreError) as error:
            logger.warning("The write-ahead log could not be merged: %s", _first_line(error))
            self._reopen_if_fatal(error)

    def _reopen_if_fatal(self, error: Exception) -> None:
        """Open the file again after a fatal error of DuckDB. If that fails, the next fatal error tries again."""
        if isinstance(error, QueryTimeoutError | ReadersBusyError) or not isinstance(error, _FATAL_ERRORS):
            return
        try:
            self._store.reopen()
        except StoreError as reopen_error:
            logger.critical("%s", reopen_error)


def append_batches(
    connection: duckdb.DuckDBPyConnection,
    batches: Sequence[Batch],
    stored_ids: AbstractSet[str] = frozenset(),
    known_traces: TraceIdFilter | None = None,
) -> set[str]:
    """Append the rows of all batches to their tables, and those resources and scopes that are not stored yet.

    Also update the rows of `traces`.

    Args:
        connection: a connection in a transaction.
        batches: the rows.
        stored_ids: IDs of resources and scopes that are known to be stored. The others are looked up.
        known_traces: the stored traces; None: each trace is looked up.

    Returns:
        The IDs of resources and scopes that were looked up. They are stored when the transaction is committed.
    """
    looked_up: set[str] = set()
    for table in sorted({table for batch in batches for table in batch.tables}):
        groups: list[Sequence[Row]] = [batch.tables.get(table, ()) for batch in batches]
        if table in SHARED_TABLES:
            rows = {row[0]: row for rows in groups for row in rows if row[0] not in stored_ids}
            looked_up |= rows.keys()
            groups = [_select_new(connection, table, rows)] if rows else []
        if any(groups):
            with connection.appender(table) as appender:
                for group in groups:
                    appender.append_rows(group)
    if known_traces is not None:
        known_traces.load(connection)
    update_trace_summaries(connection, batches, known_traces or TraceIdFilter())
    return looked_up


def _select_new(connection: duckdb.DuckDBPyConnection, table: str, rows: Mapping[str, Row]) -> Sequence[Row]:
    """Return the rows, given by ID, whose ID is not in the table."""
    column = SHARED_TABLES[table]
    found = connection.execute(f"SELECT {column} FROM {table} WHERE {column} IN (SELECT unnest(?))", [list(rows)])  # noqa: S608  fixed names
    known = {row_id for (row_id,) in found.fetchall()}
    return [row for row_id, row in rows.items() if row_id not in known]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
