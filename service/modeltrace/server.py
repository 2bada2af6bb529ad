"""Run the HTTP server, in one process or in several that share a port."""

import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from modeltrace.app import build_app
from modeltrace.errors import SettingsError
from modeltrace.keys import check_exposure
from modeltrace.serving.bundle_loader import load_challenger, load_model
from modeltrace.settings import Settings
from modeltrace.store.in_process_writer import check_store
from modeltrace.telemetry.export.sidecar_provider import requires_sdk
from modeltrace.telemetry.logging import configure_logging
from modeltrace.telemetry.metrics.shared_folder import create_shared_folder
from modeltrace.worker import build_in_worker
from modeltrace_http.listener import BACKLOG
from modeltrace_http.server import LimitedConfig

# Files of this process, its workers and sidecars contain inputs of predictions, so only the user may read them.
UMASK = 0o077


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Requests in progress have `drain_timeout` seconds to finish, then telemetry has `flush_timeout` seconds. By default
    both together take less than 5 s.

    Raises:
        ModeltraceError: the bundle or a setting is invalid; nothing was served.
    """
    check_exposure(settings)
    settings.check_tls(SettingsError)
    os.umask(UMASK)
    sock = listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": sock.getsockname()[1]})  # the real port, if the setting was 0
    check_grpc_port(settings)
    check_store(settings)  # not in workers: they restart even if the store is unavailable
    if settings.workers == 1:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the watcher starts, which then checks for new versions
        _Server(_server_config(settings, partial(build_app, settings))).run(sockets=[sock])
        return
    # Load the bundles once here, so that an invalid bundle is reported once and not by every worker.
    model, watch = load_model(settings)
    watch.loader.close()
    if challenger := load_challenger(settings, model):
        challenger[1].loader.close()
    log_writer = configure_logging(level=settings.log_level)
    with create_shared_folder() as shared_folder:
        config = _server_config(settings, partial(build_in_worker, settings, shared_folder))
        _Supervisor(config, sockets=[sock]).run()
    log_writer.close()


def _server_config(settings: Settings, build: Callable[[], ASGIApp]) -> LimitedConfig:
    return LimitedConfig(
        build,
        settings,
        tls=settings.tls_files(),
        factory=True,
        workers=settings.workers,
        access_log=requires_sdk(settings) is not None,  # otherwise the prediction application writes the access log
        timeout_graceful_shutdown=settings.drain_timeout,  # asyncio accepts fractions
        proxy_headers=False,  # handled by `modeltrace.api.auth`
        lifespan="on",
        timeout_worker_healthcheck=30,
    )


class _Server(uvicorn.Server):
    """uvicorn server that ends the process with the received signal as soon as telemetry is flushed.

    uvicorn also raises the signal again, but with Python's handler: SIGINT becomes an exception, and the interpreter
    then waits for threads in which a model still computes. The default action ends the process at once.
    """

    _stopped_by: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Store the signal."""
        self._stopped_by = sig
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does, then raise the signal with its default action."""
        await super().shutdown(sockets)
        if self._stopped_by is not None:
            signal.signal(self._stopped_by, signal.SIG_DFL)
            signal.raise_signal(self._stopped_by)


class _Supervisor(Multiprocess):
    """Forwards SIGHUP, so that each worker checks for a new model version. No worker restarts."""

    def handle_hup(self) -> None:
        """Send SIGHUP to all workers."""
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended.

        uvicorn keeps the workers' ends of the pipes open. A ping to a worker that has just been killed would then wait
        for the whole timeout, and no worker would be replaced in the meantime.
        """
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()


def check_grpc_port(settings: Settings) -> None:
    """Check that the workers can listen on the gRPC port, so that a port in use is reported at once.

    Raises:
        SettingsError: the port is in use, or is 0 for several workers, each of which would choose another one.
    """
    if settings.grpc_port == 0 and settings.workers > 1:
        raise SettingsError("MODELTRACE_GRPC_PORT=0 needs one worker: several workers must share a port; name one")
    if settings.grpc_port:
        listen(settings.host, settings.grpc_port, "MODELTRACE_GRPC_PORT").close()


def listen(host: str, port: int, setting: str = "MODELTRACE_PORT") -> socket.socket:
    """Return a socket that listens on an address.

    `serve` calls it before it loads anything, so that a port in use is reported at once.

    Raises:
        SettingsError: the address is not available.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SettingsError(f"cannot listen on {host} port {port}: {reason} (MODELTRACE_HOST, {setting})") from None
    sock.set_inheritable(True)
    return sock
