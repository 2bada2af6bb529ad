"""The HTTP server of service and hub: upgrade offers, limits for heads and times, connections."""

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import uvloop

from modeltrace_http.limits import MIN_CONNECTIONS, RESERVED_FILES, HttpLimits, connection_limit
from modeltrace_http.listener import Listener
from modeltrace_http.server import LimitedConfig, LimitedServer
from tests.helpers.processes import wait_until

pytestmark = pytest.mark.slow

# Long enough to be irrelevant unless a test is about it.
LIMITS = HttpLimits(header_bytes=4096, header_timeout=60, body_timeout=60, keep_alive_timeout=60, max_connections=1000)
OFFER = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAU",
)


@dataclass
class RunningServer:
    """A server in a thread, and the requests that its application has read."""

    port: int
    requests: list[tuple[dict[str, Any], bytes]]
    server: LimitedServer

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def exchange(self, *pieces: bytes) -> bytes:
        """Send pieces, each in a packet of its own, and return all that is answered until the server closes."""
        with self.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                connection.sendall(piece)
            return read_all(connection)


class StartedServer(LimitedServer):
    """A server that says when it listens."""

    def __init__(self, config: LimitedConfig) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.is_up.set()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


@contextmanager
def running_server(
    limits: HttpLimits = LIMITS, loop: Callable[[], Any] = asyncio.new_event_loop
) -> Iterator[RunningServer]:
    """Run a server whose application reads each request and answers its size; `/early` answers without reading."""
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
        answer = bytes(2**24) if scope["path"] == "/large" else b"%d" % len(body)
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    listener = socket.create_server(("127.0.0.1", 0))
    config = LimitedConfig(app, limits, lifespan="off", access_log=False, timeout_graceful_shutdown=1)
    server = StartedServer(config)

    def run() -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=run)
    thread.start()
    assert server.is_up.wait(20)
    try:
        yield RunningServer(listener.getsockname()[1], requests, server)
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def shared(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server with small limits for heads, and long times, on either event loop."""
    with running_server(loop=request.param) as server:
        yield server


@pytest.fixture
def server(shared: RunningServer) -> RunningServer:
    """The same, without the requests of other tests."""
    shared.requests.clear()
    return shared


def request(path: str = "/", *headers: bytes, body: bytes = b"", method: str = "POST") -> bytes:
    """A request that ends its connection."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, b"Connection: close", b"", body])


def head(*lines: bytes) -> bytes:
    """A head of a POST with these lines."""
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: localhost", *lines, b"", b""])


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0, HTTP/1.1", b"unknown"])
@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_an_offered_upgrade_is_ignored(server: RunningServer, upgrade: bytes, size: int) -> None:
    """The request is processed as HTTP/1.1, with its whole body, and without the headers of the offer."""
    offer = (b"Connection: close, Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAEA")
    answer = server.exchange(head(*offer, b"Content-Length: %d" % size) + bytes(size))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n%d" % size)
    ((scope, body),) = server.requests
    assert body == bytes(size)
    assert dict(scope["headers"]).keys() == {b"host", b"connection", b"content-length"}


def test_an_upgrade_with_a_chunked_body_in_packets(server: RunningServer) -> None:
    """Wherever packets end, the body is complete."""
    sent = head(*OFFER, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(sent)):
            connection.sendall(sent[place : place + 1])
        wait_until(lambda: len(server.requests) == 1, description="the request")

    assert server.requests[0][1] == b"hello, world"


def test_an_upgrade_among_pipelined_requests(server: RunningServer) -> None:
    """Requests before and after it, in one packet, are answered in order."""
    offers = head(*OFFER, b"Content-Length: 3") + b"two"
    answer = server.exchange(head(b"Content-Length: 1") + b"1" + offers + request(body=b"three"))

    assert [body for _, body in server.requests] == [b"1", b"two", b"three"]
    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_a_body_that_is_cut_off_is_no_empty_body(server: RunningServer) -> None:
    """Where the announced body does not arrive, the application reads no complete request."""
    with server.connect() as connection:
        connection.sendall(head(*OFFER, b"Content-Length: 10") + b"half")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""

    assert server.requests == []


def test_expect_continue(server: RunningServer) -> None:
    """The client is told to go on once the body is read, with an offer to upgrade as well."""
    for offer in ((), OFFER):
        with server.connect() as connection:
            connection.sendall(head(*offer, b"Content-Length: 2", b"Expect: 100-continue"))
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"ok")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_expect_continue_that_is_answered_early_ends_the_connection(server: RunningServer) -> None:
    """Whether the body still follows is not known, so no further request is read."""
    sent = head(b"Content-Length: 2", b"Expect: 100-continue").replace(b"POST /", b"POST /early", 1)

    assert server.exchange(sent).startswith(b"HTTP/1.1 200 OK")


