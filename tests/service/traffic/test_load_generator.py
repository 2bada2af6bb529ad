"""Requests are sent at a fixed rate, and each is counted."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import repeat
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modeltrace.inference.schema import Feature, Reference
from modeltrace.traffic import load as load_module
from modeltrace.traffic.counts import TrafficCounts
from modeltrace.traffic.fault_injection import FaultConfig, FaultInjector, make_rng
from modeltrace.traffic.load import LoadGenerator, LoadPlan
from modeltrace.traffic.rows import Sample

FEATURES = (Feature(name="x", type="number", reference=Reference(n=1, shares={})),)
Answer = Callable[[Request], Awaitable[Response]]


def drive(
    answer: Answer,
    plan: LoadPlan,
    *,
    faults: FaultConfig | None = None,
    label: object = None,
    drain: float = 5.0,
    on_prediction: Callable[..., object] = lambda *_: None,
) -> TrafficCounts:
    """Send requests to an application that answers each of them with `answer`. Return the counts."""

    async def run() -> TrafficCounts:
        paths = [Route(path, answer, methods=["POST"]) for path in ("/predict", "/predict/batch")]
        counts = TrafficCounts()
        injector = FaultInjector(faults or FaultConfig(), FEATURES, make_rng(1))
        samples = repeat(Sample({"x": 1.0}, label))
        transport = httpx.ASGITransport(Starlette(routes=paths))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            await LoadGenerator(client, samples, injector, plan, counts, on_prediction).run(
                asyncio.Event(), drain_timeout=drain
            )
        return counts

    return asyncio.run(run())


async def strict(request: Request) -> Response:
    """Answer rows whose feature is a number, reject any other, as the service does."""
    try:
        body: dict[str, Any] = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        return JSONResponse({"error": {"type": "malformed_request"}}, 400)
    entries = [
        {"label": "yes"} if row.keys() == {"x"} and isinstance(row["x"], float) else {"error": {"type": "refused"}}
        for row in body.get("rows", [body.get("features")])
    ]
    if "rows" in body:
        return JSONResponse({"predictions": entries}, headers={"X-Trace-Id": "ab" * 16})
    return JSONResponse(entries[0], 422 if "error" in entries[0] else 200, headers={"X-Trace-Id": "ab" * 16})


async def broken(_: Request) -> Response:
    """Fail."""
    return JSONResponse({"error": {"type": "inference_failed"}}, 500)


async def silent(_: Request) -> Response:
    """Do not answer."""
    await asyncio.Event().wait()
    raise AssertionError


def test_callback_receives_each_prediction() -> None:
    """The callback receives ID and true label of each prediction, but not of rejected rows."""
    predictions: list[tuple[object, object]] = []
    drive(
        strict,
        LoadPlan(rate=5000, count=3),
        label="yes",
        on_prediction=lambda *prediction: predictions.append(prediction),
    )
    assert predictions == [(None, "yes")] * 3  # this service sends no IDs
    drive(
        strict,
        LoadPlan(rate=5000, count=3),
        faults=FaultConfig(wrong_type=1.0),
        label="yes",
        on_prediction=lambda *prediction: predictions.append(prediction),
    )
    assert len(predictions) == 3


def test_count_is_exact() -> None:
    """`count` is the number of requests that are sent."""
    counts = drive(strict, LoadPlan(rate=5000, count=37))
    assert (counts.sent, counts.answered, counts.failed) == (37, 37, 0)


def test_requests_beyond_the_concurrency_are_dropped() -> None:
    """If the service does not answer, each request that is due beyond the limit is counted as dropped."""
    counts = drive(silent, LoadPlan(rate=1000, duration=0.05, concurrency=3), drain=0.01)
    assert (counts.sent, counts.dropped) == (3, 47)


def test_unanswered_request_is_a_failure() -> None:
    """Requests that are in flight after the drain timeout are counted as failed."""
    counts = drive(silent, LoadPlan(rate=1000, count=2), drain=0.01)
    assert (counts.sent, counts.failed) == (2, 2)


def test_rejections_of_injected_faults_are_not_failures() -> None:
    """They are counted as rejected."""
    counts = drive(strict, LoadPlan(rate=5000, count=40), faults=FaultConfig(missing=0.25, errors=0.5))
    assert 20 <= counts.rejected <= 31
    assert counts.answered == 40 - counts.rejected
    assert counts.failed == 0


def test_error_status_is_a_failure() -> None:
    """The counts contain a description of the last failure."""
    counts = drive(broken, LoadPlan(rate=5000, count=3), faults=FaultConfig(missing=1))
    assert counts.failed == 3
    assert counts.last_failure is not None
    assert counts.last_failure.startswith("HTTP 500: ")


async def reject_all(_: Request) -> Response:
    """Reject everything."""
    return JSONResponse({"error": {"type": "invalid_features"}}, 422)


def test_rejection_without_a_fault_is_a_failure() -> None:
    """A valid row must not be rejected."""
    assert drive(reject_all, LoadPlan(rate=5000, count=3)).failed == 3


def test_faulty_rows_of_a_batch_may_be_rejected() -> None:
    """A batch with rejected faulty rows is answered; only the other rows are counted."""
    counts = drive(strict, LoadPlan(rate=5000, count=5, batch=10), faults=FaultConfig(wrong_type=0.2))
    assert (counts.answered, counts.failed) == (5, 0)
    assert counts.rows == pytest.approx(40, abs=1)


async def reject_second_row(_: Request) -> Response:
    """Reject the second row of two."""
    return JSONResponse({"predictions": [{"label": "yes"}, {"error": {"type": "invalid_features"}}]})


def test_rejected_valid_row_of_a_batch_is_a_failure() -> None:
    """The failure contains the error of the row."""
    counts = drive(reject_second_row, LoadPlan(rate=5000, count=1, batch=2))
    assert counts.failed == 1
    assert counts.last_failure == "row rejected: {'type': 'invalid_features'}"


@pytest.mark.parametrize(("label", "correct"), [("yes", 4), ("no", 0)])
def test_predictions_are_compared_with_true_labels(label: str, correct: int) -> None:
    """The counts contain the rows with a true label, and the correct predictions."""
    counts = drive(strict, LoadPlan(rate=5000, count=4), label=label)
    assert (counts.labelled, counts.correct) == (4, correct)


@pytest.mark.parametrize("body", ["<html>", "[]", "3", '{"predictions": 3}', '{"predictions": []}'])
def test_invalid_response_is_a_failure(body: str) -> None:
    """A response without predictions is counted as failed, and traffic continues."""

    async def other(_: Request) -> Response:
        return Response(body)

    assert drive(other, LoadPlan(rate=5000, count=2)).failed == 2


def test_slow_request_sends_its_body_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body arrives completely in many chunks, and its latency is not measured."""
    monkeypatch.setattr(load_module, "SLOW_BODY_SECONDS", 0.02)
    chunks: list[bytes] = []

    async def receive(request: Request) -> Response:
        chunks.extend([chunk async for chunk in request.stream()])
        return JSONResponse({"label": "yes"})

    counts = drive(receive, LoadPlan(rate=5000, count=1), faults=FaultConfig(slow=1))
    assert orjson.loads(b"".join(chunks)) == {"features": {"x": 1.0}}
    assert len(chunks) > 5
    assert counts.latency_ms(0.5) is None


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_percentile(values: list[float], share: float) -> None:
    """The percentile is one of the values, and at least the share of the values does not exceed it."""
    counts = TrafficCounts()
    counts.latencies.extend(values)
    latencies_ms = [round(value * 1000, 1) for value in values]
    percentile = counts.latency_ms(share)
    assert percentile in latencies_ms
    assert sum(latency <= percentile for latency in latencies_ms) >= share * len(values)
