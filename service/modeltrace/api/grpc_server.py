"""The gRPC server of a worker: it runs in the event loop of the HTTP server, and starts and stops with it."""

import logging

import grpc
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modeltrace.api.grpc_bridge import GrpcBridge
from modeltrace.errors import SettingsError
from modeltrace.settings import Settings
from modeltrace_http.grpc_tls import bind_port

logger = logging.getLogger("modeltrace")

# Concurrent calls per connection; further calls wait.
MAX_STREAMS_PER_CONNECTION = 64


class GrpcMiddleware:
    """ASGI middleware: runs a gRPC server, whose calls it passes to the application, while the application runs."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._server: grpc.aio.Server | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the server after the application has started, and stop it before the application stops."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def receive_after_stop() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self._server is not None:
                # New calls are rejected at once; running calls have the same time to finish as HTTP requests.
                await self._server.stop(self._settings.drain_timeout)
            return message

        async def send_after_start(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    self._server = await start_grpc_server(self._app, self._settings)
                except SettingsError as error:
                    message = {"type": "lifespan.startup.failed", "message": str(error)}
            await send(message)

        await self._app(scope, receive_after_stop, send_after_start)


async def start_grpc_server(app: ASGIApp, settings: Settings) -> grpc.aio.Server:
    """Start a gRPC server on the host and the gRPC port of the settings. Several workers share the port.

    Raises:
        SettingsError: the address is not available.
    """
    server = grpc.aio.server(
        maximum_concurrent_rpcs=settings.inference_threads + settings.max_queue_size,
        options=[
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
            # Otherwise gRPC rejects the calls beyond this limit that a client sends before it has received the limit.
            ("grpc.http.overload_protection", 0),
            ("grpc.max_metadata_size", settings.max_header_bytes),
            # Close idle connections: gRPC does not limit their number, and each one uses a file descriptor.
            ("grpc.server_handshake_timeout_ms", _milliseconds(settings.header_timeout)),
            ("grpc.max_connection_idle_ms", _milliseconds(settings.keep_alive_timeout)),
            # One worker: a second service must not share the port, since each would get some of the calls.
            ("grpc.so_reuseport", int(settings.workers > 1)),
        ],
    )
    files = settings.tls_files()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = bind_port(server, f"{host}:{settings.grpc_port}", files)
    except RuntimeError:
        raise SettingsError(
            f"cannot listen on {settings.host} port {settings.grpc_port} for gRPC (MODELTRACE_GRPC_PORT)"
        ) from None
    server.add_generic_rpc_handlers([GrpcBridge(app, (settings.host, port), "https" if files else "http").handler()])
    await server.start()
    logger.info("serving the Open Inference Protocol over gRPC at %s:%d", host, port)
    return server


def _milliseconds(seconds: float) -> int:
    """Convert seconds to milliseconds, limited to the 32-bit maximum of gRPC's options."""
    return int(min(1000 * seconds, 2**31 - 1))