def test_a_broken_body_gets_no_second_answer(server: RunningServer) -> None:
    """A request that was answered before its body came is not refused on top; the connection is closed."""
    with server.connect() as connection:
        connection.sendall(head(b"Transfer-Encoding: chunked").replace(b"POST /", b"POST /early", 1))
        wait_until(lambda: server.requests, description="the answer")
        connection.sendall(b"no chunk\r\n")
        assert read_all(connection).count(b"HTTP/1.1 ") == 1


def test_a_request_in_progress_is_answered_before_a_broken_one_behind_it() -> None:
    """What follows it is not answered, and the connection ends."""
    with running_server() as server:
        answer = server.exchange(head(b"Content-Length: 2") + b"okno HTTP\r\n\r\n")

    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 OK") == 1


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
def test_heads_are_limited(server: RunningServer, sent: bytes, status: int) -> None:
    """A head that is too long, or none, is refused with a reason; the application sees nothing of it."""
    with server.connect() as connection:
        for place in range(0, len(sent), 2000):
            with suppress(ConnectionError):
                connection.sendall(sent[place : place + 2000])
        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in answer
    assert server.requests == []


@pytest.mark.parametrize("endless", [b"0\r\n" + b"t" * 50_000, b"1;" + b"e" * 50_000], ids=["trailers", "extensions"])
def test_what_is_no_body_is_limited_after_the_head(server: RunningServer, endless: bytes) -> None:
    """Trailers and chunk extensions are bounded like heads."""
    with server.connect() as connection:
        connection.sendall(head(b"Transfer-Encoding: chunked") + b"2\r\nok\r\n")
        for place in range(0, len(endless), 2000):
            with suppress(ConnectionError):
                connection.sendall(endless[place : place + 2000])
        assert read_all(connection).startswith((b"HTTP/1.1 431 ", b""))

    assert server.requests == []


def test_trailers_are_no_headers(server: RunningServer) -> None:
    """What follows the body cannot pass for what stands before it."""
    server.exchange(
        head(b"Transfer-Encoding: chunked", b"Connection: close") + b"2\r\nok\r\n0\r\nHost: other\r\nX-Key: y\r\n\r\n"
    )

    ((scope, body),) = server.requests
    assert body == b"ok"
    assert [value for name, value in scope["headers"] if name in (b"host", b"x-key")] == [b"localhost"]


def test_a_long_body_in_one_packet_with_the_next_head(server: RunningServer) -> None:
    """Only heads count: bodies beyond the limit for heads are taken, pipelined or not."""
    server.exchange(head(b"Content-Length: 100000") + bytes(100_000) + request(body=bytes(50_000)))

    assert [len(body) for _, body in server.requests] == [100_000, 50_000]


