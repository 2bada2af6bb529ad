"""Invariants of the protocol for any bytes in any packets, tested without sockets."""

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

UPGRADE = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEA\r\n"
Requests = list[tuple[str, bytes, list[bytes]]]


class MemoryTransport:
    """A transport that stores the written data."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = self.ended = False

    def write(self, data: bytes) -> None:
        """Store the data."""
        assert not self.ended
        self.written += data

    def write_eof(self) -> None:
        """End the data."""
        self.ended = True

    def close(self) -> None:
        """Start closing."""
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        """Return whether the transport is closing."""
        return self.closing

    def get_extra_info(self, _: str) -> None:
        """Return no information."""

    def get_write_buffer_size(self) -> int:
        """Return 0, since all data is sent at once."""
        return 0

    def pause_reading(self) -> None:
        """Do nothing: the test continues to send."""

    resume_reading = pause_reading


def exchange(packets: list[bytes], *, early: bool = False, header_bytes: int = 65_536) -> tuple[Requests, bytes]:
    """Feed packets to a connection and return the complete requests and the written data.

    After each packet, a timer must run unless a request is in progress or the connection is closing.
    """
    requests: Requests = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", not early
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        requests.append((scope["path"], body, sorted(name for name, _ in scope["headers"])))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> bytes:
        config = LimitedConfig(app, HttpLimits(max_header_bytes=header_bytes), lifespan="off", access_log=False)
        config.load()
        state = ServerState()
        protocol = LimitedHttpProtocol(config, state, {}, limits=config.limits)
        transport = MemoryTransport()
        protocol.connection_made(transport)  # type: ignore[arg-type]  # it has the methods that are used
        for packet in packets:
            if transport.closing:
                break
            protocol.data_received(packet)
            for _ in range(6):  # runs the application
                await asyncio.sleep(0)
            in_progress = protocol.cycle is not None and not protocol.cycle.response_complete
            assert transport.closing or in_progress or protocol.timeout_keep_alive_task is not None
        protocol.connection_lost(None)
        for task in [*state.tasks]:  # completed tasks leave the set
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return transport.written

    written = asyncio.run(run())
    return requests, written


def split(data: bytes, positions: list[int]) -> list[bytes]:
    """Split data into packets at these positions."""
    cuts = [0, *sorted({position % (len(data) + 1) for position in positions} - {0, len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(cuts) if start < end]


POSITIONS = st.lists(st.integers(0, 10_000), max_size=12)
FRAGMENTS = st.lists(
    st.sampled_from([
        b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n", b"Host: x\r\n", UPGRADE, b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n",
        b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Content-Length: 3\r\n", b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"\r\n", b"abc", b"3\r\nabc\r\n",
        b"0\r\n\r\n", b"0\r\nHost: y\r\n\r\n", b";ext=" + b"e" * 300, b"n" * 700, b"\x00", b"\xff", b" ", b":",
    ]) | st.binary(max_size=8),
    max_size=16,
)  # fmt: skip


@given(fragments=FRAGMENTS, positions=POSITIONS, early=st.booleans())
def test_any_bytes_are_handled(fragments: list[bytes], positions: list[int], early: bool) -> None:
    """No exception is raised, and no connection stays open without a timer."""
    exchange(split(b"".join(fragments), positions), early=early, header_bytes=1024)


METHOD = st.sampled_from([b"POST", b"PUT", b"DELETE"])
MESSAGES = st.lists(
    st.tuples(METHOD, st.integers(0, 9), st.binary(max_size=300), st.booleans(), st.booleans()), min_size=1, max_size=4
)


def encode(messages: list[tuple[bytes, int, bytes, bool, bool]], *, upgrades: bool) -> bytes:
    """Encode requests with a length or in two chunks; `upgrades` includes their `Upgrade` headers."""
    data = b""
    for method, number, body, chunked, upgrade in messages:
        data += b"%b /%d HTTP/1.1\r\nHost: x\r\n%b" % (method, number, UPGRADE if upgrade and upgrades else b"")
        if chunked:
            chunks = [chunk for chunk in (body[:100], body[100:]) if chunk]
            data += b"Transfer-Encoding: chunked\r\n\r\n"
            data += b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        else:
            data += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return data


@given(messages=MESSAGES, positions=POSITIONS)
def test_upgrades_and_packets_do_not_change_requests(messages: list[Any], positions: list[int]) -> None:
    """Requests are received in order with their bodies, for any `Upgrade` headers and packet boundaries."""
    requests, written = exchange(split(encode(messages, upgrades=True), positions) + [b""] * len(messages))

    assert [(path, body) for path, body, _ in requests] == [(f"/{number}", body) for _, number, body, _, _ in messages]
    assert written.count(b"HTTP/1.1 200 OK") == len(messages)
    plain, _ = exchange([encode(messages, upgrades=False)] + [b""] * len(messages))
    assert [request[:2] for request in plain] == [request[:2] for request in requests]
    assert all(b"upgrade" not in names for _, _, names in requests)
