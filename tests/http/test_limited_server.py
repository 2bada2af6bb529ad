"""The HTTP server of service and hub: `Upgrade` headers, limits of headers, times and connections."""

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import uvloop

from modeltrace_http.limits import MIN_CONNECTIONS, RESERVED_FILES, connection_limit
from modeltrace_http.listener import Listener
from tests.helpers.http_servers import RunningServer, changed_limits, read_all, running_server
from tests.helpers.processes import wait_until

pytestmark = pytest.mark.slow

UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAU",
)


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def shared(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """Run a server with a small header limit and long timeouts, with each event loop."""
    with running_server(loop=request.param) as server:
        yield server


@pytest.fixture
def server(shared: RunningServer) -> RunningServer:
    """Return the shared server without the requests of other tests."""
    shared.requests.clear()
    return shared


def request(path: str = "/", *headers: bytes, body: bytes = b"", method: str = "POST") -> bytes:
    """Return a request with `Connection: close`."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, b"Connection: close", b"", body])


def head(*lines: bytes) -> bytes:
    """Return the head of a POST request with these header lines."""
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: localhost", *lines, b"", b""])


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0, HTTP/1.1", b"unknown"])
@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_an_upgrade_is_ignored(server: RunningServer, upgrade: bytes, size: int) -> None:
    """The request is processed as HTTP/1.1 with its body and without `Upgrade` headers."""
    upgrade_headers = (b"Connection: close, Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAEA")
    received = server.exchange(head(*upgrade_headers, b"Content-Length: %d" % size) + bytes(size))

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\n%d" % size)
    ((scope, body),) = server.requests
    assert body == bytes(size)
    assert dict(scope["headers"]).keys() == {b"host", b"connection", b"content-length"}


def test_an_upgrade_with_a_chunked_body_in_packets(server: RunningServer) -> None:
    """The body is complete if each byte is a packet."""
    sent = head(*UPGRADE, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(sent)):
            connection.sendall(sent[index : index + 1])
        wait_until(lambda: len(server.requests) == 1, description="the request")

    assert server.requests[0][1] == b"hello, world"


def test_an_upgrade_among_pipelined_requests(server: RunningServer) -> None:
    """Requests before and after it in the same packet are answered in order."""
    upgrade = head(*UPGRADE, b"Content-Length: 3") + b"two"
    received = server.exchange(head(b"Content-Length: 1") + b"1" + upgrade + request(body=b"three"))

    assert [body for _, body in server.requests] == [b"1", b"two", b"three"]
    assert received.count(b"HTTP/1.1 200 OK") == 3


def test_an_incomplete_body_is_not_an_empty_body(server: RunningServer) -> None:
    """If a part of the body is missing, the application does not receive a complete request."""
    with server.connect() as connection:
        connection.sendall(head(*UPGRADE, b"Content-Length: 10") + b"half")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""

    assert server.requests == []


def test_expect_continue(server: RunningServer) -> None:
    """The server sends `100 Continue` when the application reads the body, also with `Upgrade` headers."""
    for headers in ((), UPGRADE):
        with server.connect() as connection:
            connection.sendall(head(*headers, b"Content-Length: 2", b"Expect: 100-continue"))
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"ok")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_an_early_response_to_expect_continue_closes_the_connection(server: RunningServer) -> None:
    """The client may still send the body or not, so no further request is read."""
    sent = head(b"Content-Length: 2", b"Expect: 100-continue").replace(b"POST /", b"POST /early", 1)

    assert server.exchange(sent).startswith(b"HTTP/1.1 200 OK")


def test_a_broken_body_has_no_second_response(server: RunningServer) -> None:
    """A request that was answered before its body arrived has no error response; the connection is closed."""
    with server.connect() as connection:
        connection.sendall(head(b"Transfer-Encoding: chunked").replace(b"POST /", b"POST /early", 1))
        wait_until(lambda: server.requests, description="the response")
        connection.sendall(b"no chunk\r\n")
        assert read_all(connection).count(b"HTTP/1.1 ") == 1


def test_a_request_is_answered_before_a_broken_pipelined_one() -> None:
    """The broken request has no response, and the connection is closed."""
    with running_server() as server:
        received = server.exchange(head(b"Content-Length: 2") + b"okno HTTP\r\n\r\n")

    assert received.count(b"HTTP/1.1 ") == received.count(b"HTTP/1.1 200 OK") == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 100_000, 414),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"n" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"n" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"v" * 100_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 431),
        (b"\r\n" * 50_000, 431),
        (b"no HTTP\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET /?q=\xff HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    ],
    ids=[
        "url",
        "url-complete",
        "name",
        "second-name",
        "value",
        "many",
        "many-complete",
        "blank-lines",
        "no-http",
        "path-not-encoded",
        "query-not-encoded",
        "h2",
        "connect",
        "tls",
    ],
)
def test_invalid_and_long_heads_are_rejected(server: RunningServer, sent: bytes, status: int) -> None:
    """The response says why, and the application does not receive the request."""
    with server.connect() as connection:
        for start in range(0, len(sent), 2000):
            with suppress(ConnectionError):
                connection.sendall(sent[start : start + 2000])
        received = read_all(connection)

    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in received
    assert server.requests == []


@pytest.mark.parametrize("endless", [b"0\r\n" + b"t" * 50_000, b"1;" + b"e" * 50_000], ids=["trailers", "extensions"])
def test_trailers_and_chunk_extensions_are_limited(server: RunningServer, endless: bytes) -> None:
    """Trailers and chunk extensions have the same limit as heads."""
    with server.connect() as connection:
        connection.sendall(head(b"Transfer-Encoding: chunked") + b"2\r\nok\r\n")
        for start in range(0, len(endless), 2000):
            with suppress(ConnectionError):
                connection.sendall(endless[start : start + 2000])
        assert read_all(connection).startswith((b"HTTP/1.1 431 ", b""))

    assert server.requests == []


def test_trailers_are_not_headers(server: RunningServer) -> None:
    """A client cannot add headers after the body."""
    server.exchange(
        head(b"Transfer-Encoding: chunked", b"Connection: close") + b"2\r\nok\r\n0\r\nHost: other\r\nX-Key: y\r\n\r\n"
    )

    ((scope, body),) = server.requests
    assert body == b"ok"
    assert [value for name, value in scope["headers"] if name in (b"host", b"x-key")] == [b"localhost"]


def test_a_long_body_in_one_packet_with_the_next_head(server: RunningServer) -> None:
    """The header limit does not apply to bodies, pipelined or not."""
    server.exchange(head(b"Content-Length: 100000") + bytes(100_000) + request(body=bytes(50_000)))

    assert [len(body) for _, body in server.requests] == [100_000, 50_000]


@pytest.mark.parametrize(
    ("sent", "response"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"POST / HTT", b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408 "),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT", b"HTTP/1.1 200 OK"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", b"HTTP/1.1 200 OK"),
    ],
    ids=["nothing", "blank-line", "half-line", "half-head", "half-second", "idle", "idle-blank-line", "half-body"],
)
def test_connections_without_a_complete_request_are_closed(sent: bytes, response: bytes) -> None:
    """A connection on which no request is processed is closed after a timeout."""
    limits = changed_limits(header_timeout=0.2, body_timeout=0.2, keep_alive_timeout=0.2)
    with running_server(limits) as server:
        received = server.exchange(*filter(None, [sent]))

    assert received.startswith(response)
    assert bool(received) == bool(response)


def test_a_slowly_sent_head_does_not_extend_its_timeout() -> None:
    """A connection cannot be kept open with single bytes."""
    with running_server(changed_limits(header_timeout=0.3)) as server, server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def is_rejected() -> bool:
            try:
                connection.sendall(b"X")
                connection.settimeout(0.02)
                return b"408" in connection.recv(1000)
            except TimeoutError:
                return False

        connection.sendall(b"GET / HTTP/1.1\r\n")
        wait_until(is_rejected, description="408")


def test_a_request_in_progress_does_not_time_out() -> None:
    """Timeouts apply to sending and reading by the client, not to the processing of the request."""
    with (
        running_server(changed_limits(header_timeout=0.2, keep_alive_timeout=0.2)) as server,
        server.connect() as connection,
    ):
        connection.sendall(head(b"Content-Length: 4", b"Connection: close") + b"ab")
        threading.Event().wait(0.6)
        connection.sendall(b"cd")
        assert read_all(connection).endswith(b"\r\n\r\n4")


def test_a_client_that_does_not_read_is_disconnected() -> None:
    """A response that the client does not read is discarded after a timeout."""
    with running_server(changed_limits(body_timeout=0.2)) as server, server.connect() as connection:
        connection.sendall(request("/large", method="GET"))
        wait_until(lambda: server.requests, description="the request")
        wait_until(lambda: not server.server.server_state.connections, description="the connection to be closed")


def test_connections_above_the_limit_wait() -> None:
    """Further connections are accepted and answered when others close."""
    with running_server(changed_limits(max_connections=3)) as server:
        idle = [server.connect() for _ in range(3)]
        wait_until(lambda: len(server.server.server_state.connections) == 3, description="three connections")
        with server.connect() as fourth:
            fourth.sendall(request())
            fourth.settimeout(0.2)
            with pytest.raises(TimeoutError):
                fourth.recv(100)
            idle[0].close()
            fourth.settimeout(20)
            assert read_all(fourth).startswith(b"HTTP/1.1 200 OK")
        for connection in idle:
            connection.close()


class ExhaustedSocket:
    """A listening socket whose `accept` fails."""

    def __init__(self, sock: socket.socket, code: int) -> None:
        self._sock = sock
        self.code = code
        self.attempts = 0
        self.exhausted = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def accept(self) -> Any:
        """Raise an error while the socket is exhausted."""
        self.attempts += 1
        if self.exhausted:
            raise OSError(self.code, os.strerror(self.code))
        return self._sock.accept()


class RecordedLoop:
    """An event loop that only records its calls."""

    def __init__(self) -> None:
        self.readers: list[object] = []
        self.timers: list[Callable[[], object]] = []
        self.tasks = 0

    def add_reader(self, sock: object, _: object) -> None:
        """Record the reader of a socket."""
        self.readers.append(sock)

    def remove_reader(self, sock: object) -> None:
        """Remove the reader of a socket."""
        self.readers.remove(sock)

    def call_later(self, _: float, callback: Callable[[], object]) -> None:
        """Record a timer."""
        self.timers.append(callback)

    def create_task(self, coroutine: Any) -> Any:
        """Count an accepted connection."""
        coroutine.cr_frame.f_locals["connection"].close()
        coroutine.close()
        self.tasks += 1
        return asyncio.Future(loop=asyncio.get_running_loop())


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EPERM], ids=errno.errorcode.get)
def test_the_listener_pauses_when_accept_fails(caplog: pytest.LogCaptureFixture, code: int) -> None:
    """It retries once per delay and logs once per interval; waiting connections are accepted afterwards."""

    async def check() -> None:
        with socket.create_server(("127.0.0.1", 0)) as real, socket.create_connection(real.getsockname()):
            sock, loop = ExhaustedSocket(real, code), RecordedLoop()
            listener = Listener(lambda: None, sock, max_connections=10)  # type: ignore[arg-type]  # not called
            listener._loop = loop  # type: ignore[assignment]  # it has the methods that are used
            listener.start()
            for attempts in (1, 2):
                assert loop.readers == [sock]
                listener._accept()
                assert (loop.readers, sock.attempts) == ([], attempts)
                loop.timers.pop()()
            sock.exhausted = False
            listener._accept()
            assert (loop.tasks, loop.timers) == (1, [])

    caplog.set_level(logging.WARNING)
    asyncio.run(check())

    assert [record.getMessage() for record in caplog.records] == [
        f"cannot accept more than 0 connections for now: {os.strerror(code)}"
    ]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_accepted_sockets_have_nodelay(loop: Callable[[], Any]) -> None:
    """Otherwise the end of a response waits for the client's delayed acknowledgement."""
    with running_server(loop=loop) as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        client.post("/")
        (connection,) = server.server.server_state.connections
        sock = connection.transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_connection_limit_follows_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves file descriptors for other purposes, but allows a minimum of connections."""

    def limit_for(files: int) -> int:
        monkeypatch.setattr("modeltrace_http.limits.resource.getrlimit", lambda _: (files, files))
        return connection_limit(4096, servers=2)

    assert limit_for(2 * 4096 + RESERVED_FILES) == 4096
    assert limit_for(1024) == (1024 - RESERVED_FILES) // 2
    assert limit_for(64) == MIN_CONNECTIONS
