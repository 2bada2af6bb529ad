"""Receive OTLP over gRPC (OTLP specification 1.x, "OTLP/gRPC").

The three `Export` methods receive raw bytes and decode them like an HTTP body. The status tells the sender what to do
("Failures", "OTLP/gRPC Throttling"):

- INVALID_ARGUMENT: the request cannot be decoded. Senders drop it.
- RESOURCE_EXHAUSTED without RetryInfo: the request is too large. Senders drop it.
- UNAVAILABLE with RetryInfo: senders send the request again.

gRPC itself decompresses gzip and deflate, up to the maximum message length.

The health service (`grpc.health.v1.Health`) needs no key, because probes have none.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from modeltrace_http.limits import HttpLimits
from modeltrace_hub.auth import AccessPolicy
from modeltrace_hub.error_status import error_status
from modeltrace_hub.errors import HubError, RetryableError
from modeltrace_hub.receive.ingest import Ingester
from modeltrace_hub.receive.rpc_status import rpc_status
from modeltrace_hub.receive.signals import SIGNALS, Signal

# Concurrent calls per connection; further calls wait in the sender.
MAX_STREAMS_PER_CONNECTION: Final = 64

ExportHandler = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


def create_grpc_server(ingester: Ingester, policy: AccessPolicy, limits: HttpLimits) -> grpc.aio.Server:
    """Return the gRPC server; it is not yet bound to a port."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", ingester.max_request_bytes),
            ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
            # Close idle connections: gRPC does not limit their number, and each one uses a file descriptor.
            ("grpc.server_handshake_timeout_ms", _milliseconds(limits.header_timeout)),
            ("grpc.max_connection_idle_ms", _milliseconds(limits.keep_alive_timeout)),
            # Otherwise a second hub could bind the same port, and each would get some of the calls.
            ("grpc.so_reuseport", 0),
        ]
    )
    for signal in SIGNALS:
        method: Any = grpc.unary_unary_rpc_method_handler(_export_handler(signal, ingester, policy))
        handler = grpc.method_handlers_generic_handler(signal.grpc_service, {"Export": method})
        server.add_generic_rpc_handlers([handler])
    return server


async def add_health_service(server: grpc.aio.Server) -> health.aio.HealthServicer:
    """Add the health service. It reports SERVING for the server and each signal until it is stopped."""
    servicer = health.aio.HealthServicer()
    for signal in SIGNALS:
        await servicer.set(signal.grpc_service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer


def _milliseconds(seconds: float) -> int:
    """Convert seconds to milliseconds, limited to the 32-bit maximum of gRPC's options."""
    return int(min(1000 * seconds, 2**31 - 1))


def _export_handler(signal: Signal, ingester: Ingester, policy: AccessPolicy) -> ExportHandler:
    async def export(body: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        try:
            with ingester.track_request(signal) as reservation:
                metadata = dict(context.invocation_metadata() or ())
                policy.check_authorization(str(metadata.get("authorization", "")))
                reservation.add(len(body))
                response = await ingester.ingest(signal, body, "protobuf", "identity", reservation)
        except HubError as error:
            await _abort(context, error)
        return response.SerializeToString()

    return export


async def _abort(context: "grpc.aio.ServicerContext[bytes, bytes]", error: HubError) -> NoReturn:
    """End the call with the status of an error. A retryable error has RetryInfo in its details."""
    code = error_status(error).grpc
    if isinstance(error, RetryableError):
        details = rpc_status(code, str(error), retry=True).SerializeToString()
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
    await context.abort(code, str(error))
    raise AssertionError("abort does not return")
