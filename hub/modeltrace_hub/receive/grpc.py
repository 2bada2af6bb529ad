"""OTLP over gRPC, as the OTLP specification 1.x has it ("OTLP/gRPC").

The three `Export` calls take raw bytes and parse them where HTTP's are parsed, so that what cannot be read is
INVALID_ARGUMENT, which senders drop. UNAVAILABLE with RetryInfo asks them to send it again ("Failures", "OTLP/gRPC
Throttling"); RESOURCE_EXHAUSTED without RetryInfo, for what is too large, is final. gRPC itself unpacks gzip and
deflate, within the limit on a message's length.

The health service (`grpc.health.v1.Health`) asks for no key: probes have none.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from modeltrace_http.limits import HttpLimits
from modeltrace_hub.auth import Guard
from modeltrace_hub.errors import HubError, RetryableError
from modeltrace_hub.receive.ingest import Intake
from modeltrace_hub.receive.signals import SIGNALS, Signal
from modeltrace_hub.receive.status import codes, status

# Calls at a time on one connection; the next ones wait in the sender.
CALLS_A_CONNECTION: Final = 64

Export = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


def create_server(intake: Intake, guard: Guard, limits: HttpLimits) -> grpc.aio.Server:
    """The gRPC server, not yet bound to a port."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", intake.max_request_bytes),
            ("grpc.max_concurrent_streams", CALLS_A_CONNECTION),
            # gRPC has no limit on connections, so those that nobody uses must not stay: each is a file descriptor.
            ("grpc.server_handshake_timeout_ms", _milliseconds(limits.header_timeout)),
            ("grpc.max_connection_idle_ms", _milliseconds(limits.keep_alive_timeout)),
            # Without this a second hub would bind the same port, and each would get some of the calls.
            ("grpc.so_reuseport", 0),
        ]
    )
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                signal.service, {"Export": grpc.unary_unary_rpc_method_handler(_export(signal, intake, guard))}
            )
            for signal in SIGNALS
        ]
    )
    return server


async def add_health(server: grpc.aio.Server) -> health.aio.HealthServicer:
    """Add the health service, which says SERVING for the server and for each signal until it is stopped."""
    servicer = health.aio.HealthServicer()
    for signal in SIGNALS:
        await servicer.set(signal.service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer


def _milliseconds(seconds: float) -> int:
    """Seconds as gRPC's options take them."""
    return int(min(1000 * seconds, 2**31 - 1))


def _export(signal: Signal, intake: Intake, guard: Guard) -> Export:
    async def export(body: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        try:
            with intake.request(signal) as reservation:
                metadata = dict(context.invocation_metadata() or ())
                guard.check_bearer(str(metadata.get("authorization", "")))
                reservation.add(len(body))
                answer = await intake.take(signal, body, "protobuf", "identity", reservation)
        except HubError as error:
            await _abort(context, error)
        return answer.SerializeToString()

    return export


async def _abort(context: "grpc.aio.ServicerContext[bytes, bytes]", error: HubError) -> NoReturn:
    """End the call with the error's status; with the details that ask to send it again when that makes sense."""
    _, code = codes(error)
    if isinstance(error, RetryableError):
        details = status(code, str(error), retry=True).SerializeToString()
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
    await context.abort(code, str(error))
    raise AssertionError("abort does not return")
