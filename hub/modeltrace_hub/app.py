"""The wiring, readable top to bottom: store, writer, receivers, page; and the same backwards at the end."""

import asyncio
import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

import grpc
from starlette.types import ASGIApp

from modeltrace_http.limits import HttpLimits
from modeltrace_http.server import LimitedConfig, LimitedServer
from modeltrace_hub.api import create_app
from modeltrace_hub.auth import Guard
from modeltrace_hub.errors import HubError, PortInUseError
from modeltrace_hub.receive.grpc import add_health, create_server
from modeltrace_hub.receive.http import create_receiver
from modeltrace_hub.receive.ingest import Intake
from modeltrace_hub.retention import Retention
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.writer import Writer

# How long requests in flight may take to finish when the hub stops.
GRACE_SECONDS: Final = 2
# The HTTP ports, which share the process's file descriptors.
HTTP_PORTS: Final = 2


async def run_hub(settings: HubSettings, *, stop: asyncio.Event, ready: Callable[[Store, Writer], None]) -> None:
    """Run until `stop` is set; call `ready` once all ports answer.

    At the end requests in flight get their answer, and what is queued is written.

    Raises:
        StoreError: the database cannot be used.
        PortInUseError: another program listens where this should.
        HubError: a server stopped without being told to.
    """
    path = None if settings.memory else settings.data / FILE_NAME
    async with AsyncExitStack() as stack:
        store = Store(path, max_bytes=settings.max_size)
        stack.callback(store.close)
        retention = Retention(store, max_age=settings.max_age, max_size=settings.max_size)
        writer = Writer(store, retention, max_rows=settings.queue_rows, max_bytes=settings.queue_bytes)
        writer.start()
        stack.push_async_callback(asyncio.to_thread, writer.close)

        intake = Intake(writer, max_request_bytes=settings.max_request_bytes, max_waiting_bytes=settings.queue_bytes)
        stack.callback(intake.close)
        guard = Guard(settings)
        http_socket = stack.enter_context(_bind(settings.host, settings.http_port, "http_port"))
        page_socket = stack.enter_context(_bind(settings.host, settings.port, "port"))
        limits, proxies = settings.http_limits, settings.trusted_proxies
        receiver = create_receiver(intake, guard, settings.cors_origins, body_timeout=limits.body_timeout)
        otlp_http = _Server(receiver, http_socket, limits)
        page = _Server(create_app(store, writer, settings), page_socket, limits, trusted_proxies=proxies)
        otlp_grpc = create_server(intake, guard, limits)
        health = await add_health(otlp_grpc)
        _bind_grpc(otlp_grpc, settings)
        await otlp_grpc.start()
        serving = [asyncio.create_task(server.run_until_told()) for server in (otlp_http, page)]
        for server in (otlp_http, page):
            await server.is_up.wait()
        # What lives from here to the end need not be looked at by the garbage collector again and again.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        ready(store, writer)

        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *serving], return_when=asyncio.FIRST_COMPLETED)
        await health.enter_graceful_shutdown()
        for server in (otlp_http, page):
            server.should_exit = True
        await asyncio.gather(otlp_grpc.stop(GRACE_SECONDS), *serving)
        if not stopping.done():
            stopping.cancel()
            raise HubError("A server of the hub stopped by itself; its log says why.")


class _Server(LimitedServer):
    """One HTTP port. Signals are handled once for all servers (`modeltrace_hub.__main__`), so not by this one."""

    def __init__(
        self, app: ASGIApp, listener: socket.socket, limits: HttpLimits, *, trusted_proxies: str | None = None
    ) -> None:
        super().__init__(
            LimitedConfig(
                app,
                limits,
                servers=HTTP_PORTS,
                access_log=False,
                proxy_headers=trusted_proxies is not None,
                forwarded_allow_ips=trusted_proxies or "",
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self.is_up = asyncio.Event()
        self._listener = listener

    async def run_until_told(self) -> None:
        """Serve until `should_exit`."""
        try:
            await self.serve(sockets=[self._listener])
        finally:
            self.is_up.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and tell."""
        await super().startup(sockets=sockets)
        self.is_up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _bind(host: str, port: int, setting: str) -> socket.socket:
    """A socket on a port of our own.

    Raises:
        PortInUseError: it is not to be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _taken(host, port, setting, error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _taken(host, port, setting, error) from None
    return listener


def _bind_grpc(server: grpc.aio.Server, settings: HubSettings) -> None:
    """Give gRPC its port.

    Raises:
        PortInUseError: it is not to be had.
    """
    host, port = settings.host, settings.grpc_port
    # gRPC would complain on stderr by itself; a socket that is bound and closed again finds out quietly.
    _bind(host, port, "grpc_port").close()
    try:
        server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise _taken(host, port, "grpc_port", error) from None


def _taken(host: str, port: int, setting: str, error: Exception) -> PortInUseError:
    reason = error.strerror if isinstance(error, OSError) else error
    return PortInUseError(
        f"Cannot listen on {host} port {port} ({reason}). Stop what listens there, perhaps another hub, or choose "
        f"another port: --{setting.replace('_', '-')} or MODELTRACE_HUB_{setting.upper()}."
    )
