"""OTLP over gRPC with a running hub."""

import queue
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from modeltrace_hub.receive.signals import SIGNALS, TRACES, Signal
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.otlp_messages import log_request, metric_request, span, trace_request

REQUESTS = {"traces": trace_request, "metrics": metric_request, "logs": log_request}

StartHub = Callable[..., AbstractContextManager[InProcessHub]]


@pytest.fixture
def channel(hub: InProcessHub) -> Iterator[grpc.Channel]:
    """Yield a channel to the hub of the module."""
    with grpc.insecure_channel(hub.grpc_target) as channel:
        yield channel


def _export(channel: grpc.Channel, body: bytes, signal: Signal = TRACES, **options: object) -> bytes:
    return channel.unary_unary(f"/{signal.grpc_service}/Export")(body, timeout=20, **options)


def _refused(channel: grpc.Channel, body: bytes, **options: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        _export(channel, body, **options)
    return caught.value


def _details(error: grpc.RpcError) -> Status:
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    return Status.FromString(raw)


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_every_signal_is_stored(hub: InProcessHub, channel: grpc.Channel, signal: Signal) -> None:
    """A request gets an empty response and is then stored."""
    before = hub.writer.stats.snapshot()[signal.name].stored
    response = _export(channel, REQUESTS[signal.name]().SerializeToString(), signal)
    assert signal.response_type.FromString(response) == signal.response_type()
    assert hub.writer.stats.snapshot()[signal.name].stored == before + 1


@pytest.mark.parametrize("service", ["", *(signal.grpc_service for signal in SIGNALS)])
def test_the_health_service_says_serving(start_hub: StartHub, service: str) -> None:
    """Probes check the server or a service, and need no key."""
    with start_hub(key="0123456789abcdef") as hub, grpc.insecure_channel(hub.grpc_target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        response = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_of_another_service_is_unknown(channel: grpc.Channel) -> None:
    """The health of an unknown service is NOT_FOUND."""
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="other"), timeout=20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_invalid_utf_8_is_repaired(hub: InProcessHub, channel: grpc.Channel) -> None:
    """The text is repaired, and the response has a warning."""
    body = trace_request(span(name="good"), span(name="PLACE")).SerializeToString().replace(b"PLACE", b"caf\xe9!")
    response = ExportTraceServiceResponse.FromString(_export(channel, body))
    assert response.partial_success.rejected_spans == 0
    assert "(Span.name)" in response.partial_success.error_message
    assert len(hub.rows("FROM spans WHERE name = 'caf�!'")) == 1


def test_gzip_is_accepted(hub: InProcessHub, channel: grpc.Channel) -> None:
    """A compressed call is decompressed."""
    _export(channel, trace_request(span(name="packed")).SerializeToString(), compression=grpc.Compression.Gzip)
    assert len(hub.rows("FROM spans WHERE name = 'packed'")) == 1


def test_invalid_spans_are_counted(channel: grpc.Channel) -> None:
    """A partial success counts the rejected spans."""
    response = _export(channel, trace_request(span(), span(trace_id=b"short")).SerializeToString())
    assert ExportTraceServiceResponse.FromString(response).partial_success.rejected_spans == 1


def test_invalid_protobuf_is_invalid_argument(channel: grpc.Channel) -> None:
    """Senders drop a request that protobuf cannot parse."""
    assert _refused(channel, b"\xff" * 20).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    """An unknown service is UNIMPLEMENTED."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/opentelemetry.proto.collector.profiles.v1.ProfilesService/Export")(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_over_the_limit_is_resource_exhausted(start_hub: StartHub) -> None:
    """A message over the limit gets RESOURCE_EXHAUSTED without RetryInfo, which is permanent."""
    with start_hub(max_request_bytes=2000) as hub, grpc.insecure_channel(hub.grpc_target) as channel:
        error = _refused(channel, b"x" * 2001)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not _details(error).details


@pytest.mark.slow
def test_a_compressed_call_over_the_limit_is_rejected(start_hub: StartHub) -> None:
    """A small call that decompresses to more than the limit is rejected; the next call succeeds."""
    with start_hub(max_request_bytes=2**20) as hub, grpc.insecure_channel(hub.grpc_target) as channel:
        bomb = bytes(100 * 2**20)
        assert len(zlib.compress(bomb)) < 2**20
        error = _refused(channel, bomb, compression=grpc.Compression.Gzip)
        assert error.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL}
        _export(channel, trace_request().SerializeToString())


def test_a_full_queue_is_unavailable_and_a_retry_succeeds(start_hub: StartHub) -> None:
    """While the queue is full, a call is UNAVAILABLE with RetryInfo; the same call succeeds afterwards."""
    body = trace_request(span(name="later")).SerializeToString()
    with start_hub() as hub, grpc.insecure_channel(hub.grpc_target) as channel:
        hub.writer._queued_rows += hub.writer.max_rows
        error = _refused(channel, body)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        retry = RetryInfo()
        assert _details(error).details[0].Unpack(retry)
        assert retry.retry_delay.seconds == 1
        hub.writer._queued_rows -= hub.writer.max_rows
        _export(channel, body)
        assert len(hub.rows("FROM spans WHERE name = 'later'")) == 1


def test_calls_need_the_key(start_hub: StartHub) -> None:
    """A call with a missing or wrong key is UNAUTHENTICATED; with the key it succeeds."""
    body = trace_request().SerializeToString()
    with start_hub(key="0123456789abcdef") as hub, grpc.insecure_channel(hub.grpc_target) as channel:
        assert _refused(channel, body).code() is grpc.StatusCode.UNAUTHENTICATED
        wrong = (("authorization", "Bearer fedcba9876543210"),)
        assert _refused(channel, body, metadata=wrong).code() is grpc.StatusCode.UNAUTHENTICATED
        _export(channel, body, metadata=(("authorization", "Bearer 0123456789abcdef"),))
        assert len(hub.rows("FROM spans")) == 1


@pytest.mark.slow
def test_idle_connections_are_closed(start_hub: StartHub) -> None:
    """Connections without HTTP/2 or without calls are closed; a sender reconnects automatically."""
    body = trace_request().SerializeToString()
    with (
        start_hub(header_timeout=0.2, keep_alive_timeout=0.2) as hub,
        grpc.insecure_channel(hub.grpc_target) as channel,
    ):
        with socket.create_connection(("127.0.0.1", hub.settings.grpc_port), timeout=20) as silent:
            while silent.recv(1000):  # the server's own settings
                pass
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        _export(channel, body)
        channel.subscribe(states.put)
        while states.get(timeout=20) is not grpc.ChannelConnectivity.IDLE:
            pass
        assert _export(channel, body) == b""
