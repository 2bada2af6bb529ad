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

from modeltrace.errors import StoreAwayError
from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.config import StoreConfig
from modeltrace.store.rows import Row, RowMaker, Told

logger = logging.getLogger("modeltrace.store")

INTERVAL: Final = 0.1
# A minute's rows at 1,000 a second, or three batches of the largest size allowed by default.
MOST_ROWS: Final = 65_536
GROUP: Final = 2048  # rows of a transaction
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
TIDY_EVERY: Final = 10.0
DAY: Final = 86_400 * 10**9


class Written(NamedTuple):
    """What became of rows."""

    kind: Literal["stored", "lost"]
    rows: int
    error_type: str = ""


class Open(Protocol):
    """What the writer needs of a `modeltrace.store.store.Store`."""

    def add_predictions(self, rows: Sequence[Row]) -> None:
        """Add rows that may be there already."""

    def prune_old(self, limit: AgeLimit, now: int) -> tuple[int, bool]:
        """Delete some that are too old; how many, and whether more may be deleted at once."""

    def prune_beyond(self, limit: int) -> int:
        """Delete some while there are more bytes than that; how many."""

    def close(self) -> None:
        """Close it."""


class Writer:
    """Writes from its start until its `end`."""

    def __init__(
        self,
        config: StoreConfig,
        *,
        report: Callable[[Written], object],
        tried: Callable[[], object] = lambda: None,
        open_store: Callable[[str], Open] | None = None,
        most_rows: int = MOST_ROWS,
        tidy_every: float = TIDY_EVERY,
    ) -> None:
        """`report` is called by the writer's thread, and by that of `put`; it must neither block nor raise.

        `tried` is called once the store is open, or has been tried to open in vain for the first time.
        """
        self._tried = tried
        self._config = config
        self._maker = RowMaker(config.code_version)
        self._report = report
        self._open = open_store or _open
        self._most_rows = most_rows
        self._tidy_every = tidy_every
        self._store: Open | None = None
        self._age_limit = AgeLimit(int(config.days * DAY))
        self._changed = threading.Condition()
        self._waiting: deque[Told] = deque()
        self._rows = 0  # that are neither stored nor lost
        self._ending = self._gone = False
        self._tidied = time.monotonic() - tidy_every
        self._said = ""
        self._thread = threading.Thread(target=self._run, daemon=True, name="store-writer")
        self._thread.start()

    def put(self, requests: Sequence[Told]) -> None:
        """Take what was answered. Never waits: a request that finds no room is lost and counted."""
        lost = 0
        with self._changed:
            for request in requests:
                rows = len(request.answered)
                if self._gone or (self._rows and self._rows + rows > self._most_rows):
                    lost += rows
                elif rows:
                    self._rows += rows
                    self._waiting.append(request)
            self._changed.notify_all()
        if lost:
            self._report(Written("lost", lost, "queue_full"))

    def end(self) -> None:
        """Take no more: the thread ends once the store has what waits."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def wait(self, deadline: float) -> None:
        """Wait for that until the monotonic `deadline`; what the store has not taken by then is lost."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            left, self._rows, self._gone = self._rows, 0, True
            self._waiting.clear()
            self._changed.notify_all()
        if left:
            self._report(Written("lost", left, "shutdown"))

    # The thread.

    def _run(self) -> None:
        with suppress(Exception):  # it was there at the start of the service; else `_write` says what is wrong
            self._opened()
        self._tried()
        while (rows := self._next()) is not None:
            begun = time.monotonic()
            if rows:
                self._write(rows)
            self._tidy()
            with self._changed:  # what comes in the meantime shares the next transaction
                rest = begun + INTERVAL - time.monotonic()
                self._changed.wait_for(lambda: self._ending or self._rows >= GROUP, max(0.0, rest))
        if self._store:
            self._store.close()

    def _next(self) -> list[Row] | None:
        """Wait for rows, or until it is time to tidy; `None` when there will be no more."""
        requests: list[Told] = []
        rows = 0
        with self._changed:
            patience = self._tidied + self._tidy_every - time.monotonic()
            self._changed.wait_for(lambda: self._waiting or self._ending, max(0.0, patience))
            while self._waiting and rows < GROUP:
                requests.append(self._waiting.popleft())
                rows += len(requests[-1].answered)
            if not requests and self._ending:
                return None
        return [row for request in requests for row in self._made(request)]

    def _opened(self) -> Open:
        if self._store is None:
            self._store = self._open(self._config.said)
        return self._store

    def _made(self, request: Told) -> list[Row]:
        try:
            return self._maker.rows(request)
        except Exception as error:  # a record that nobody foresaw must not end the thread
            logger.exception("a prediction could not be made a row")
            self._done("lost", len(request.answered), type(error).__qualname__)
            return []

    def _write(self, rows: Sequence[Row]) -> None:
        """Write them, however often it takes."""
        pause = FIRST_PAUSE
        while not self._gone:
            try:
                self._opened().add_predictions(rows)
            except StoreAwayError as error:
                self._say(str(error))
            except Exception as error:  # noqa: BLE001  what it is about is found out below
                if self._store:
                    self._refused(rows, error)
                    return
                self._say(str(error))  # it could be opened at the start of the service, so it may come back
            else:
                self._say("")
                self._done("stored", len(rows))
                return
            with self._changed:
                self._changed.wait_for(lambda: self._gone or self._ending, pause)
                if self._ending:  # there is not much time left
                    self._changed.wait_for(lambda: self._gone, FIRST_PAUSE)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _refused(self, rows: Sequence[Row], error: Exception) -> None:
        """All but the rows that it is about are written."""
        if len(rows) == 1:
            logger.error("the prediction store refuses a prediction for good: %s", error)
            self._done("lost", 1, type(error).__qualname__)
            return
        half = len(rows) // 2
        self._write(rows[:half])
        self._write(rows[half:])

    def _done(self, kind: Literal["stored", "lost"], rows: int, error_type: str = "") -> None:
        with self._changed:
            if self._gone:  # and counted as lost
                return
            self._rows -= rows
        self._report(Written(kind, rows, error_type))

    def _tidy(self) -> None:
        """Delete a little of what is too old or too much, now and then; again at once while there is more of it."""
        if self._store is None or time.monotonic() < self._tidied + self._tidy_every:
            return
        more = False
        try:
            if self._config.days:
                more = self._store.prune_old(self._age_limit, time.time_ns())[1]
            if self._config.most_bytes:
                more = self._store.prune_beyond(self._config.most_bytes) > 0 or more
        except Exception as error:  # noqa: BLE001  it is tried again
            self._say(str(error))
        self._tidied = 0.0 if more else time.monotonic()

    def _say(self, text: str) -> None:
        """Log what the state has become; what stays as it is, is not repeated."""
        if text and text != self._said:
            logger.warning("no prediction is stored for now: %s", text)
        elif self._said and not text:
            logger.warning("predictions are stored again")
        self._said = text


def _open(said: str) -> Open:
    # Imported on the thread that needs it: it takes a third of a second, which telemetry need not wait for.
    from modeltrace.store.store import open_store  # noqa: PLC0415  see above

    return open_store(said)


def start_writer(
    config: StoreConfig | None,
    report: Callable[[Written], object],
    tried: Callable[[], object] = lambda: None,
) -> Writer | None:
    """A writer, unless nothing is to be kept: then there is nothing to be tried, either."""
    if config is None:
        tried()
        return None
    return Writer(config, report=report, tried=tried)
