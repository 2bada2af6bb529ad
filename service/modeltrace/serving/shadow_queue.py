"""Rows that were answered, put to a challenger: afterwards, on a thread of its own, as far as there is time for it.

    answer sent ─► offer() ─► queue ─► thread ─► challenger: validate ► features ► inference ─► recorded
                                │ full
                                └──► dropped, counted

Nobody waits for a challenger, and what becomes of it harms nobody: it fails, is slow or is dead for itself alone.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Final, Protocol

from modeltrace.errors import InferenceError, InvalidFeaturesError
from modeltrace.inference.batching import infer_batch
from modeltrace.inference.model import ModelOutput
from modeltrace.inference.privacy import redact_exception
from modeltrace.inference.validate import Values
from modeltrace.serving.router import ModelRouter
from modeltrace.serving.version import Version
from modeltrace.telemetry.records.prediction import BatchRecord
from modeltrace.telemetry.records.trace import RequestTrace

logger = logging.getLogger("modeltrace.serving")

# Rows that may wait, and their part of that for a request when nothing else waits: a batch always finds room then.
MAX_ROWS: Final = 2048
# Seconds that a stop lets the thread go on.
STOP_TIMEOUT: Final = 0.25

# How many rows became what, and why: `answered`, `refused`, `failed` or `dropped`, and `error.type`.
OnOutcome = Callable[[str, int, str], object]
# Opens the trace of a shadow, and tells it when the block ends.
StartShadow = Callable[[RequestTrace], AbstractContextManager[RequestTrace]]


class Challenger(Protocol):
    """What is asked."""

    max_batch: int  # the most requests that it takes
    interval: float  # seconds between two calls

    def __call__(self, requests: Sequence[RequestTrace], on_outcome: OnOutcome) -> None:
        """Put the answered rows of requests to it, and say what became of them."""


class LocalChallenger:
    """The challenger in this process."""

    # A call of 30 rows costs hardly more than one of a single row, so rows gather first: of every request shadowed,
    # a linear model cost those who answer 100 µs a row in place of 700.
    max_batch = 256
    interval = 0.025

    def __init__(self, router: ModelRouter, start_shadow: StartShadow, on_batch: Callable[[BatchRecord], None]) -> None:
        """`on_batch` tells of a call that several requests share."""
        self._router = router
        self._telling = start_shadow
        self._tell_batch = on_batch

    def __call__(self, requests: Sequence[RequestTrace], on_outcome: OnOutcome) -> None:
        """Ask it once for all requests of a row each, which costs hardly more than for one, and once for each other."""
        version = self._router.challenger
        if version is None:
            return
        single = [request for request in requests if not request.is_batch]
        if len(single) > 1:
            self._together(version, single, on_outcome)
        for request in requests:
            if request.is_batch or len(single) == 1:
                self._alone(version, request, on_outcome)

    def _together(self, version: Version, asked: Sequence[RequestTrace], tell: OnOutcome) -> None:
        pipeline, rows, traces = version.pipeline, list[Values](), list[RequestTrace]()
        refused: list[InvalidFeaturesError] = []
        with ExitStack() as stack:
            for one in asked:
                trace = stack.enter_context(self._telling(one))
                try:
                    rows.append(pipeline.validate(predicted_rows(one)[0], trace))
                except InvalidFeaturesError as error:
                    refused.append(error)
                else:
                    traces.append(trace)
            outcomes = infer_batch(pipeline, rows, traces, self._tell_batch)
            for values, trace, outcome in zip(rows, traces, outcomes, strict=True):
                if isinstance(outcome, ModelOutput):
                    pipeline.record_prediction(0, values, outcome, trace)
        _tell_all([*outcomes, *refused], tell)

    def _alone(self, version: Version, asked: RequestTrace, tell: OnOutcome) -> None:
        rows, numbers = predicted_rows(asked), [one.row_index for one in asked.predictions]
        outcomes: Sequence[object]
        with self._telling(asked) as trace:
            try:
                outcomes = version.pipeline.predict_batch(rows, trace, numbers)
            except InferenceError as error:
                outcomes = [error] * len(rows)
            finally:
                trace.is_batch = asked.is_batch
        _tell_all(outcomes, tell)


def _tell_all(outcomes: Sequence[object], tell: OnOutcome) -> None:
    """Say what became of rows, once for each kind: a counter costs more than a row that shares a call."""
    for (outcome, error_type), rows in Counter(map(_became, outcomes)).items():
        tell(outcome, rows, error_type)


def _became(outcome: object) -> tuple[str, str]:
    if isinstance(outcome, InvalidFeaturesError):
        return "refused", "invalid_features"
    if isinstance(outcome, BaseException):
        return "failed", type(outcome.__cause__ or outcome).__qualname__
    return "answered", ""


def predicted_rows(asked: RequestTrace) -> list[object]:
    """The rows of a request that were answered, as they were sent."""
    return [asked.shadow_rows[one.row_index] for one in asked.predictions] if asked.shadow_rows else []


class ShadowQueue:
    """The queue before a challenger, and the thread that asks it."""

    def __init__(
        self, router: ModelRouter, challenger: Challenger, on_outcome: OnOutcome, *, max_rows: int = MAX_ROWS
    ) -> None:
        """`tell` is called by the thread, and by that of `offer`; it must neither block nor raise."""
        self._router = router
        self._ask = challenger
        self._tell = on_outcome
        self._most_rows = max_rows
        self._waiting: deque[RequestTrace] = deque()
        self._put = self._taken = 0  # rows; each written by one thread only
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="shadow")

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def enqueue(self, trace: RequestTrace) -> None:
        """Take a request that was answered. Never waits: what finds no room is dropped and counted."""
        if trace.shadow_rows is None or not trace.predictions:
            return
        rows = len(trace.predictions)
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
        self._thread.join(STOP_TIMEOUT)
        while self._waiting:
            self._tell("dropped", len(self._waiting.popleft().predictions), "shutdown")

    def _run(self) -> None:
        while not (self._ending and not self._waiting):
            self._wake.wait()
            self._wake.clear()
            while asked := self._take():
                self._put_to_challenger(asked)
                time.sleep(self._ask.interval)

    def _take(self) -> list[RequestTrace]:
        """What waits, but no more than the challenger takes at once."""
        taken: list[RequestTrace] = []
        with suppress(IndexError):  # a stop was faster
            while self._waiting and len(taken) < self._ask.max_batch:
                taken.append(self._waiting.popleft())
        self._taken += _count_rows(taken)
        return taken

    def _put_to_challenger(self, asked: Sequence[RequestTrace]) -> None:
        try:
            self._ask(asked, self._tell)
        except Exception as error:  # whatever it is, it harms nobody else
            logger.error(  # noqa: TRY400  what is told may not be what was raised
                "a challenger could not be asked", exc_info=redact_exception(error) if self._router.private else error
            )
            self._tell("failed", _count_rows(asked), type(error).__qualname__)


def _count_rows(asked: Sequence[RequestTrace]) -> int:
    return sum(len(one.predictions) for one in asked)
