"""Labels are sent when they are due, and every one of them is accounted for."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modeltrace.traffic import labels as labels_module
from modeltrace.traffic.fault_injection import make_rng
from modeltrace.traffic.labels import FeedbackConfig, LabelSender

Items = list[dict[str, Any]]


def tell(
    answer: Callable[[Items], Response], number: int, feedback: FeedbackConfig
) -> tuple[list[Items], int, list[str]]:
    """Know so many labels, and send them to a service that answers so; what it got, what was taken, what failed."""
    got: list[Items] = []
    taken: list[int] = []
    failed: list[str] = []

    async def feed(request: Request) -> Response:
        got.append((await request.json())["items"])
        return answer(got[-1])

    async def run() -> None:
        transport = httpx.ASGITransport(Starlette(routes=[Route("/feedback", feed, methods=["POST"])]))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            some = LabelSender(client, feedback, make_rng(1), on_sent=taken.append, on_failed=failed.append)
            for one in range(number):
                some.schedule(str(one), "yes")
            some.schedule("nobody knows", None)
            ended = asyncio.Event()
            ended.set()
            await some.run(ended)

    asyncio.run(run())
    return got, sum(taken), failed


def takes(items: Items) -> Response:
    """All of them are new."""
    return JSONResponse({"results": [{"status": "new"} for _ in items]})


def test_all_are_sent_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in order, a bounded number a request; none whose truth is not known."""
    monkeypatch.setattr(labels_module, "MAX_LABELS_PER_REQUEST", 10)
    got, taken, failed = tell(takes, 25, FeedbackConfig(1.0, 3600))
    assert [len(items) for items in got] == [10, 10, 5]
    assert [one["prediction_id"] for items in got for one in items] == [str(n) for n in range(25)]
    assert (taken, failed) == (25, [])


def test_a_share_is_sent() -> None:
    """Chance decides of each."""
    _, taken, _ = tell(takes, 1000, FeedbackConfig(0.3, 0))
    assert 240 < taken < 360


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: JSONResponse({"error": {"type": "store_unavailable"}}, 503), "HTTP 503"),
        (lambda _: Response("{}"), "results"),
        (lambda _: Response("no"), "JSON"),
        (lambda items: JSONResponse({"results": [{"error": {"type": "invalid_label"}} for _ in items]}), "3 refused"),
    ],
)
def test_what_is_not_taken_is_a_failure(answer: Callable[[Items], Response], why: str) -> None:
    """With the reason; nothing is counted as taken."""
    _, taken, failed = tell(answer, 3, FeedbackConfig(1.0, 0))
    assert taken == 0
    assert len(failed) == 1
    assert why in failed[0]
