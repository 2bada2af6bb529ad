"""Accept a limited number of connections.

If file descriptors run out, the standard servers of asyncio and uvloop continue to accept: asyncio logs thousands of
failed attempts, and uvloop may stop listening. This listener pauses when file descriptors run out or the connection
limit is reached, and resumes when a connection closes. Meanwhile, connections wait in the kernel's queue.
"""

import asyncio
import logging
import socket
import ssl
import time
from asyncio import TimerHandle
from collections.abc import Callable
from typing import Final

from modeltrace_http.protocol import LimitedHttpProtocol
from modeltrace_http.tls import Reloader

logger = logging.getLogger(__name__)

# Connections that wait in the kernel's queue.
BACKLOG: Final = 2048
# Connections accepted per iteration of the event loop, so that workers that share the socket get a similar number.
MAX_ACCEPTS: Final = 16
# Seconds until the listener accepts again after an error.
RETRY_DELAY: Final = 1.0
# Seconds between two log records of the same kind.
LOG_INTERVAL: Final = 10.0


class Listener:
    """Listens on one socket. It replaces `asyncio.Server` in uvicorn."""

    def __init__(
        self,
        create_protocol: Callable[[], LimitedHttpProtocol],
        sock: socket.socket,
        *,
        max_connections: int,
        tls: "Reloader[ssl.SSLContext] | None" = None,
    ) -> None:
        self._tls = tls
        self._create_protocol = create_protocol
        self._sock = sock
        self._max_connections = max_connections
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._listening = False
        self._closed = False
        self._retry: TimerHandle | None = None
        self._attaching: set[asyncio.Task[None]] = set()
        self._logged_at: dict[str, float] = {}

    def start(self) -> None:
        """Start listening."""
        self._sock.settimeout(0)
        self._sock.listen(BACKLOG)
        self._resume_accepting()

    def close(self) -> None:
        """Stop listening. Open connections stay open."""
        self._closed = True
        self._pause_accepting()
        if self._retry is not None:
            self._retry.cancel()

    async def wait_closed(self) -> None:
        """Do nothing, since uvicorn itself waits for the connections."""

    def _accept(self) -> None:
        """Accept waiting connections up to the limit."""
        for _ in range(MAX_ACCEPTS):
            if self._open >= self._max_connections:
                self._log("full", f"the limit of {self._open} open connections is reached: others wait")
                self._pause_accepting()
                return
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No file descriptors or memory left, or a rarer error.
                self._log("failed", f"cannot accept more than {self._open} connections for now: {error.strerror}")
                self._pause_accepting()
                self._retry = self._loop.call_later(RETRY_DELAY, self._resume_accepting)
                return
            self._open += 1
            task = self._loop.create_task(self._attach(connection))
            self._attaching.add(task)
            task.add_done_callback(self._attaching.discard)

    async def _attach(self, connection: socket.socket) -> None:
        """Create the protocol of a connection."""
        protocol = self._create_protocol()
        protocol.on_connection_lost = self._release
        try:
            connection.settimeout(0)
            # Headers and body of a response are separate writes; Nagle's algorithm would delay the second.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: protocol, connection)
            else:
                context, timeout = self._tls.current(), protocol.limits.header_timeout
                await self._loop.connect_accepted_socket(
                    lambda: protocol, connection, ssl=context, ssl_handshake_timeout=timeout
                )
            if self._closed:
                protocol.shutdown()
        except OSError:  # the client disconnected, its handshake failed, or no file descriptor is left
            protocol.on_connection_lost = lambda: None
            connection.close()
            self._release()

    def _release(self) -> None:
        """Count a closed connection and resume accepting."""
        self._open -= 1
        if not self._listening and self._retry is None and not self._closed:
            self._resume_accepting()

    def _resume_accepting(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock, self._accept)
        self._listening = True

    def _pause_accepting(self) -> None:
        if self._listening:
            self._loop.remove_reader(self._sock)
            self._listening = False

    def _log(self, kind: str, message: str) -> None:
        """Log a warning; each kind at most once per `LOG_INTERVAL`."""
        now = time.monotonic()
        if now - self._logged_at.get(kind, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged_at[kind] = now
            logger.warning("%s", message)
