"""Requests that share a call of the model."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import anyio.to_thread
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltrace.errors import BusyError, InferenceError
from modeltrace.inference.batching import Batcher, Outcome
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.pipeline import Pipeline
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.telemetry.records.prediction import BatchRecord
from modeltrace.telemetry.records.trace import HTTPRequest, RequestTrace

WIDTH = 30


def trace(number: int = 1) -> RequestTrace:
    """The trace of a request that is sampled."""
    return RequestTrace(HTTPRequest(), number.to_bytes(16), number.to_bytes(8), 1)


def values(number: float) -> tuple[float, ...]:
    """A row of one number."""
    return (number,) * WIDTH


@dataclass
class Asked:
    """A model that answers with what it was given, fails for negative numbers, and remembers its calls."""

    calls: list[list[float]] = field(default_factory=list)

    def __call__(self, matrix: Any) -> list[ModelOutput]:
        """Answer."""
        column = np.asarray(matrix)[:, 0].tolist()
        self.calls.append(column)
        if min(column) < 0:
            raise ValueError("negative")
        return [ModelOutput(value=number) for number in column]


@dataclass
class Batching:
    """A batcher and what it did."""

    batcher: Batcher
    asked: Asked
    told: list[BatchRecord]


async def on_thread(call: Callable[[], list[Outcome]]) -> list[Outcome]:
    """Run a call off the loop."""
    return await anyio.to_thread.run_sync(call)


def batching(
    model: Model,
    *,
    largest: int = 64,
    most_waiting: int = 100,
    way: Callable[[Callable[[], list[Outcome]]], Awaitable[list[Outcome]]] | None = None,
) -> Batching:
    """A batcher around a model that answers with what it was given."""
    asked, told = Asked(), []  # type: ignore[var-annotated]  # of batches
    pipeline = Pipeline(replace(model, predict_fn=asked), PredictionIdSigner(b"a key that only the tests use"))
    batcher = Batcher(
        pipeline, max_batch_size=largest, max_queue_size=most_waiting, run_in_thread=way, on_batch=told.append
    )
    return Batching(batcher, asked, told)


def answers(found: Batching, numbers: list[float], traces: list[RequestTrace] | None = None) -> list[Any]:
    """What requests that come at the same time are answered."""
    traces = traces or [trace(n + 1) for n in range(len(numbers))]

    async def all_at_once() -> list[Any]:
        asking = (found.batcher.submit(values(n), t) for n, t in zip(numbers, traces, strict=True))
        return await asyncio.gather(*asking, return_exceptions=True)

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("way", [None, on_thread])
def test_what_comes_at_the_same_time_shares_a_call(model: Model, way: Any) -> None:
    """Ten requests, one call, and each gets its own answer."""
    found = batching(model, way=way)

    assert answers(found, [float(n) for n in range(10)]) == [ModelOutput(value=float(n)) for n in range(10)]
    assert found.asked.calls == [[float(n) for n in range(10)]]


@pytest.mark.parametrize("way", [None, on_thread])
def test_a_call_has_no_more_rows_than_allowed(model: Model, way: Any) -> None:
    """What does not fit goes into the next call."""
    found = batching(model, largest=4, way=way)

    answers(found, [float(n) for n in range(10)])
    assert [len(call) for call in found.asked.calls] == [4, 4, 2]


@pytest.mark.parametrize("way", [None, on_thread])
def test_a_row_that_breaks_the_model_fails_alone(model: Model, way: Any) -> None:
    """The others of its call are answered; its own trace alone has the failure."""
    found = batching(model, way=way)
    traces = [trace(n + 1) for n in range(3)]

    one, two, three = answers(found, [1.0, -2.0, 3.0], traces)

    assert (one, three) == (ModelOutput(value=1.0), ModelOutput(value=3.0))
    assert isinstance(two, InferenceError)
    assert [t.failure is not None for t in traces] == [False, True, False]
    assert [bool(t.inference_end) for t in traces] == [True, False, True]
    assert found.told[0].error_type == "ValueError"


def test_a_call_is_told_once_with_everybody_it_answered(model: Model) -> None:
    """One span, linked to each sampled request; every request knows which call answered it."""
    found = batching(model)
    traces = [trace(n + 1) for n in range(3)]
    traces[1].trace_flags = 0

    answers(found, [1.0, 2.0, 3.0], traces)

    (batch,) = found.told
    assert batch.request_spans == tuple((t.trace_id, t.span_id) for t in (traces[0], traces[2]))
    assert batch.rows == 3
    assert {t.batch_span for t in traces} == {(batch.trace_id, batch.span_id)}
    assert batch.start <= batch.end


def test_time_in_the_queue_is_each_requests_own(model: Model) -> None:
    """The stages follow one another in every trace."""
    found = batching(model)
    traces = [trace(n + 1) for n in range(3)]
    for t in traces:
        t.validate_end = t.now()

    answers(found, [1.0, 2.0, 3.0], traces)

    for t in traces:
        assert t.validate_end <= t.features_start <= t.inference_start <= t.inference_end


def test_more_than_may_wait_are_refused(model: Model) -> None:
    """A queue without end helps nobody."""
    found = batching(model, most_waiting=2)

    outcomes = answers(found, [1.0, 2.0, 3.0])
    assert [type(outcome) for outcome in outcomes] == [ModelOutput, ModelOutput, BusyError]


def test_who_went_away_is_not_asked_for(model: Model) -> None:
    """A request that is cancelled while it waits is left out of the call."""
    found = batching(model)

    async def run() -> ModelOutput:
        gone = asyncio.ensure_future(found.batcher.submit(values(1.0), trace(1)))
        stays = asyncio.ensure_future(found.batcher.submit(values(2.0), trace(2)))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(run()) == ModelOutput(value=2.0)
    assert found.asked.calls == [[2.0]]


@settings(max_examples=50, deadline=None)
@given(
    waves=st.lists(st.lists(st.integers(-3, 50), max_size=9), max_size=6),
    largest=st.integers(1, 5),
    threaded=st.booleans(),
)
def test_sharing_changes_no_answer(model: Model, waves: list[list[int]], largest: int, threaded: bool) -> None:
    """However requests come together, each is answered as if it had been alone."""
    found = batching(model, largest=largest, way=on_thread if threaded else None)

    async def run() -> list[tuple[int, Any]]:
        asking = []
        for wave in waves:
            asking += [(n, asyncio.ensure_future(found.batcher.submit(values(float(n)), trace(n + 4)))) for n in wave]
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*(one for _, one in asking), return_exceptions=True)
        return list(zip((n for n, _ in asking), outcomes, strict=True))

    for number, outcome in asyncio.run(run()):
        assert isinstance(outcome, InferenceError) if number < 0 else outcome == ModelOutput(value=float(number))
