"""Requests that are there at the same time share one call of the model.

No request waits for others to come: the model is asked as soon as the event loop has read everything that has arrived,
or, for a model that runs on a thread, as soon as the call before has ended. So a lone request is answered at once, and
under load the batches grow by themselves.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import time_ns
from typing import NamedTuple

from modeltrace.errors import BusyError
from modeltrace.inference.model import ModelOutput
from modeltrace.inference.pipeline import Pipeline
from modeltrace.inference.validate import Values
from modeltrace.telemetry.records.prediction import BatchRecord
from modeltrace.telemetry.records.trace import RequestTrace

Outcome = ModelOutput | BaseException


class _PendingRequest(NamedTuple):
    values: Values
    trace: RequestTrace
    answered: "asyncio.Future[ModelOutput]"


class Batcher:
    """Gathers requests into calls of the model."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        max_batch_size: int,
        max_queue_size: int,
        run_in_thread: Callable[[Callable[[], list[Outcome]]], Awaitable[list[Outcome]]] | None,
        on_batch: Callable[[BatchRecord], None],
    ) -> None:
        """`run_in_thread` runs a call off the event loop, or is `None` for a model fast enough to be asked on it."""
        self._pipeline = pipeline
        self._largest = max_batch_size
        self._most_waiting = max_queue_size
        self._on_thread = run_in_thread
        self._tell = on_batch
        self._waiting: deque[_PendingRequest] = deque()
        self._running: asyncio.Handle | asyncio.Task[None] | None = None

    async def submit(self, values: Values, trace: RequestTrace) -> ModelOutput:
        """Answer one validated row together with others.

        Raises:
            BusyError: too many wait already.
            InferenceError: the model failed on this row.
        """
        if len(self._waiting) >= self._most_waiting:
            raise BusyError("too many requests wait for the model; try again in a second")
        loop = asyncio.get_running_loop()
        waiting = _PendingRequest(values, trace, loop.create_future())
        self._waiting.append(waiting)
        if self._running is None:
            self._start(loop)
        return await waiting.answered

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask the model next, after everything that is ready to run on the loop by now."""
        if self._on_thread is None:
            self._running = loop.call_soon(self._on_loop)
        else:
            self._running = loop.create_task(self._off_loop(self._on_thread))

    def _on_loop(self) -> None:
        group = self._take()
        self._running = None
        if self._waiting:
            self._start(asyncio.get_running_loop())
        self._hand_out(group, self._ask(group))

    async def _off_loop(self, on_thread: Callable[[Callable[[], list[Outcome]]], Awaitable[list[Outcome]]]) -> None:
        await asyncio.sleep(0)  # what has arrived together belongs together
        while self._waiting:
            group = self._take()
            self._hand_out(group, await on_thread(partial(self._ask, group)))
        self._running = None

    def _take(self) -> list[_PendingRequest]:
        group = [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]
        # Whoever was cancelled, by a client that went away, is not asked for.
        return [one for one in group if not one.answered.done()]

    def _hand_out(self, group: Sequence[_PendingRequest], outcomes: Sequence[Outcome]) -> None:
        for one, outcome in zip(group, outcomes, strict=True):
            if one.answered.done():
                continue
            if isinstance(outcome, ModelOutput):
                one.answered.set_result(outcome)
            else:
                one.answered.set_exception(outcome)

    def _ask(self, group: Sequence[_PendingRequest]) -> list[Outcome]:
        return infer_batch(self._pipeline, [one.values for one in group], [one.trace for one in group], self._tell)


def infer_batch(
    pipeline: Pipeline, rows: Sequence[Values], traces: Sequence[RequestTrace], tell: Callable[[BatchRecord], None]
) -> list[Outcome]:
    """Ask the model once for the validated row of each request, and tell of that call; an error stands for its row."""
    if not rows:
        return []
    batch = (secrets.token_bytes(16), secrets.token_bytes(8))
    for trace in traces:
        trace.batch_span = batch
    start = time_ns()
    error_type = ""
    outcomes: list[Outcome]
    try:
        outcomes = list(pipeline.infer(rows, traces))
    except Exception as error:  # noqa: BLE001  handed to whom it belongs
        error_type = type(error.__cause__ or error).__qualname__
        outcomes = [error] if len(rows) == 1 else list(map(partial(_ask_alone, pipeline), rows, traces))
    members = tuple((trace.trace_id, trace.span_id) for trace in traces if trace.trace_flags & 1)
    if members:
        tell(BatchRecord(*batch, start, time_ns(), len(rows), error_type, members, pipeline.info))
    return outcomes


def _ask_alone(pipeline: Pipeline, values: Values, trace: RequestTrace) -> Outcome:
    """After a call that failed for all: the row that it failed for fails alone, the others are answered."""
    trace.failure = None
    trace.inference_end = 0
    try:
        (answer,) = pipeline.infer([values], [trace])
    except Exception as error:  # noqa: BLE001  handed to whom it belongs
        return error
    return answer
