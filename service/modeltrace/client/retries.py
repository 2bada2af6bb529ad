"""Send HTTP requests again if the service is overloaded or cannot be reached for a moment."""

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import httpx

from modeltrace.backoff import Backoff

RETRYABLE_STATUSES: Final = frozenset({
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
})  # fmt: skip
# A response that takes too long is not among them: the service may still be busy with the request.
RETRYABLE_ERRORS: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)
DEFAULT_BACKOFF: Final = Backoff(initial=0.2, maximum=5.0, max_retry_after=30.0)


class RetryTransport(httpx.BaseTransport):
    """A transport that repeats a request up to `retries` times, with exponential backoff or after `Retry-After`."""

    def __init__(self, transport: httpx.BaseTransport, retries: int, backoff: Backoff = DEFAULT_BACKOFF) -> None:
        self._transport = transport
        self._retries = retries
        self._backoff = backoff

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the last response."""
        for failures in range(1, self._retries + 1):
            try:
                response = self._transport.handle_request(request)
            except RETRYABLE_ERRORS:
                delay = self._backoff.delay(failures, None)
            else:
                if response.status_code not in RETRYABLE_STATUSES:
                    return response
                delay = self._backoff.delay(failures, _retry_after(response))
                response.close()
            time.sleep(delay)
        return self._transport.handle_request(request)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


class AsyncRetryTransport(httpx.AsyncBaseTransport):
    """The same for `asyncio`."""

    def __init__(self, transport: httpx.AsyncBaseTransport, retries: int, backoff: Backoff = DEFAULT_BACKOFF) -> None:
        self._transport = transport
        self._retries = retries
        self._backoff = backoff

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the last response."""
        for failures in range(1, self._retries + 1):
            try:
                response = await self._transport.handle_async_request(request)
            except RETRYABLE_ERRORS:
                delay = self._backoff.delay(failures, None)
            else:
                if response.status_code not in RETRYABLE_STATUSES:
                    return response
                delay = self._backoff.delay(failures, _retry_after(response))
                await response.aclose()
            await asyncio.sleep(delay)
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of the header `Retry-After`, which is a number or a date; `None` without a valid header."""
    text = response.headers.get("retry-after", "")
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
