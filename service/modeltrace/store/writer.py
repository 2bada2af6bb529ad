"""Write predictions to the store in the background, in batches, with a bounded queue and retries.

    enqueue ──► queue ──► thread ──► one transaction per COMMIT_INTERVAL ──► stored
                  │ full               │ locked, full, unavailable: retry with backoff
                  └──► lost            └ row rejected ──► lost

If the store is available, an enqueued row is committed within COMMIT_INTERVAL plus the duration of a transaction.
`on_outcome` counts each row exactly once.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from modeltrace.errors import StoreUnavailableError
from modeltrace.failure_log import FailureLog
from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.config import StoreConfig
from modeltrace.store.rows import PredictionSource, Row, RowBuilder

if TYPE_CHECKING:  # imported on the thread that needs it, see `_import_and_open`
    from modeltrace.store.store import Store

logger = logging.getLogger("modeltrace.store")

# Times are in seconds.
COMMIT_INTERVAL: Final = 0.1
# Sufficient for one minute at 1,000 rows per second, or for three batches of the default maximum size.
MAX_QUEUE_ROWS: Final = 65_536
MAX_TRANSACTION_ROWS: Final = 2048
MIN_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 5.0
RETENTION_INTERVAL: Final = 10.0
DAY_NS: Final = 86_400 * 10**9


class WriteOutcome(NamedTuple):
    """The final outcome of a number of rows; `error_type` is the reason for a loss."""

    outcome: Literal["stored", "lost"]
    rows: int
    error_type: str = ""


class PredictionWriter:
    """A thread that writes predictions from the constructor until `stop`.

    Args:
        config: the store.
        on_outcome: called for each outcome, in the writer's thread or in a caller's. It must not block or raise.
        on_open_attempted: called after the first attempt to open the store, whether or not it succeeded.
        open_store: opens the store; for tests.
        max_rows: the capacity of the queue.
        retention_interval: seconds between two runs of the retention.
    """

    def __init__(
        self,
        config: StoreConfig,
        *,
        on_outcome: Callable[[WriteOutcome], object],
        on_open_attempted: Callable[[], object] = lambda: None,
        open_store: "Callable[[str], Store] | None" = None,
        max_rows: int = MAX_QUEUE_ROWS,
        retention_interval: float = RETENTION_INTERVAL,
    ) -> None:
        self._on_open_attempted = on_open_attempted
        self._config = config
        self._row_builder = RowBuilder(config.code_version)
        self._on_outcome = on_outcome
        self._store_factory = open_store or _import_and_open
        self._max_rows = max_rows
        self._retention_interval = retention_interval
        self._store: Store | None = None
        self._age_limit = AgeLimit(int(config.retention_days * DAY_NS))
        self._changed = threading.Condition()
        self._queue: deque[PredictionSource] = deque()
        self._pending_rows = 0  # neither stored nor lost
        self._stopping = self._abandoned = False
        self._retention_at = time.monotonic() - retention_interval
        self._failures = FailureLog(logger, "no prediction is stored for now", "predictions are stored again")
        self._thread = threading.Thread(target=self._run, daemon=True, name="store-writer")
        self._thread.start()

    def enqueue(self, requests: Sequence[PredictionSource]) -> None:
        """Enqueue the predictions of requests without blocking.

        If the queue is not empty and a request does not fit, all predictions of the request are lost.
        """
        lost = 0
        with self._changed:
            for request in requests:
                rows = len(request.predictions)
                if self._abandoned or (self._pending_rows and self._pending_rows + rows > self._max_rows):
                    lost += rows
                elif rows:
                    self._pending_rows += rows
                    self._queue.append(request)
            self._changed.notify_all()
        if lost:
            self._on_outcome(WriteOutcome("lost", lost, "queue_full"))

    def stop(self) -> None:
        """Let the thread end after it has written the queue."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self, deadline: float) -> None:
        """Wait for the thread until the monotonic `deadline`; rows that are not stored by then are lost."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            lost, self._pending_rows, self._abandoned = self._pending_rows, 0, True
            self._queue.clear()
            self._changed.notify_all()
        if lost:
            self._on_outcome(WriteOutcome("lost", lost, "shutdown"))

    # The thread.

    def _run(self) -> None:
        with suppress(Exception):  # the service has opened the store at startup; `_write` logs a later error
            self._open_store()
        self._on_open_attempted()
        while (rows := self._next_rows()) is not None:
            started = time.monotonic()
            if rows:
                self._write(rows)
            self._enforce_retention()
            with self._changed:  # rows that arrive during this wait share the next transaction
                rest = started + COMMIT_INTERVAL - time.monotonic()
                self._changed.wait_for(
                    lambda: self._stopping or self._pending_rows >= MAX_TRANSACTION_ROWS, max(0.0, rest)
                )
        if self._store:
            self._store.close()

    def _next_rows(self) -> list[Row] | None:
        """Wait for rows, or until retention is due; return `None` after `stop`, once the queue is empty."""
        requests: list[PredictionSource] = []
        rows = 0
        with self._changed:
            timeout = self._retention_at + self._retention_interval - time.monotonic()
            self._changed.wait_for(lambda: self._queue or self._stopping, max(0.0, timeout))
            while self._queue and rows < MAX_TRANSACTION_ROWS:
                requests.append(self._queue.popleft())
                rows += len(requests[-1].predictions)
            if not requests and self._stopping:
                return None
        return [row for request in requests for row in self._to_rows(request)]

    def _open_store(self) -> "Store":
        if self._store is None:
            self._store = self._store_factory(self._config.url)
        return self._store

    def _to_rows(self, request: PredictionSource) -> list[Row]:
        try:
            return self._row_builder.build(request)
        except Exception as error:  # an invalid record must not end the thread
            logger.exception("a prediction cannot be converted to a row of the store")
            self._report_outcome("lost", len(request.predictions), type(error).__qualname__)
            return []

    def _write(self, rows: Sequence[Row]) -> None:
        """Write rows. Retry until the store accepts or rejects them, or until the deadline of `join`."""
        backoff = MIN_BACKOFF
        while not self._abandoned:
            try:
                self._open_store().add_predictions(rows)
            except StoreUnavailableError as error:
                self._failures.update(str(error))
            except Exception as error:  # noqa: BLE001  an open store rejects the rows, see `_bisect`
                if self._store:
                    self._bisect(rows, error)
                    return
                self._failures.update(str(error))  # the store could be opened at startup, so this may be temporary
            else:
                self._failures.update()
                self._report_outcome("stored", len(rows))
                return
            with self._changed:
                self._changed.wait_for(lambda: self._abandoned or self._stopping, backoff)
                if self._stopping:  # little time is left: retry at the shortest interval
                    self._changed.wait_for(lambda: self._abandoned, MIN_BACKOFF)
            backoff = min(2 * backoff, MAX_BACKOFF)

    def _bisect(self, rows: Sequence[Row], error: Exception) -> None:
        """Write each half of the rows separately, so that only the rejected rows are lost."""
        if len(rows) == 1:
            logger.error("the prediction store rejects a prediction: %s", error)
            self._report_outcome("lost", 1, type(error).__qualname__)
            return
        half = len(rows) // 2
        self._write(rows[:half])
        self._write(rows[half:])

    def _report_outcome(self, outcome: Literal["stored", "lost"], rows: int, error_type: str = "") -> None:
        with self._changed:
            if self._abandoned:  # `join` has counted these rows as lost
                return
            self._pending_rows -= rows
        self._on_outcome(WriteOutcome(outcome, rows, error_type))

    def _enforce_retention(self) -> None:
        """Delete a chunk of expired or surplus predictions if this is due. If more are left, it stays due."""
        if self._store is None or time.monotonic() < self._retention_at + self._retention_interval:
            return
        more = False
        try:
            if self._config.retention_days:
                more = self._store.delete_expired(self._age_limit, time.time_ns())[1]
            if self._config.max_bytes:
                more = self._store.shrink(self._config.max_bytes) > 0 or more
        except Exception as error:  # noqa: BLE001  the next run tries again
            self._failures.update(str(error))
        self._retention_at = 0.0 if more else time.monotonic()


def _import_and_open(url: str) -> "Store":
    # The import of SQLAlchemy takes a third of a second. In the writer's thread, it does not delay telemetry.
    from modeltrace.store.store import open_store  # noqa: PLC0415  see above

    return open_store(url)


def start_writer(
    config: StoreConfig | None,
    on_outcome: Callable[[WriteOutcome], object],
    on_open_attempted: Callable[[], object] = lambda: None,
) -> PredictionWriter | None:
    """Start a writer. Without a store, call `on_open_attempted` at once and return `None`."""
    if config is None:
        on_open_attempted()
        return None
    return PredictionWriter(config, on_outcome=on_outcome, on_open_attempted=on_open_attempted)
