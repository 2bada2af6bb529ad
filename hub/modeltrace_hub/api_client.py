"""Call the JSON API: that of a running hub, or that of an application in this process."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote

import httpx

from modeltrace_hub.errors import ApiError, ArgumentError

TIMEOUT_SECONDS: Final = 120.0  # the hub ends a query before

Parameters = Sequence[tuple[str, str]]


class Api(Protocol):
    """The JSON API of a hub."""

    url: str | None

    def get(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return the body of a response.

        Raises:
            ApiError: the hub cannot be reached, or the response is an error.
            ArgumentError: the hub rejects a parameter.
        """

    async def fetch(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return `get`, for a caller in an event loop, which is not blocked."""


class HubApi:
    """The API of a running hub."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        self.url: str | None = url
        self._client = client

    def get(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return the body of a response.

        Raises:
            ApiError: the hub cannot be reached, or the response is an error.
            ArgumentError: the hub rejects a parameter.
        """
        try:
            response = self._client.get(f"{self.url}{path}", params=list(parameters))
        except httpx.HTTPError as error:
            raise ApiError(
                f"No hub answers at {self.url} ({error or type(error).__name__}). Start one with modeltrace-hub, or "
                "name its address with --url, or a file with --database."
            ) from None
        return _read_response(response, self.url)

    async def fetch(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return `get`, for a caller in an event loop, which is not blocked."""
        return await asyncio.to_thread(self.get, path, parameters)


class InProcessApi:
    """The API of an application in this process."""

    def __init__(self, app: Any, *, url: str | None = None, key: str | None = None) -> None:  # noqa: ANN401  any ASGI application
        self.url = url
        self._transport = httpx.ASGITransport(app)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return the body of a response. Call this in a thread without an event loop.

        Raises:
            ApiError: the response is an error.
            ArgumentError: a parameter is rejected.
        """
        return asyncio.run(self.fetch(path, parameters))

    async def fetch(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return `get`, in the event loop of the caller. Call a running application in its own loop only."""
        async with httpx.AsyncClient(
            transport=self._transport, base_url="http://127.0.0.1", headers=self._headers, timeout=TIMEOUT_SECONDS
        ) as client:
            return _read_response(await client.get(path, params=list(parameters)), None)


def _read_response(response: httpx.Response, url: str | None) -> bytes:
    """Return the body.

    Raises:
        ApiError: the response is an error.
        ArgumentError: a parameter is rejected.
    """
    if response.is_success:
        return response.content
    try:
        error = response.json()["error"]
        message = str(error["message"])
    except (ValueError, KeyError, TypeError):
        raise ApiError(f"{url} is not a hub: it answered {response.status_code}. Check --url.") from None
    if response.status_code == 401:
        message = "The hub needs its key: set MODELTRACE_HUB_KEY, or name a file that has it with --key-file."
    raise ArgumentError(message) if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY else ApiError(message)


def quote_segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")
