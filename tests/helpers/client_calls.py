"""Call `modeltrace.Client` and `AsyncClient` in the same way, with responses of a test."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from modeltrace.client.client import AsyncClient, Client

URL = "http://service.test"
PREDICTED = {
    "prediction_id": "p",
    "label": "a",
    "confidence": 0.5,
    "model": {"name": "m", "version": "1"},
    "trace_id": "t",
}
Respond = Callable[[httpx.Request], httpx.Response]
# A function that calls a method of `Client` or `AsyncClient`; all tests run for both.
Call = Callable[..., Any]


def call_sync(method: str, arguments: tuple[Any, ...], respond: Respond, **options: Any) -> Any:
    """Call a method of `Client`."""
    with Client(URL, api_key="a key of the tests", transport=httpx.MockTransport(respond)) as client:
        return getattr(client, method)(*arguments, **options)


def call_async(method: str, arguments: tuple[Any, ...], respond: Respond, **options: Any) -> Any:
    """Call a method of `AsyncClient`."""

    async def run() -> Any:
        transport = httpx.MockTransport(respond)
        async with AsyncClient(URL, api_key="a key of the tests", transport=transport) as client:
            return await getattr(client, method)(*arguments, **options)

    return asyncio.run(run())


class Responses:
    """Responds with a sequence of responses and errors, and stores the requests."""

    def __init__(self, *responses: httpx.Response | type[httpx.TransportError]) -> None:
        self._responses = iter(responses)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Return the next response or raise the next error."""
        self.requests.append(request)
        response = next(self._responses)
        if isinstance(response, httpx.Response):
            return response
        raise response("a failure of the tests", request=request)


def busy(**headers: str) -> httpx.Response:
    """Return a response of a service that has too much to do."""
    return httpx.Response(503, headers=headers, json={"error": {"type": "busy", "message": "later"}, "trace_id": "t"})


def predicted() -> httpx.Response:
    """Return a prediction."""
    return httpx.Response(200, json=PREDICTED)
