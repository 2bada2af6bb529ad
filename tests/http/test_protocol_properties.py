"""Whatever bytes arrive, in whatever packets: the protocol's invariants, without sockets."""

import asyncio
from contextlib import suppress
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from modeltrace_http.limits import HttpLimits
from modeltrace_http.protocol import LimitedHttpProtocol
from modeltrace_http.server import LimitedConfig

OFFER = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEA\r\n"
Seen = list[tuple[str, bytes, list[bytes]]]


class MemoryTransport:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = self.ended = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        assert not self.ended
        self.written += data

    def write_eof(self) -> None:
        """Write no more."""
        self.ended = True

    def close(self) -> None:
        """Be about to close."""
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it is about to close."""
        return self.closing

    def get_extra_info(self, _: str) -> None:
        """Know nothing."""

    def get_write_buffer_size(self) -> int:
        """Everything is sent at once."""
        return 0

    def pause_reading(self) -> None:
        """Leave it to the test, which sends on."""

    resume_reading = pause_reading


def exchange(packets: list[bytes], *, early: bool = False, header_bytes: int = 65_536) -> tuple[Seen, bytes]:
    """Feed packets to a connection; the requests that were read completely, and what was answered.

    After each packet a timer runs unless a request is being answered, or the connection is about to close.
    """
    seen: Seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", not early
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        seen.append((scope["path"], body, sorted(name for name, _ in scope["headers"])))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> bytes:
        config = LimitedConfig(app, HttpLimits(header_bytes=header_bytes), lifespan="off", access_log=False)
        config.load()
        state = ServerState()
        protocol = LimitedHttpProtocol(config, state, {}, limits=config.limits)
        transport = MemoryTransport()
        protocol.connection_made(transport)  # type: ignore[arg-type]  # what of it is used
        for packet in packets:
            if transport.closing:
                break
            protocol.data_received(packet)
            for _ in range(6):  # the application's turn
                await asyncio.sleep(0)
            answering = protocol.cycle is not None and not protocol.cycle.response_complete
            assert transport.closing or answering or protocol.timeout_keep_alive_task is not None
        protocol.connection_lost(None)
        for task in [*state.tasks]:  # a task that ends leaves the set
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return transport.written

    written = asyncio.run(run())
    return seen, written


def split(data: bytes, places: list[int]) -> list[bytes]:
    """Cut data into packets."""
    cuts = [0, *sorted({place % (len(data) + 1) for place in places} - {0, len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(cuts) if start < end]


PLACES = st.lists(st.integers(0, 10_000), max_size=12)
FRAGMENTS = st.lists(
    st.sampled_from([
        b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n", b"Host: x\r\n", OFFER, b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n",
        b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Content-Length: 3\r\n", b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"\r\n", b"abc", b"3\r\nabc\r\n",
        b"0\r\n\r\n", b"0\r\nHost: y\r\n\r\n", b";ext=" + b"e" * 300, b"n" * 700, b"\x00", b"\xff", b" ", b":",
    ]) | st.binary(max_size=8),
    max_size=16,
)  # fmt: skip


@given(fragments=FRAGMENTS, places=PLACES, early=st.booleans())
def test_no_bytes_break_a_connection(fragments: list[bytes], places: list[int], early: bool) -> None:
    """Nothing is raised, and no connection is left without an end."""
    exchange(split(b"".join(fragments), places), early=early, header_bytes=1024)


METHOD = st.sampled_from([b"POST", b"PUT", b"DELETE"])
MESSAGES = st.lists(
    st.tuples(METHOD, st.integers(0, 9), st.binary(max_size=300), st.booleans(), st.booleans()), min_size=1, max_size=4
)


def encode(messages: list[tuple[bytes, int, bytes, bool, bool]], *, offers: bool) -> bytes:
    """Write requests, with a length or in two chunks; those that offer an upgrade, with their offer or without."""
    data = b""
    for method, number, body, chunked, offered in messages:
        data += b"%b /%d HTTP/1.1\r\nHost: x\r\n%b" % (method, number, OFFER if offered and offers else b"")
        if chunked:
            pieces = [piece for piece in (body[:100], body[100:]) if piece]
            data += b"Transfer-Encoding: chunked\r\n\r\n"
            data += b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        else:
            data += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return data


@given(messages=MESSAGES, places=PLACES)
def test_offers_and_packets_change_nothing(messages: list[Any], places: list[int]) -> None:
    """Requests are read in order, each with its whole body, whether upgrades are offered and wherever packets end."""
    seen, written = exchange(split(encode(messages, offers=True), places) + [b""] * len(messages))

    assert [(path, body) for path, body, _ in seen] == [(f"/{number}", body) for _, number, body, _, _ in messages]
    assert written.count(b"HTTP/1.1 200 OK") == len(messages)
    plain, _ = exchange([encode(messages, offers=False)] + [b""] * len(messages))
    assert [request[:2] for request in plain] == [request[:2] for request in seen]
    assert all(b"upgrade" not in names for _, _, names in seen)
