"""Rows that were answered, put to a challenger: afterwards, on a thread of its own, as far as there is time for it.

    answer sent ─► offer() ─► queue ─► thread ─► challenger: validate ► features ► inference ─► recorded
                                │ full
                                └──► dropped, counted

Nobody waits for a challenger, and what becomes of it harms nobody: it fails, is slow or is dead for itself alone.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from service.errors import InferenceError, InvalidFeaturesError
from service.inference.privacy import withhold
from service.serving.served import Serving
from service.telemetry.tracing import RequestTrace

logger = logging.getLogger("modeltrace.serving")

# Rows that may wait, and their part of that for a request when nothing else waits: a batch always finds room then.
MOST_ROWS: Final = 2048
# Seconds between two requests: the interpreter's lock is free for as long, for those who are waited for.
PAUSE: Final = 0.00005
# Seconds that a stop lets the thread go on.
LAST: Final = 0.25

# How many rows became what, and why: `answered`, `refused`, `failed` or `dropped`, and `error.type`.
Tell = Callable[[str, int, str], object]
# Opens the trace of a shadow, and tells it when the block ends.
Telling = Callable[[RequestTrace], AbstractContextManager[RequestTrace]]


class Challenger(Protocol):
    """What is asked."""

    def __call__(self, asked: RequestTrace, tell: Tell) -> None:
        """Put the answered rows of a request to it, and say what became of them."""


class LocalChallenger:
    """The challenger in this process."""

    def __init__(self, serving: Serving, telling: Telling) -> None:
        self._serving = serving
        self._telling = telling

    def __call__(self, asked: RequestTrace, tell: Tell) -> None:
        """Ask it, with all rows in one call."""
        version = self._serving.challenger
        if version is None or asked.asked is None:
            return
        numbers = [one.row for one in asked.answered]
        rows = [asked.asked[number] for number in numbers]
        with self._telling(asked) as trace:
            try:
                outcomes = version.pipeline.predict_batch(rows, trace, numbers)
            except InferenceError as error:
                tell("failed", len(rows), type(error.__cause__ or error).__qualname__)
                return
            finally:
                trace.many = asked.many
        refused = sum(isinstance(one, InvalidFeaturesError) for one in outcomes)
        for outcome, number, error_type in (
            ("answered", len(rows) - refused, ""),
            ("refused", refused, "invalid_features"),
        ):
            if number:
                tell(outcome, number, error_type)


class Shadows:
    """The queue before a challenger, and the thread that asks it."""

    def __init__(self, serving: Serving, ask: Challenger, tell: Tell, *, most_rows: int = MOST_ROWS) -> None:
        """`tell` is called by the thread, and by that of `offer`; it must neither block nor raise."""
        self._serving = serving
        self._ask = ask
        self._tell = tell
        self._most_rows = most_rows
        self._waiting: deque[RequestTrace] = deque()
        self._put = self._taken = 0  # rows; each written by one thread only
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="shadow")

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def offer(self, trace: RequestTrace) -> None:
        """Take a request that was answered. Never waits: what finds no room is dropped and counted."""
        if trace.asked is None or not trace.answered:
            return
        rows = len(trace.answered)
        waiting = self._put - self._taken
        if self._ending or (waiting and waiting + rows > self._most_rows):
            self._tell("dropped", rows, "queue_full")
            return
        self._put += rows
        self._waiting.append(trace)
        self._wake.set()

    def stop(self) -> None:
        """Ask a moment longer; what still waits then is dropped and counted."""
        self._ending = True
        self._wake.set()
        self._thread.join(LAST)
        while self._waiting:
            self._tell("dropped", len(self._waiting.popleft().answered), "shutdown")

    def _run(self) -> None:
        while not (self._ending and not self._waiting):
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self._one()
                time.sleep(PAUSE)

    def _one(self) -> None:
        try:
            asked = self._waiting.popleft()
        except IndexError:  # a stop was faster
            return
        self._taken += len(asked.answered)
        try:
            self._ask(asked, self._tell)
        except Exception as error:  # whatever it is, it harms nobody else
            logger.error(  # noqa: TRY400  what is told may not be what was raised
                "a challenger could not be asked", exc_info=withhold(error) if self._serving.private else error
            )
            self._tell("failed", len(asked.answered), type(error).__qualname__)
