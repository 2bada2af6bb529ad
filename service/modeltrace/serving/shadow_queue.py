"""Shadow requests: rows that were answered are sent to a challenger afterwards, on a separate thread.

    response sent ─► enqueue() ─► queue ─► thread ─► challenger: validate ► features ► inference ─► recorded
                                    │ full
                                    └──► dropped, counted

No client waits for a challenger. If the challenger fails, is slow or is unreachable, no other request is affected.
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

# Rows that may wait in the queue. An empty queue accepts a request of any size.
MAX_ROWS: Final = 2048
# Seconds that `ShadowQueue.stop` waits for the thread.
STOP_TIMEOUT: Final = 0.25

# Called with the outcome of rows (`answered`, `refused`, `failed` or `dropped`), their number and the `error.type`.
OnOutcome = Callable[[str, int, str], object]
# Opens the trace of a shadow request; the trace is recorded when the block ends.
StartShadow = Callable[[RequestTrace], AbstractContextManager[RequestTrace]]


class Challenger(Protocol):
    """Predicts the rows of shadow requests."""

    max_batch: int  # the most requests of one call
    interval: float  # seconds between two calls

    def __call__(self, requests: Sequence[RequestTrace], on_outcome: OnOutcome) -> None:
        """Predict the answered rows of requests and report the outcomes."""


class LocalChallenger:
    """The challenger in this process."""

    # A call with 30 rows takes hardly longer than a call with one, so rows are collected first. If every request is
    # shadowed, a linear model then delays other requests by 100 µs per row instead of 700 µs.
    max_batch = 256
    interval = 0.025

    def __init__(self, router: ModelRouter, start_shadow: StartShadow, on_batch: Callable[[BatchRecord], None]) -> None:
        """`on_batch` records a model call that several requests share."""
        self._router = router
        self._start_shadow = start_shadow
        self._on_batch = on_batch

    def __call__(self, requests: Sequence[RequestTrace], on_outcome: OnOutcome) -> None:
        """Call the model once for all requests with a single row, and once for each batch request."""
        version = self._router.challenger
        if version is None:
            return
        single = [request for request in requests if not request.is_batch]
        if len(single) > 1:
            self._predict_together(version, single, on_outcome)
        for request in requests:
            if request.is_batch or len(single) == 1:
                self._predict_alone(version, request, on_outcome)

    def _predict_together(self, version: Version, requests: Sequence[RequestTrace], on_outcome: OnOutcome) -> None:
        pipeline, rows, traces = version.pipeline, list[Values](), list[RequestTrace]()
        rejected: list[InvalidFeaturesError] = []
        with ExitStack() as stack:
            for request in requests:
                trace = stack.enter_context(self._start_shadow(request))
                try:
                    rows.append(pipeline.validate(predicted_rows(request)[0], trace))
                except InvalidFeaturesError as error:
                    rejected.append(error)
                else:
                    traces.append(trace)
            outcomes = infer_batch(pipeline, rows, traces, self._on_batch)
            for values, trace, outcome in zip(rows, traces, outcomes, strict=True):
                if isinstance(outcome, ModelOutput):
                    pipeline.record_prediction(0, values, outcome, trace)
        _report([*outcomes, *rejected], on_outcome)

    def _predict_alone(self, version: Version, request: RequestTrace, on_outcome: OnOutcome) -> None:
        rows, indexes = predicted_rows(request), [row.row_index for row in request.predictions]
        outcomes: Sequence[object]
        with self._start_shadow(request) as trace:
            try:
                outcomes = version.pipeline.predict_batch(rows, trace, indexes)
            except InferenceError as error:
                outcomes = [error] * len(rows)
            finally:
                trace.is_batch = request.is_batch
        _report(outcomes, on_outcome)


def _report(outcomes: Sequence[object], on_outcome: OnOutcome) -> None:
    """Report each kind of outcome once, since a counter call takes longer than a row in a shared model call."""
    for (outcome, error_type), rows in Counter(map(_classify, outcomes)).items():
        on_outcome(outcome, rows, error_type)


def _classify(outcome: object) -> tuple[str, str]:
    if isinstance(outcome, InvalidFeaturesError):
        return "refused", "invalid_features"
    if isinstance(outcome, BaseException):
        return "failed", type(outcome.__cause__ or outcome).__qualname__
    return "answered", ""


def predicted_rows(request: RequestTrace) -> list[object]:
    """Return the rows of a request that were predicted, as the client sent them."""
    return [request.shadow_rows[row.row_index] for row in request.predictions] if request.shadow_rows else []


class ShadowQueue:
    """A bounded queue of requests, and the thread that passes them to a challenger."""

    def __init__(
        self, router: ModelRouter, challenger: Challenger, on_outcome: OnOutcome, *, max_rows: int = MAX_ROWS
    ) -> None:
        """`on_outcome` is called on the thread of the queue, and by `enqueue`; it must neither block nor raise."""
        self._router = router
        self._challenger = challenger
        self._on_outcome = on_outcome
        self._max_rows = max_rows
        self._requests: deque[RequestTrace] = deque()
        self._enqueued_rows = self._dequeued_rows = 0  # each written by one thread only
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="shadow")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def enqueue(self, trace: RequestTrace) -> None:
        """Add an answered request without blocking. If the queue is full, its rows are dropped and counted."""
        if trace.shadow_rows is None or not trace.predictions:
            return
        rows = len(trace.predictions)
        waiting = self._enqueued_rows - self._dequeued_rows
        if self._stopping or (waiting and waiting + rows > self._max_rows):
            self._on_outcome("dropped", rows, "queue_full")
            return
        self._enqueued_rows += rows
        self._requests.append(trace)
        self._wake.set()

    def stop(self) -> None:
        """Process the queue for `STOP_TIMEOUT` seconds, then drop and count the rest."""
        self._stopping = True
        self._wake.set()
        self._thread.join(STOP_TIMEOUT)
        while self._requests:
            self._on_outcome("dropped", len(self._requests.popleft().predictions), "shutdown")

    def _run(self) -> None:
        while not (self._stopping and not self._requests):
            self._wake.wait()
            self._wake.clear()
            while requests := self._dequeue():
                self._process(requests)
                time.sleep(self._challenger.interval)

    def _dequeue(self) -> list[RequestTrace]:
        """Remove as many requests as the challenger takes in one call."""
        requests: list[RequestTrace] = []
        with suppress(IndexError):  # `stop` removed the last one
            while self._requests and len(requests) < self._challenger.max_batch:
                requests.append(self._requests.popleft())
        self._dequeued_rows += _count_rows(requests)
        return requests

    def _process(self, requests: Sequence[RequestTrace]) -> None:
        try:
            self._challenger(requests, self._on_outcome)
        except Exception as error:  # the thread continues with the next requests
            logger.error(  # noqa: TRY400  the logged exception may be a redacted copy
                "shadow requests failed", exc_info=redact_exception(error) if self._router.private else error
            )
            self._on_outcome("failed", _count_rows(requests), type(error).__qualname__)


def _count_rows(requests: Sequence[RequestTrace]) -> int:
    return sum(len(request.predictions) for request in requests)
