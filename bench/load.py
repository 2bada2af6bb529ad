"""A closed-loop HTTP/1.1 load generator: a fixed number of connections with one request in flight each.

The usual Python clients need more CPU than the service that they measure. This one sends prepared bytes and parses
responses with the parser of the server. It needs about 20 µs of CPU per request.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import cast

import httptools
import uvloop

RESPONSE_TIMEOUT = 60


@dataclass(frozen=True)
class LoadResult:
    """The measurements of one run. Latencies are in seconds."""

    requests: int
    failed: int
    seconds: float
    latencies: Sequence[float]

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return self.requests / self.seconds

    def quantile(self, q: float) -> float:
        """Return the quantile `q` of the latencies, with `q` from 0 to 1."""
        ordered = sorted(self.latencies)
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


class _Connection(asyncio.Protocol):
    """A connection that sends a request, waits for the response and sends the next request."""

    def __init__(self, run: "_LoadRun") -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            "asyncio.Transport", transport
        )  # the transport of uvloop does not subclass asyncio.Transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._run.requests))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._run.record_response(self._parser.get_status_code(), now - self._sent)
        if now < self._run.deadline:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.on_connection_closed(broken=exc is not None)


class _LoadRun:
    def __init__(self, requests: Sequence[bytes], connections: int, until: float) -> None:
        self.requests = cycle(requests)
        self.deadline = until
        self.latencies: list[float] = []
        self.failed = 0
        self._open = connections
        self.done = asyncio.get_running_loop().create_future()

    def record_response(self, status: int, seconds: float) -> None:
        self.latencies.append(seconds)
        self.failed += status != 200

    def on_connection_closed(self, *, broken: bool) -> None:
        self.failed += broken
        self._open -= 1
        if not self._open:
            self.done.set_result(None)


async def _run_load(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> LoadResult:
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    run = _LoadRun(requests, connections, start + seconds)
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port)
    await asyncio.wait_for(run.done, seconds + RESPONSE_TIMEOUT)
    return LoadResult(len(run.latencies), run.failed, time.perf_counter() - start, run.latencies)


def run_load(port: int, requests: Sequence[bytes], *, connections: int = 16, seconds: float = 5.0) -> LoadResult:
    """Send `requests` repeatedly over `connections` for `seconds` to a loopback port.

    Raises:
        TimeoutError: a response was missing a minute after the end.
    """
    return uvloop.run(_run_load(port, requests, connections, seconds))


def encode_post(path: str, body: bytes) -> bytes:
    """Encode a POST request as bytes of HTTP/1.1."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
