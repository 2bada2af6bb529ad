"""Writes predictions to the store, in the background: bounded, in groups, and again until the store has them.

    put ──► queue ──► thread ──► one transaction, at most every 100 ms ──► stored
              │ full               │ locked, full, away: again, and again
              └──► lost            └ a row that it refuses for good ──► lost

A row that is put is committed within 100 ms, and what a transaction takes. `report` hears of every row, once.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal, NamedTuple, Protocol

from modeltrace.errors import StoreUnavailableError
from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.config import StoreConfig
from modeltrace.store.rows import PredictionSource, Row, RowBuilder

logger = logging.getLogger("modeltrace.store")

COMMIT_INTERVAL: Final = 0.1
# A minute's rows at 1,000 a second, or three batches of the largest size allowed by default.
MAX_QUEUE_ROWS: Final = 65_536
MAX_TRANSACTION_ROWS: Final = 2048  # rows of a transaction
MIN_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 5.0
RETENTION_INTERVAL: Final = 10.0
DAY_NS: Final = 86_400 * 10**9


class WriteOutcome(NamedTuple):
    """What became of rows."""

    outcome: Literal["stored", "lost"]
    rows: int
    error_type: str = ""


class Open(Protocol):
    """What the writer needs of a `modeltrace.store.store.Store`."""

    def add_predictions(self, rows: Sequence[Row]) -> None:
        """Add rows that may be there already."""

    def delete_expired(self, limit: AgeLimit, now: int) -> tuple[int, bool]:
        """Delete some that are too old; how many, and whether more may be deleted at once."""

    def shrink(self, limit: int) -> int:
        """Delete some while there are more bytes than that; how many."""

    def close(self) -> None:
        """Close it."""


class PredictionWriter:
    """Writes from its start until its `end`."""

    def __init__(
        self,
        config: StoreConfig,
        *,
        on_outcome: Callable[[WriteOutcome], object],
        on_open_attempted: Callable[[], object] = lambda: None,
        open_store: Callable[[str], Open] | None = None,
        max_rows: int = MAX_QUEUE_ROWS,
        retention_interval: float = RETENTION_INTERVAL,
    ) -> None:
        """`report` is called by the writer's thread, and by that of `put`; it must neither block nor raise.

        `tried` is called once the store is open, or has been tried to open in vain for the first time.
        """
        self._on_open_attempted = on_open_attempted
        self._config = config
        self._row_builder = RowBuilder(config.code_version)
        self._on_outcome = on_outcome
        self._store_factory = open_store or _import_and_open
        self._max_rows = max_rows
        self._retention_interval = retention_interval
        self._store: Open | None = None
        self._age_limit = AgeLimit(int(config.retention_days * DAY_NS))
        self._changed = threading.Condition()
        self._queue: deque[PredictionSource] = deque()
        self._pending_rows = 0  # that are neither stored nor lost
        self._stopping = self._abandoned = False
        self._retention_at = time.monotonic() - retention_interval
        self._said = ""
        self._thread = threading.Thread(target=self._run, daemon=True, name="store-writer")
        self._thread.start()

    def enqueue(self, requests: Sequence[PredictionSource]) -> None:
        """Take what was answered. Never waits: a request that finds no room is lost and counted."""
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
        """Take no more: the thread ends once the store has what waits."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self, deadline: float) -> None:
        """Wait for that until the monotonic `deadline`; what the store has not taken by then is lost."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            left, self._pending_rows, self._abandoned = self._pending_rows, 0, True
            self._queue.clear()
            self._changed.notify_all()
        if left:
            self._on_outcome(WriteOutcome("lost", left, "shutdown"))

    # The thread.

    def _run(self) -> None:
        with suppress(Exception):  # it was there at the start of the service; else `_write` says what is wrong
            self._open_store()
        self._on_open_attempted()
        while (rows := self._next_rows()) is not None:
            begun = time.monotonic()
            if rows:
                self._write(rows)
            self._enforce_retention()
            with self._changed:  # what comes in the meantime shares the next transaction
                rest = begun + COMMIT_INTERVAL - time.monotonic()
                self._changed.wait_for(
                    lambda: self._stopping or self._pending_rows >= MAX_TRANSACTION_ROWS, max(0.0, rest)
                )
        if self._store:
            self._store.close()

    def _next_rows(self) -> list[Row] | None:
        """Wait for rows, or until it is time to tidy; `None` when there will be no more."""
        requests: list[PredictionSource] = []
        rows = 0
        with self._changed:
            patience = self._retention_at + self._retention_interval - time.monotonic()
            self._changed.wait_for(lambda: self._queue or self._stopping, max(0.0, patience))
            while self._queue and rows < MAX_TRANSACTION_ROWS:
                requests.append(self._queue.popleft())
                rows += len(requests[-1].predictions)
            if not requests and self._stopping:
                return None
        return [row for request in requests for row in self._to_rows(request)]

    def _open_store(self) -> Open:
        if self._store is None:
            self._store = self._store_factory(self._config.url)
        return self._store

    def _to_rows(self, request: PredictionSource) -> list[Row]:
        try:
            return self._row_builder.build(request)
        except Exception as error:  # a record that nobody foresaw must not end the thread
            logger.exception("a prediction could not be made a row")
            self._report_outcome("lost", len(request.predictions), type(error).__qualname__)
            return []

    def _write(self, rows: Sequence[Row]) -> None:
        """Write them, however often it takes."""
        pause = MIN_BACKOFF
        while not self._abandoned:
            try:
                self._open_store().add_predictions(rows)
            except StoreUnavailableError as error:
                self._say(str(error))
            except Exception as error:  # noqa: BLE001  what it is about is found out below
                if self._store:
                    self._bisect(rows, error)
                    return
                self._say(str(error))  # it could be opened at the start of the service, so it may come back
            else:
                self._say("")
                self._report_outcome("stored", len(rows))
                return
            with self._changed:
                self._changed.wait_for(lambda: self._abandoned or self._stopping, pause)
                if self._stopping:  # there is not much time left
                    self._changed.wait_for(lambda: self._abandoned, MIN_BACKOFF)
            pause = min(2 * pause, MAX_BACKOFF)

    def _bisect(self, rows: Sequence[Row], error: Exception) -> None:
        """All but the rows that it is about are written."""
        if len(rows) == 1:
            logger.error("the prediction store refuses a prediction for good: %s", error)
            self._report_outcome("lost", 1, type(error).__qualname__)
            return
        half = len(rows) // 2
        self._write(rows[:half])
        self._write(rows[half:])

    def _report_outcome(self, kind: Literal["stored", "lost"], rows: int, error_type: str = "") -> None:
        with self._changed:
            if self._abandoned:  # and counted as lost
                return
            self._pending_rows -= rows
        self._on_outcome(WriteOutcome(kind, rows, error_type))

    def _enforce_retention(self) -> None:
        """Delete a little of what is too old or too much, now and then; again at once while there is more of it."""
        if self._store is None or time.monotonic() < self._retention_at + self._retention_interval:
            return
        more = False
        try:
            if self._config.retention_days:
                more = self._store.delete_expired(self._age_limit, time.time_ns())[1]
            if self._config.max_bytes:
                more = self._store.shrink(self._config.max_bytes) > 0 or more
        except Exception as error:  # noqa: BLE001  it is tried again
            self._say(str(error))
        self._retention_at = 0.0 if more else time.monotonic()

    def _say(self, text: str) -> None:
        """Log what the state has become; what stays as it is, is not repeated."""
        if text and text != self._said:
            logger.warning("no prediction is stored for now: %s", text)
        elif self._said and not text:
            logger.warning("predictions are stored again")
        self._said = text


def _import_and_open(said: str) -> Open:
    # Imported on the thread that needs it: it takes a third of a second, which telemetry need not wait for.
    from modeltrace.store.store import open_store  # noqa: PLC0415  see above

    return open_store(said)


def start_writer(
    config: StoreConfig | None,
    on_outcome: Callable[[WriteOutcome], object],
    on_open_attempted: Callable[[], object] = lambda: None,
) -> PredictionWriter | None:
    """A writer, unless nothing is to be kept: then there is nothing to be tried, either."""
    if config is None:
        on_open_attempted()
        return None
    return PredictionWriter(config, on_outcome=on_outcome, on_open_attempted=on_open_attempted)
