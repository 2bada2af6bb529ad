"""Micro-batching: concurrent requests share one call of the model.

The batcher adds no delay. It calls the model as soon as the event loop has processed everything that is ready, or, for
a model that runs in a thread, as soon as the previous call has returned. A single request is therefore served
immediately, and batches grow with the load.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import time_ns
from typing import NamedTuple, TypeAlias

from modeltrace.errors import BusyError
from modeltrace.inference.model import ModelOutput
from modeltrace.inference.pipeline import Pipeline
from modeltrace.inference.validate import Values
from modeltrace.telemetry.records.prediction import BatchRecord
from modeltrace.telemetry.records.trace import RequestTrace

Outcome = ModelOutput | BaseException
RunInThread: TypeAlias = Callable[[Callable[[], list[Outcome]]], Awaitable[list[Outcome]]]


class _PendingRequest(NamedTuple):
    values: Values
    trace: RequestTrace
    future: "asyncio.Future[ModelOutput]"
    details: bool


class Batcher:
    """Collects the requests of one event loop into batches.

    `run_in_thread` runs a model call on a thread; it is `None` if the model runs on the event loop. `on_batch` gets the
    record of each call that served a sampled request.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        max_batch_size: int,
        max_queue_size: int,
        run_in_thread: RunInThread | None,
        on_batch: Callable[[BatchRecord], None],
    ) -> None:
        self._pipeline = pipeline
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._run_in_thread = run_in_thread
        self._on_batch = on_batch
        self._queue: deque[_PendingRequest] = deque()
        self._running: asyncio.Handle | asyncio.Task[None] | None = None

    async def submit(self, values: Values, trace: RequestTrace, *, details: bool = False) -> ModelOutput:
        """Predict one validated row in a batch with others.

        If one request of a batch asks for `details`, the outputs of all its requests have them.

        Raises:
            BusyError: the queue is full.
            InferenceError: the model failed on this row.
        """
        if len(self._queue) >= self._max_queue_size:
            raise BusyError("too many requests wait for the model; try again in a second")
        loop = asyncio.get_running_loop()
        request = _PendingRequest(values, trace, loop.create_future(), details)
        self._queue.append(request)
        if self._running is None:
            self._schedule(loop)
        return await request.future

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Schedule the next call after all callbacks that are ready to run now."""
        if self._run_in_thread is None:
            self._running = loop.call_soon(self._predict_on_loop)
        else:
            self._running = loop.create_task(self._predict_in_thread(self._run_in_thread))

    def _predict_on_loop(self) -> None:
        batch = self._next_batch()
        self._running = None
        if self._queue:
            self._schedule(asyncio.get_running_loop())
        self._set_results(batch, self._predict(batch))

    async def _predict_in_thread(self, run_in_thread: RunInThread) -> None:
        await asyncio.sleep(0)  # requests that are being read in this iteration of the loop join the first batch
        while self._queue:
            batch = self._next_batch()
            self._set_results(batch, await run_in_thread(partial(self._predict, batch)))
        self._running = None

    def _next_batch(self) -> list[_PendingRequest]:
        batch = [self._queue.popleft() for _ in range(min(self._max_batch_size, len(self._queue)))]
        # The future of a request whose client has disconnected is cancelled.
        return [request for request in batch if not request.future.done()]

    def _set_results(self, batch: Sequence[_PendingRequest], outcomes: Sequence[Outcome]) -> None:
        for request, outcome in zip(batch, outcomes, strict=True):
            if request.future.done():
                continue
            if isinstance(outcome, ModelOutput):
                request.future.set_result(outcome)
            else:
                request.future.set_exception(outcome)

    def _predict(self, batch: Sequence[_PendingRequest]) -> list[Outcome]:
        rows, traces = [request.values for request in batch], [request.trace for request in batch]
        details = any(request.details for request in batch)
        return infer_batch(self._pipeline, rows, traces, self._on_batch, details=details)


def infer_batch(
    pipeline: Pipeline,
    rows: Sequence[Values],
    traces: Sequence[RequestTrace],
    on_batch: Callable[[BatchRecord], None],
    *,
    details: bool = False,
) -> list[Outcome]:
    """Call the model once for the validated rows of several requests, one row per request.

    Return the output or the exception of each row, in order. If the call fails, each row is predicted alone, so that
    only the rows that cause the failure fail. `on_batch` gets the record of the call if one of the requests is sampled.
    """
    if not rows:
        return []
    batch = (secrets.token_bytes(16), secrets.token_bytes(8))
    for trace in traces:
        trace.batch_span = batch
    start = time_ns()
    error_type = ""
    outcomes: list[Outcome]
    try:
        outcomes = list(pipeline.infer(rows, traces, details=details))
    except Exception as error:  # noqa: BLE001  returned to the request that it belongs to
        error_type = type(error.__cause__ or error).__qualname__
        infer_single = partial(_infer_single, pipeline, details=details)
        outcomes = [error] if len(rows) == 1 else list(map(infer_single, rows, traces))
    request_spans = tuple((trace.trace_id, trace.span_id) for trace in traces if trace.trace_flags & 1)
    if request_spans:
        on_batch(BatchRecord(*batch, start, time_ns(), len(rows), error_type, request_spans, pipeline.info))
    return outcomes


def _infer_single(pipeline: Pipeline, values: Values, trace: RequestTrace, *, details: bool) -> Outcome:
    """Predict one row of a batch that failed."""
    trace.failure = None
    trace.inference_end = 0
    try:
        (output,) = pipeline.infer([values], [trace], details=details)
    except Exception as error:  # noqa: BLE001  returned to the request that it belongs to
        return error
    return output
