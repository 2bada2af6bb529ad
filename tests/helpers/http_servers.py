"""Run the HTTP server of service and hub in a thread."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvicorn

from modeltrace_http.limits import HttpLimits
from modeltrace_http.server import LimitedConfig, limit_connections
from modeltrace_http.tls import TlsFiles

# Timeouts that have no effect unless a test changes them.
LIMITS = HttpLimits(
    max_header_bytes=4096, header_timeout=60, body_timeout=60, keep_alive_timeout=60, max_connections=1000
)


def changed_limits(**changes: float) -> HttpLimits:
    """Return the limits with some of them changed."""
    return LIMITS.model_copy(update=changes)


@dataclass
class RunningServer:
    """A server in a thread, and the complete requests that its application received."""

    port: int
    requests: list[tuple[dict[str, Any], bytes]]
    server: uvicorn.Server

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def exchange(self, *packets: bytes) -> bytes:
        """Send packets and return all received data until the server closes the connection."""
        with self.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for packet in packets:
                connection.sendall(packet)
            return read_all(connection)


class StartedServer(uvicorn.Server):
    """A server that sets an event when it listens."""

    def __init__(self, config: LimitedConfig) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server and set the event."""
        await super().startup(sockets)
        self.listening.set()


def read_all(connection: socket.socket) -> bytes:
    """Return all data until the other side closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


@contextmanager
def running_server(
    limits: HttpLimits = LIMITS,
    loop: Callable[[], Any] = asyncio.new_event_loop,
    *,
    tls: TlsFiles | None = None,
) -> Iterator[RunningServer]:
    """Run a server whose application returns the size of each body; `/early` does not read the body."""
    requests: list[tuple[dict[str, Any], bytes]] = []

    async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        assert scope["type"] == "http"
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        requests.append((scope, body))
        content = bytes(2**24) if scope["path"] == "/large" else b"%d" % len(body)
        headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    listener = socket.create_server(("127.0.0.1", 0))
    config = LimitedConfig(app, limits, lifespan="off", access_log=False, timeout_graceful_shutdown=1)
    server = StartedServer(config)

    def run() -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            limit_connections(runner.get_loop(), limits, tls=tls)
            runner.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=run)
    thread.start()
    assert server.listening.wait(20)
    try:
        yield RunningServer(listener.getsockname()[1], requests, server)
    finally:
        server.should_exit = True
        thread.join(20)
