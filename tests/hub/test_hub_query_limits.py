"""Expensive requests: few run at the same time, the others wait, and requests that read little do not wait for them."""

import asyncio
import threading
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Query, Request
from fastapi.responses import PlainTextResponse, Response

from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.query_limits import MAX_EXPENSIVE, QueryLimits
from modeltrace_hub.store import MAX_READERS

WAITING = 60  # more than the threads that all other requests share


class Blocker:
    """Endpoints that block until `released` is set, and how many of them ran at the same time."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def block(self) -> Response:
        """Block."""
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            assert self.released.wait(30)
        finally:
            with self._lock:
                self.running -= 1
        return PlainTextResponse("late")


@pytest.fixture
def blocker() -> Blocker:
    """Return the blocking endpoints of a test."""
    return Blocker()


@pytest.fixture
def app(blocker: Blocker) -> FastAPI:
    """Return an application with one blocking route, and two that block only with a filter."""
    limits = QueryLimits()

    def page(request: Request) -> Response:
        return blocker.block() if request.query_params.get("filter") else PlainTextResponse("page")

    def traces(filters: Annotated[TraceFilter, Query()]) -> Response:
        return blocker.block() if filters.conditions else PlainTextResponse(str(filters.limit))

    app = FastAPI()
    app.add_api_route("/slow", limits.expensive(blocker.block))
    app.add_api_route("/page", limits.expensive_if_filtered(page))
    app.add_api_route("/traces", limits.expensive_if_filtered(traces))
    return app


@pytest.mark.parametrize("path", ["/slow", "/page?filter=a+exists", "/traces?attr.a=1"])
def test_expensive_requests_delay_no_others(app: FastAPI, blocker: Blocker, path: str) -> None:
    """While many expensive requests wait, a request without a filter is answered; then all of them are answered."""

    async def run() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://hub", timeout=60) as client:
            slow = [asyncio.create_task(client.get(path)) for _ in range(WAITING)]
            while blocker.running < MAX_EXPENSIVE:  # noqa: ASYNC110  threads change it
                await asyncio.sleep(0.01)
            assert (await client.get("/page")).text == "page"
            assert (await client.get("/traces?limit=7")).text == "7"
            assert not any(task.done() for task in slow)
            blocker.released.set()
            assert {(await task).text for task in slow} == {"late"}

    asyncio.run(run())
    assert blocker.most == MAX_EXPENSIVE < MAX_READERS


def test_a_wrapped_route_keeps_its_parameters(app: FastAPI) -> None:
    """OpenAPI describes the parameters of the endpoint, and invalid ones are refused."""
    (operation,) = app.openapi()["paths"]["/traces"].values()
    assert {"filter", "limit", "since"} <= {parameter["name"] for parameter in operation["parameters"]}

    async def status() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
            return (await client.get("/traces?limit=0")).status_code

    assert asyncio.run(status()) == 422
