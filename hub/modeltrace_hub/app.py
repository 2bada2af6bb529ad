"""Start and stop the parts of the hub: store, writer, receivers and pages. They stop in reverse order."""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Final

import grpc
import uvicorn
from starlette.types import ASGIApp

from modeltrace_http.grpc_tls import bind_port
from modeltrace_http.limits import HttpLimits
from modeltrace_http.server import LimitedConfig, limit_connections
from modeltrace_http.tls import TlsFiles
from modeltrace_hub.alerts.config import AlertConfig, read_alert_config
from modeltrace_hub.alerts.evaluate import evaluate_rules
from modeltrace_hub.alerts.monitor import STATE_FILE, AlertMonitor
from modeltrace_hub.api import create_app
from modeltrace_hub.auth import AccessPolicy
from modeltrace_hub.errors import HubError, PortInUseError, SettingsError
from modeltrace_hub.hub_metrics.definitions import collect_metrics
from modeltrace_hub.hub_metrics.otlp_export import start_export
from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.receive.grpc import add_health_service, create_grpc_server
from modeltrace_hub.receive.http import create_http_receiver
from modeltrace_hub.receive.ingest import Ingester
from modeltrace_hub.retention import Retention
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.writer import Writer

# Time for requests in progress to finish when the hub stops.
SHUTDOWN_GRACE_SECONDS: Final = 2


async def run_hub(
    settings: HubSettings,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[Store, Writer], None],
    environ: Mapping[str, str] | None = None,
) -> None:
    """Run the hub until `stop` is set.

    On shutdown, the hub answers the requests in progress and writes the queued rows.

    Args:
        settings: the settings.
        stop: set it to stop the hub.
        on_ready: called when all ports accept requests.
        environ: OpenTelemetry's variables, which say where the metrics of the hub are exported; None: nowhere.

    Raises:
        StoreError: the database cannot be used.
        PortInUseError: another program listens on a port of the hub.
        SettingsError: a TLS file or the file of alerts cannot be used.
        HubError: a server stopped unexpectedly.
    """
    tls = settings.check_tls(SettingsError)
    alert_config = None if settings.alerts is None else read_alert_config(settings.alerts)
    path = None if settings.memory else settings.data / FILE_NAME
    async with AsyncExitStack() as stack:
        store = Store(path, max_bytes=settings.max_size)
        stack.callback(store.close)
        retention = Retention(store, max_age=settings.max_age, max_size=settings.max_size)
        writer = Writer(store, retention, max_rows=settings.max_queue_rows, max_bytes=settings.max_queue_bytes)
        writer.start()
        stack.push_async_callback(asyncio.to_thread, writer.close)

        stop_export = start_export(environ or {}, settings, partial(collect_metrics, store, writer))
        if stop_export is not None:
            stack.push_async_callback(asyncio.to_thread, stop_export)

        ingester = Ingester(
            writer, max_request_bytes=settings.max_request_bytes, max_in_flight_bytes=settings.max_queue_bytes
        )
        stack.callback(ingester.close)
        policy = AccessPolicy(settings)
        http_socket = stack.enter_context(_bind_socket(settings.host, settings.http_port, "http_port"))
        page_socket = stack.enter_context(_bind_socket(settings.host, settings.port, "port"))
        receiver = create_http_receiver(ingester, policy, settings.cors_origins, body_timeout=settings.body_timeout)
        otlp_http = _Server(receiver, http_socket, settings)
        monitor = None if alert_config is None else _create_monitor(alert_config, store, settings)
        closing = asyncio.Event()
        app = create_app(store, writer, settings, monitor, closing)
        page = _Server(app, page_socket, settings, trusted_proxies=settings.trusted_proxies)
        http_servers = (otlp_http, page)
        limit_connections(asyncio.get_running_loop(), settings, servers=len(http_servers), tls=tls)
        otlp_grpc = create_grpc_server(ingester, policy, settings)
        health = await add_health_service(otlp_grpc)
        _bind_grpc(otlp_grpc, settings, tls)
        await otlp_grpc.start()
        server_tasks = [asyncio.create_task(server.serve_until_stopped()) for server in http_servers]
        for server in http_servers:
            await server.listening.wait()
        stop_task = asyncio.create_task(stop.wait())
        monitor_tasks = [] if monitor is None else [asyncio.create_task(monitor.run())]
        try:
            on_ready(store, writer)
            await asyncio.wait([stop_task, *server_tasks, *monitor_tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Also after an error of `on_ready`: servers that are not stopped write tracebacks when the loop is closed.
            for task in (stop_task, *monitor_tasks):
                task.cancel()
            await health.enter_graceful_shutdown()
            closing.set()
            for server in http_servers:
                server.should_exit = True
            await asyncio.gather(otlp_grpc.stop(SHUTDOWN_GRACE_SECONDS), *server_tasks)
            await asyncio.gather(*monitor_tasks, return_exceptions=True)  # it must not use the store any more
        if not stop.is_set():
            raise HubError("A server of the hub stopped unexpectedly. The log says why.")


def _create_monitor(config: AlertConfig, store: Store, settings: HubSettings) -> AlertMonitor:
    evaluate = partial(evaluate_rules, Queries(store), disabled=frozenset(config.disabled))
    return AlertMonitor(config, evaluate, settings.page_url, None if settings.memory else settings.data / STATE_FILE)


class _Server(uvicorn.Server):
    """The server of one HTTP port. It ignores signals: `modeltrace_hub.__main__` handles them for all servers."""

    def __init__(
        self, app: ASGIApp, listener: socket.socket, limits: HttpLimits, *, trusted_proxies: str | None = None
    ) -> None:
        super().__init__(
            LimitedConfig(
                app,
                limits,
                access_log=False,
                proxy_headers=trusted_proxies is not None,
                forwarded_allow_ips=trusted_proxies or "",
                timeout_graceful_shutdown=SHUTDOWN_GRACE_SECONDS,
            )
        )
        self.listening = asyncio.Event()
        self._listener = listener

    async def serve_until_stopped(self) -> None:
        """Serve until `should_exit` is set."""
        try:
            await self.serve(sockets=[self._listener])
        finally:
            self.listening.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then set `listening`."""
        await super().startup(sockets=sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do not install signal handlers."""
        yield


def _bind_socket(host: str, port: int, setting: str) -> socket.socket:
    """Return a socket that is bound to a port.

    Raises:
        PortInUseError: the port is in use.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _port_in_use(host, port, setting, error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _port_in_use(host, port, setting, error) from None
    return listener


def _bind_grpc(server: grpc.aio.Server, settings: HubSettings, tls: TlsFiles | None) -> None:
    """Bind the gRPC server to its port.

    Raises:
        PortInUseError: the port is in use.
    """
    host, port = settings.host, settings.grpc_port
    # gRPC writes its own message to stderr if the port is in use. Bind and close a socket first, to detect that case.
    _bind_socket(host, port, "grpc_port").close()
    try:
        bind_port(server, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", tls)
    except RuntimeError as error:
        raise _port_in_use(host, port, "grpc_port", error) from None


def _port_in_use(host: str, port: int, setting: str, error: Exception) -> PortInUseError:
    reason = error.strerror if isinstance(error, OSError) else error
    return PortInUseError(
        f"Cannot listen on {host} port {port} ({reason}). Stop the program that listens there, perhaps another hub, "
        f"or choose another port: --{setting.replace('_', '-')} or MODELTRACE_HUB_{setting.upper()}."
    )
