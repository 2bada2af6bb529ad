"""True labels are sent when they are due, and each is counted as accepted or failed."""

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
from modeltrace.traffic.counts import TrafficCounts
from modeltrace.traffic.fault_injection import make_rng
from modeltrace.traffic.labels import FeedbackConfig, LabelSender

Items = list[dict[str, Any]]


def send_labels(
    respond: Callable[[Items], Response], number: int, feedback: FeedbackConfig
) -> tuple[list[Items], TrafficCounts]:
    """Send labels to a service; return the received requests and the counts."""
    received: list[Items] = []
    counts = TrafficCounts()

    async def feedback_endpoint(request: Request) -> Response:
        received.append((await request.json())["items"])
        return respond(received[-1])

    async def run() -> None:
        transport = httpx.ASGITransport(Starlette(routes=[Route("/feedback", feedback_endpoint, methods=["POST"])]))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            sender = LabelSender(client, feedback, make_rng(1), counts)
            for prediction in range(number):
                sender.schedule(str(prediction), "yes")
            sender.schedule("no true label", None)
            no_more_labels = asyncio.Event()
            no_more_labels.set()
            await sender.run(no_more_labels)

    asyncio.run(run())
    return received, counts


def accept_all(items: Items) -> Response:
    """Accept all labels as new."""
    return JSONResponse({"results": [{"status": "new"} for _ in items]})


def test_all_labels_are_sent_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each known label is sent once, in order, in requests of bounded size."""
    monkeypatch.setattr(labels_module, "MAX_LABELS_PER_REQUEST", 10)
    received, counts = send_labels(accept_all, 25, FeedbackConfig(1.0, 3600))
    assert [len(items) for items in received] == [10, 10, 5]
    assert [item["prediction_id"] for items in received for item in items] == [str(n) for n in range(25)]
    assert (counts.labels, counts.failed) == (25, 0)


def test_share_of_labels_is_sent() -> None:
    """The labels that are sent are selected at random."""
    _, counts = send_labels(accept_all, 1000, FeedbackConfig(0.3, 0))
    assert 240 < counts.labels < 360


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        (lambda _: JSONResponse({"error": {"type": "store_unavailable"}}, 503), "HTTP 503"),
        (lambda _: Response("{}"), "results"),
        (lambda _: Response("no"), "JSON"),
        (lambda items: JSONResponse({"results": [{"error": {"type": "invalid_label"}} for _ in items]}), "3 rejected"),
    ],
)
def test_labels_that_are_not_accepted_are_a_failure(respond: Callable[[Items], Response], reason: str) -> None:
    """The failure contains the reason; no label is counted as accepted."""
    _, counts = send_labels(respond, 3, FeedbackConfig(1.0, 0))
    assert (counts.labels, counts.failed) == (0, 1)
    assert reason in (counts.last_failure or "")
