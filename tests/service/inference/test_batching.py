"""Micro-batching: concurrent requests share a call of the model."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import anyio.to_thread
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltrace.errors import BusyError, InferenceError
from modeltrace.inference.batching import Batcher, Outcome, RunInThread
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.pipeline import Pipeline
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.telemetry.records.prediction import BatchRecord
from modeltrace.telemetry.records.trace import HTTPRequest, RequestTrace

WIDTH = 30


def trace(number: int = 1) -> RequestTrace:
    """Return the trace of a sampled request."""
    return RequestTrace(HTTPRequest(), number.to_bytes(16), number.to_bytes(8), 1)


def values(number: float) -> tuple[float, ...]:
    """Return a row of equal numbers."""
    return (number,) * WIDTH


@dataclass
class RecordingModel:
    """A model that returns its input, fails for negative numbers, and records its calls."""

    calls: list[list[float]] = field(default_factory=list)

    def __call__(self, matrix: Any) -> list[ModelOutput]:
        """Predict."""
        column = np.asarray(matrix)[:, 0].tolist()
        self.calls.append(column)
        if min(column) < 0:
            raise ValueError("negative")
        return [ModelOutput(value=number) for number in column]


@dataclass
class BatcherCase:
    """A batcher, its model and the records of its batches."""

    batcher: Batcher
    recording: RecordingModel
    records: list[BatchRecord]


async def run_in_thread(call: Callable[[], list[Outcome]]) -> list[Outcome]:
    """Run a call outside of the event loop."""
    return await anyio.to_thread.run_sync(call)


def make_batcher(
    model: Model,
    *,
    max_batch_size: int = 64,
    max_queue_size: int = 100,
    runner: RunInThread | None = None,
) -> BatcherCase:
    """Return a batcher around a model that returns its input."""
    recording = RecordingModel()
    records: list[BatchRecord] = []
    pipeline = Pipeline(replace(model, predict_fn=recording), PredictionIdSigner(b"a key that only the tests use"))
    batcher = Batcher(
        pipeline,
        max_batch_size=max_batch_size,
        max_queue_size=max_queue_size,
        run_in_thread=runner,
        on_batch=records.append,
    )
    return BatcherCase(batcher, recording, records)


def submit_all(case: BatcherCase, numbers: list[float], traces: list[RequestTrace] | None = None) -> list[Any]:
    """Return the outcomes of concurrent requests."""
    traces = traces or [trace(n + 1) for n in range(len(numbers))]

    async def gather() -> list[Any]:
        pending = (case.batcher.submit(values(n), t) for n, t in zip(numbers, traces, strict=True))
        return await asyncio.gather(*pending, return_exceptions=True)

    return asyncio.run(gather())


@pytest.mark.parametrize("runner", [None, run_in_thread])
def test_concurrent_requests_share_a_call(model: Model, runner: Any) -> None:
    """Ten concurrent requests cause one call of the model, and each gets its own output."""
    case = make_batcher(model, runner=runner)

    assert submit_all(case, [float(n) for n in range(10)]) == [ModelOutput(value=float(n)) for n in range(10)]
    assert case.recording.calls == [[float(n) for n in range(10)]]


@pytest.mark.parametrize("runner", [None, run_in_thread])
def test_a_batch_is_limited_in_size(model: Model, runner: Any) -> None:
    """Rows beyond the maximum batch size go into the next call."""
    case = make_batcher(model, max_batch_size=4, runner=runner)

    submit_all(case, [float(n) for n in range(10)])
    assert [len(call) for call in case.recording.calls] == [4, 4, 2]


@pytest.mark.parametrize("runner", [None, run_in_thread])
def test_a_row_that_fails_does_not_fail_its_batch(model: Model, runner: Any) -> None:
    """The other rows of the batch get outputs; only the trace of the failed row has a failure."""
    case = make_batcher(model, runner=runner)
    traces = [trace(n + 1) for n in range(3)]

    first, second, third = submit_all(case, [1.0, -2.0, 3.0], traces)

    assert (first, third) == (ModelOutput(value=1.0), ModelOutput(value=3.0))
    assert isinstance(second, InferenceError)
    assert [t.failure is not None for t in traces] == [False, True, False]
    assert [bool(t.inference_end) for t in traces] == [True, False, True]
    assert case.records[0].error_type == "ValueError"


def test_a_batch_is_recorded_once_with_its_sampled_requests(model: Model) -> None:
    """The record links each sampled request, and each request knows its batch."""
    case = make_batcher(model)
    traces = [trace(n + 1) for n in range(3)]
    traces[1].trace_flags = 0

    submit_all(case, [1.0, 2.0, 3.0], traces)

    (batch,) = case.records
    assert batch.request_spans == tuple((t.trace_id, t.span_id) for t in (traces[0], traces[2]))
    assert batch.rows == 3
    assert {t.batch_span for t in traces} == {(batch.trace_id, batch.span_id)}
    assert batch.start <= batch.end


def test_stages_are_ordered_in_every_trace(model: Model) -> None:
    """The start and end times of the stages never decrease within a trace."""
    case = make_batcher(model)
    traces = [trace(n + 1) for n in range(3)]
    for t in traces:
        t.validate_end = t.now()

    submit_all(case, [1.0, 2.0, 3.0], traces)

    for t in traces:
        assert t.validate_end <= t.features_start <= t.inference_start <= t.inference_end


def test_a_full_queue_rejects_requests(model: Model) -> None:
    """A request beyond the queue size gets a BusyError."""
    case = make_batcher(model, max_queue_size=2)

    outcomes = submit_all(case, [1.0, 2.0, 3.0])
    assert [type(outcome) for outcome in outcomes] == [ModelOutput, ModelOutput, BusyError]


def test_a_cancelled_request_is_left_out(model: Model) -> None:
    """A request that is cancelled in the queue is not part of the batch."""
    case = make_batcher(model)

    async def run() -> ModelOutput:
        cancelled = asyncio.ensure_future(case.batcher.submit(values(1.0), trace(1)))
        other = asyncio.ensure_future(case.batcher.submit(values(2.0), trace(2)))
        await asyncio.sleep(0)
        cancelled.cancel()
        return await other

    assert asyncio.run(run()) == ModelOutput(value=2.0)
    assert case.recording.calls == [[2.0]]


@settings(max_examples=50, deadline=None)
@given(
    waves=st.lists(st.lists(st.integers(-3, 50), max_size=9), max_size=6),
    max_batch_size=st.integers(1, 5),
    threaded=st.booleans(),
)
def test_batching_changes_no_output(model: Model, waves: list[list[int]], max_batch_size: int, threaded: bool) -> None:
    """However requests are batched, each gets the output that it would get alone."""
    case = make_batcher(model, max_batch_size=max_batch_size, runner=run_in_thread if threaded else None)

    async def run() -> list[tuple[int, Any]]:
        pending = []
        for wave in waves:
            pending += [(n, asyncio.ensure_future(case.batcher.submit(values(float(n)), trace(n + 4)))) for n in wave]
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*(future for _, future in pending), return_exceptions=True)
        return list(zip((n for n, _ in pending), outcomes, strict=True))

    for number, outcome in asyncio.run(run()):
        assert isinstance(outcome, InferenceError) if number < 0 else outcome == ModelOutput(value=float(number))
