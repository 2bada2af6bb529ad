"""Requests go out at their rate and every one of them is accounted for."""

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
from modeltrace.traffic.fault_injection import FaultConfig, FaultInjector, make_rng
from modeltrace.traffic.load import LoadGenerator, LoadPlan
from modeltrace.traffic.rows import Sample
from modeltrace.traffic.tally import TrafficCounts

FEATURES = (Feature(name="x", type="number", reference=Reference(n=1, shares={})),)
Answer = Callable[[Request], Awaitable[Response]]


def drive(
    answer: Answer,
    plan: LoadPlan,
    *,
    misbehaviour: FaultConfig | None = None,
    label: object = None,
    drain: float = 5.0,
    learn: Callable[..., object] = lambda *_: None,
) -> TrafficCounts:
    """Send what the plan says to an application that answers every call with `answer`."""

    async def run() -> TrafficCounts:
        paths = [Route(path, answer, methods=["POST"]) for path in ("/predict", "/predict/batch")]
        tally = TrafficCounts()
        spoiler = FaultInjector(misbehaviour or FaultConfig(), FEATURES, make_rng(1))
        samples = repeat(Sample({"x": 1.0}, label))
        transport = httpx.ASGITransport(Starlette(routes=paths))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            await LoadGenerator(client, samples, spoiler, plan, tally, learn).run(asyncio.Event(), drain_timeout=drain)
        return tally

    return asyncio.run(run())


async def strict(request: Request) -> Response:
    """Answer a row whose feature is a number, refuse any other, as the service does."""
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
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def test_the_label_of_each_answered_row_is_known() -> None:
    """With its prediction ID; a row that was refused has none."""
    known: list[tuple[object, object]] = []
    drive(strict, LoadPlan(rate=5000, count=3), label="yes", learn=lambda *one: known.append(one))
    assert known == [(None, "yes")] * 3  # this service answers no ID
    drive(
        strict,
        LoadPlan(rate=5000, count=3),
        misbehaviour=FaultConfig(wrong_type=1.0),
        label="yes",
        learn=lambda *one: known.append(one),
    )
    assert len(known) == 3


def test_exactly_as_many_go_out_as_were_asked_for() -> None:
    """`count` is a number of requests."""
    tally = drive(strict, LoadPlan(rate=5000, count=37))
    assert (tally.sent, tally.answered, tally.failed) == (37, 37, 0)


def test_a_service_that_does_not_answer_does_not_stop_the_clock() -> None:
    """Beyond the limit of requests in flight, each one that was due is counted as behind."""
    tally = drive(silent, LoadPlan(rate=1000, duration=0.05, concurrency=3), drain=0.01)
    assert (tally.sent, tally.dropped) == (3, 47)


def test_what_is_never_answered_has_failed() -> None:
    """A service that hangs is no success."""
    tally = drive(silent, LoadPlan(rate=1000, count=2), drain=0.01)
    assert (tally.sent, tally.failed) == (2, 2)


def test_what_was_spoilt_on_purpose_is_refused_and_does_not_count_as_failed() -> None:
    """Refusals of injected faults are told apart from failures."""
    tally = drive(strict, LoadPlan(rate=5000, count=40), misbehaviour=FaultConfig(missing=0.25, errors=0.5))
    assert 20 <= tally.rejected <= 31
    assert tally.answered == 40 - tally.rejected
    assert tally.failed == 0


def test_an_answer_other_than_200_is_a_failure() -> None:
    """The last failure is kept for a person to read."""
    tally = drive(broken, LoadPlan(rate=5000, count=3), misbehaviour=FaultConfig(missing=1))
    assert tally.failed == 3
    assert tally.last_failure is not None
    assert tally.last_failure.startswith("HTTP 500: ")


async def picky(_: Request) -> Response:
    """Refuse everything."""
    return JSONResponse({"error": {"type": "invalid_features"}}, 422)


def test_a_refusal_without_a_fault_is_a_failure() -> None:
    """A good row must not be refused."""
    assert drive(picky, LoadPlan(rate=5000, count=3)).failed == 3


def test_in_a_batch_only_spoilt_rows_may_be_refused() -> None:
    """A batch with refused rows counts as answered, by the rows that were."""
    tally = drive(strict, LoadPlan(rate=5000, count=5, batch=10), misbehaviour=FaultConfig(wrong_type=0.2))
    assert (tally.answered, tally.failed) == (5, 0)
    assert tally.rows == pytest.approx(40, abs=1)


async def half(_: Request) -> Response:
    """Refuse the second row of two."""
    return JSONResponse({"predictions": [{"label": "yes"}, {"error": {"type": "invalid_features"}}]})


def test_a_good_row_refused_in_a_batch_is_a_failure() -> None:
    """The row's error is the failure's reason."""
    tally = drive(half, LoadPlan(rate=5000, count=1, batch=2))
    assert tally.failed == 1
    assert tally.last_failure == "row refused: {'type': 'invalid_features'}"


@pytest.mark.parametrize(("label", "agreed"), [("yes", 4), ("no", 0)])
def test_answers_are_compared_with_true_labels(label: str, agreed: int) -> None:
    """How many labels were known, and how many answers agree."""
    tally = drive(strict, LoadPlan(rate=5000, count=4), label=label)
    assert (tally.labelled, tally.correct) == (4, agreed)


@pytest.mark.parametrize("body", ["<html>", "[]", "3", '{"predictions": 3}', '{"predictions": []}'])
def test_an_answer_of_another_shape_is_a_failure(body: str) -> None:
    """Whatever stands at that address, traffic goes on."""

    async def other(_: Request) -> Response:
        return Response(body)

    assert drive(other, LoadPlan(rate=5000, count=2)).failed == 2


def test_a_slow_request_sends_its_body_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body arrives whole, in many pieces, and does not count for the latency."""
    monkeypatch.setattr(load_module, "SLOW_BODY_SECONDS", 0.02)
    pieces: list[bytes] = []

    async def listen(request: Request) -> Response:
        pieces.extend([piece async for piece in request.stream()])
        return JSONResponse({"label": "yes"})

    tally = drive(listen, LoadPlan(rate=5000, count=1), misbehaviour=FaultConfig(slow=1))
    assert orjson.loads(b"".join(pieces)) == {"features": {"x": 1.0}}
    assert len(pieces) > 5
    assert tally.percentile(0.5) is None


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_a_percentile_is_the_value_that_a_share_stays_within(values: list[float], share: float) -> None:
    """At least that share of the values is as low, and it is one of them."""
    tally = TrafficCounts()
    tally.latencies.extend(values)
    value = tally.percentile(share)
    assert value in values
    assert sum(other <= value for other in values) >= share * len(values)
