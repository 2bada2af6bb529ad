"""Hostile bytes on the gRPC port: every call ends, a call that succeeds is stored, and other senders are served."""

import socket
import struct
from collections.abc import Iterator

import grpc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modeltrace_hub.receive.signals import SIGNALS, TRACES, Signal
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.otlp_messages import log_request, metric_request, span, trace_request

REQUESTS = {"traces": trace_request, "metrics": metric_request, "logs": log_request}
# HTTP/2 frame types and flags (RFC 9113, section 6).
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x7
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

signals = st.sampled_from(SIGNALS)


@st.composite
def damaged_requests(draw: st.DrawFn, signal: Signal) -> bytes:
    """Draw a valid request with some bytes replaced, removed or repeated, or any bytes."""
    body = bytearray(REQUESTS[signal.name]().SerializeToString())
    for position, value in draw(st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=4)):
        body[position] = value
    start, end = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
    return draw(st.sampled_from([bytes(body), bytes(body[:end]), bytes(body) + bytes(body[start:end])]) | st.binary())


@pytest.fixture(scope="module")
def channel(hub: InProcessHub) -> Iterator[grpc.Channel]:
    """Yield a channel to the hub of the module."""
    with grpc.insecure_channel(hub.grpc_target) as channel:
        yield channel


@pytest.mark.slow
@given(data=st.data(), signal=signals, compression=st.sampled_from(grpc.Compression))
def test_success_means_that_every_record_is_stored_or_counted_as_rejected(
    hub: InProcessHub, channel: grpc.Channel, data: st.DataObject, signal: Signal, compression: grpc.Compression
) -> None:
    """If the status is OK, all received records are stored or rejected; any other status is a permanent error."""
    body = data.draw(damaged_requests(signal))
    before = hub.writer.stats.snapshot()[signal.name]
    try:
        answer = channel.unary_unary(f"/{signal.grpc_service}/Export")(body, timeout=60, compression=compression)
    except grpc.RpcError as error:
        assert error.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}  # noqa: PT017  both outcomes are right
        assert hub.writer.stats.snapshot()[signal.name].stored == before.stored
        return

    after = hub.writer.stats.snapshot()[signal.name]
    partial = signal.response_type.FromString(answer).partial_success
    rejected = getattr(partial, signal.rejected_field)
    assert after.stored - before.stored + rejected == after.received - before.received
    assert bool(partial.error_message) >= bool(rejected)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Encode an HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: str, value: str) -> bytes:
    """Encode a header in HPACK, as a literal without indexing and Huffman coding (RFC 7541, section 6.2.2)."""
    return b"\x00" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


def call(signal: Signal, encoding: str) -> bytes:
    """Encode the HEADERS frame of a call."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{signal.grpc_service}/Export",
        ":authority": "hub",
        "content-type": "application/grpc",
        "te": "trailers",
        "grpc-encoding": encoding,
    }
    return frame(HEADERS, END_HEADERS, 1, b"".join(literal(*item) for item in headers.items()))


def ends(connection: socket.socket) -> bool:
    """Return whether stream 1 or the connection ends before the timeout of the socket."""
    received = b""
    while True:
        while len(received) >= 9 and len(received) >= 9 + (size := int.from_bytes(received[:3])):
            kind, flags, stream = received[3], received[4], int.from_bytes(received[5:9])
            if kind in (RST_STREAM, GOAWAY) or (stream == 1 and flags & END_STREAM and kind in (HEADERS, DATA)):
                return True
            received = received[9 + size :]
        try:
            chunk = connection.recv(65536)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        if not chunk:
            return True
        received += chunk


def assert_is_served(hub: InProcessHub) -> None:
    """Check that a call of another sender succeeds and its span is stored."""
    stored = hub.writer.stats.snapshot()["traces"].stored
    with grpc.insecure_channel(hub.grpc_target) as channel:
        channel.unary_unary(f"/{TRACES.grpc_service}/Export")(trace_request(span()).SerializeToString(), timeout=60)
    assert hub.writer.stats.snapshot()["traces"].stored == stored + 1


@pytest.mark.slow
@example(signal=TRACES, encoding="gzip", compressed=1, declared=5, body=b"\x1f\x8b\x08\x00\x00")
@example(signal=TRACES, encoding="identity", compressed=1, declared=0, body=b"")
@example(signal=TRACES, encoding="identity", compressed=0, declared=5, body=b"\x0a")  # waits for more
@example(signal=TRACES, encoding="identity", compressed=0, declared=2**32 - 1, body=b"\x0a")
@given(
    signal=signals,
    encoding=st.sampled_from(["identity", "gzip", "deflate", "zstd", "br", ""]),
    compressed=st.sampled_from([0, 1, 2, 255]),
    declared=st.integers(0, 2**32 - 1) | st.integers(0, 64),
    body=st.binary(max_size=64),
)
def test_a_message_with_a_wrong_prefix_affects_no_other_sender(
    hub: InProcessHub, signal: Signal, encoding: str, compressed: int, declared: int, body: bytes
) -> None:
    """For any compression flag and length before a message, the call or its connection ends."""
    message = struct.pack(">BI", compressed, declared) + body
    host, port = hub.grpc_target.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0) + call(signal, encoding))
        connection.sendall(frame(DATA, END_STREAM, 1, message))
        connection.shutdown(socket.SHUT_WR)
        assert ends(connection)
    assert_is_served(hub)


@pytest.mark.slow
@given(content=st.binary(max_size=200), preface=st.booleans())
def test_bytes_that_are_not_http_2_end_only_their_connection(hub: InProcessHub, content: bytes, preface: bool) -> None:
    """The connection is closed, and other senders are served."""
    host, port = hub.grpc_target.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall((PREFACE if preface else b"") + content)
        connection.shutdown(socket.SHUT_WR)
        while True:
            try:
                if not connection.recv(65536):
                    break
            except ConnectionResetError:
                break
    assert_is_served(hub)