@pytest.mark.parametrize(
    ("sent", "answered"),
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
def test_idle_and_half_sent_connections_are_closed(sent: bytes, answered: bytes) -> None:
    """Whatever a client has sent, a connection on which no request is processed ends by itself."""
    limits = replace(LIMITS, header_timeout=0.2, body_timeout=0.2, keep_alive_timeout=0.2)
    with running_server(limits) as server:
        answer = server.exchange(*filter(None, [sent]))

    assert answer.startswith(answered)
    assert bool(answer) == bool(answered)


def test_a_trickled_head_does_not_prolong_its_time() -> None:
    """A byte now and then keeps no connection open."""
    with running_server(replace(LIMITS, header_timeout=0.3)) as server, server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ended() -> bool:
            try:
                connection.sendall(b"X")
                connection.settimeout(0.02)
                return b"408" in connection.recv(1000)
            except TimeoutError:
                return False

        connection.sendall(b"GET / HTTP/1.1\r\n")
        wait_until(ended, description="408")


def test_a_request_in_progress_is_not_timed_out() -> None:
    """Times are limited for what a client sends and reads, not for how long its request is processed."""
    with (
        running_server(replace(LIMITS, header_timeout=0.2, keep_alive_timeout=0.2)) as server,
        server.connect() as connection,
    ):
        connection.sendall(head(b"Content-Length: 4", b"Connection: close") + b"ab")
        threading.Event().wait(0.6)
        connection.sendall(b"cd")
        assert read_all(connection).endswith(b"\r\n\r\n4")


def test_a_client_that_does_not_read_is_given_up() -> None:
    """An answer that nobody reads is not kept for ever."""
    with running_server(replace(LIMITS, body_timeout=0.2)) as server, server.connect() as connection:
        connection.sendall(request("/large", method="GET"))
        wait_until(lambda: server.requests, description="the request")
        wait_until(lambda: not server.server.server_state.connections, description="the connection to be given up")


def test_connections_above_the_limit_wait() -> None:
    """They are accepted, and answered, once others have ended."""
    with running_server(replace(LIMITS, max_connections=3)) as server:
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
    """A listening socket that the kernel gives no connection."""

    def __init__(self, sock: socket.socket, code: int) -> None:
        self._sock = sock
        self.code = code
        self.attempts = 0
        self.exhausted = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def accept(self) -> Any:
        """Fail, until it is no longer exhausted."""
        self.attempts += 1
        if self.exhausted:
            raise OSError(self.code, os.strerror(self.code))
        return self._sock.accept()


class RecordedLoop:
    """An event loop that only writes down what it is asked for."""

    def __init__(self) -> None:
        self.readers: list[object] = []
        self.timers: list[Callable[[], object]] = []
        self.tasks = 0

    def add_reader(self, sock: object, _: object) -> None:
        """Watch a socket."""
        self.readers.append(sock)

    def remove_reader(self, sock: object) -> None:
        """Watch it no more."""
        self.readers.remove(sock)

    def call_later(self, _: float, callback: Callable[[], object]) -> None:
        """Start a timer."""
        self.timers.append(callback)

    def create_task(self, coroutine: Any) -> Any:
        """Count a connection that was accepted."""
        coroutine.cr_frame.f_locals["connection"].close()
        coroutine.close()
        self.tasks += 1
        return asyncio.Future(loop=asyncio.get_running_loop())


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EPERM], ids=errno.errorcode.get)
def test_where_nothing_can_be_accepted_accepting_pauses(caplog: pytest.LogCaptureFixture, code: int) -> None:
    """It is tried once per pause and logged once per interval; connections that wait are accepted afterwards."""

    async def check() -> None:
        with socket.create_server(("127.0.0.1", 0)) as real, socket.create_connection(real.getsockname()):
            sock, loop = ExhaustedSocket(real, code), RecordedLoop()
            listener = Listener(lambda: None, sock, max_connections=10)  # type: ignore[arg-type]  # none is attached
            listener._loop = loop  # type: ignore[assignment]  # of which it uses these methods
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
    """Otherwise the end of an answer waits for the client's delayed acknowledgement."""
    with running_server(loop=loop) as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        client.post("/")
        (connection,) = server.server.server_state.connections
        sock = connection.transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_connections_leave_file_descriptors_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of connections is reduced to what the process may open, but not to nothing."""

    def limited(files: int) -> int:
        monkeypatch.setattr("modeltrace_http.limits.resource.getrlimit", lambda _: (files, files))
        return connection_limit(4096, servers=2)

    assert limited(2 * 4096 + RESERVED_FILES) == 4096
    assert limited(1024) == (1024 - RESERVED_FILES) // 2
    assert limited(64) == MIN_CONNECTIONS
