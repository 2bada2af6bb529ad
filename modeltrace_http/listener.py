"""Accepts connections, as many as there may be.

The event loops' own servers go on accepting when file descriptors run out: asyncio logs each of thousands of attempts,
uvloop may stop listening. Here accepting pauses then, as it does when there are as many connections as there may be,
and goes on when one has ended. What waits meanwhile waits in the kernel's queue.
"""

import asyncio
import logging
import socket
import time
from asyncio import TimerHandle
from collections.abc import Callable
from typing import Final

from modeltrace_http.protocol import LimitedHttpProtocol

logger = logging.getLogger(__name__)

# Connections accepted in one turn of the event loop. More would leave less to the other workers that share the socket.
MAX_ACCEPTS: Final = 16
# Seconds until accepting is tried again after it failed.
RETRY_DELAY: Final = 1.0
# Seconds between two log records of the same kind.
LOG_INTERVAL: Final = 10.0


class Listener:
    """Listens on one socket; used by uvicorn in place of `asyncio.Server`."""

    def __init__(
        self,
        create_protocol: Callable[[], LimitedHttpProtocol],
        sock: socket.socket,
        *,
        max_connections: int,
        backlog: int = 2048,
    ) -> None:
        self._create_protocol = create_protocol
        self._sock = sock
        self._max_connections = max_connections
        self._backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._listening = False
        self._closed = False
        self._retry: TimerHandle | None = None
        self._attaching: set[asyncio.Task[None]] = set()
        self._logged_at: dict[str, float] = {}

    def start(self) -> None:
        """Listen."""
        self._sock.settimeout(0)
        self._sock.listen(self._backlog)
        self._resume()

    def close(self) -> None:
        """Stop listening; connections stay open."""
        self._closed = True
        self._pause()
        if self._retry is not None:
            self._retry.cancel()

    async def wait_closed(self) -> None:
        """Wait for nothing: uvicorn waits for the connections."""

    def _accept(self) -> None:
        """Accept what waits."""
        for _ in range(MAX_ACCEPTS):
            if self._open >= self._max_connections:
                self._log("full", f"{self._open} connections are open, as many as there may be: others wait")
                self._pause()
                return
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # File descriptors or memory ran out, or something rarer, which asyncio would log at each attempt.
                self._log("failed", f"cannot accept more than {self._open} connections for now: {error.strerror}")
                self._pause()
                self._retry = self._loop.call_later(RETRY_DELAY, self._resume)
                return
            self._open += 1
            task = self._loop.create_task(self._attach(connection))
            self._attaching.add(task)
            task.add_done_callback(self._attaching.discard)

    async def _attach(self, connection: socket.socket) -> None:
        """Hand a connection to a protocol of its own."""
        protocol = self._create_protocol()
        protocol.on_connection_lost = self._release
        try:
            connection.settimeout(0)
            # An answer's head and body are written apart; Nagle's algorithm would hold the second back.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
            if self._closed:
                protocol.shutdown()
        except OSError:  # the client is gone, or no file descriptor is left
            protocol.on_connection_lost = lambda: None
            connection.close()
            self._release()

    def _release(self) -> None:
        """Count a connection that has ended, and accept others."""
        self._open -= 1
        if not self._listening and self._retry is None and not self._closed:
            self._resume()

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock, self._accept)
        self._listening = True

    def _pause(self) -> None:
        if self._listening:
            self._loop.remove_reader(self._sock)
            self._listening = False

    def _log(self, kind: str, message: str) -> None:
        """Log a warning, each kind not more than once per interval."""
        now = time.monotonic()
        if now - self._logged_at.get(kind, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged_at[kind] = now
            logger.warning("%s", message)
