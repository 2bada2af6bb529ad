"""Serving: one process, or several that share a port."""

import os
import signal
import socket
from functools import partial
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from modeltrace.app import build_app
from modeltrace.errors import SettingsError
from modeltrace.keys import check_exposure
from modeltrace.serving.bundle_loader import load_challenger, load_model
from modeltrace.settings import Settings
from modeltrace.store.in_process_writer import check_store
from modeltrace.telemetry.export.provider import requires_sdk
from modeltrace.telemetry.logging import configure_logging
from modeltrace.worker import build_in_worker
from modeltrace_http.server import BACKLOG, LimitedConfig

# Inputs of predictions are in what this process, its workers and their exporter processes write.
UMASK = 0o077


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Requests in flight get `drain_timeout`, telemetry then `flush_timeout`; both together stay below 5 s by default.

    Raises:
        ModeltraceError: the bundle or a setting is unfit; nothing was served.
    """
    check_exposure(settings)
    os.umask(UMASK)
    sock = listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": sock.getsockname()[1]})  # port 0 has become a real one
    check_store(settings)  # once, here: a worker that is replaced while the store is away takes its place all the same
    config = LimitedConfig(
        partial(build_app, settings) if settings.workers == 1 else partial(build_in_worker, settings),
        settings.http_limits,
        factory=True,
        workers=settings.workers,
        access_log=requires_sdk(settings) is not None,  # otherwise the front writes the access lines
        timeout_graceful_shutdown=settings.drain_timeout,  # asyncio takes fractions too
        proxy_headers=False,  # `modeltrace.api.auth` reads them
        lifespan="on",
        timeout_worker_healthcheck=30,
    )
    if settings.workers == 1:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it looks by itself once the versions are watched
        _Server(config).run(sockets=[sock])
        return
    # A bundle that cannot be served would fail in every worker, again and again: find out once, here.
    model, changes = load_model(settings)
    beside = load_challenger(settings, model)
    for one in (changes, *([beside[1]] if beside else [])):
        one.loader.close()
    lines = configure_logging(level=settings.log_level)
    _Supervisor(config, sockets=[sock]).run()
    lines.close()


class _Server(uvicorn.Server):
    """Ends by the signal that stopped it, as soon as everything is flushed.

    uvicorn raises the signal again, too; but Python turns SIGINT into an exception, and then waits for a model that
    still computes, however long.
    """

    _stopped_by: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Remember the signal."""
        self._stopped_by = sig
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does, then end."""
        await super().shutdown(sockets)
        if self._stopped_by is not None:
            signal.signal(self._stopped_by, signal.SIG_DFL)
            signal.raise_signal(self._stopped_by)


class _Supervisor(Multiprocess):
    """Passes SIGHUP on: each worker looks for a new version, and none is restarted for it."""

    def handle_hup(self) -> None:
        """Have every worker look."""
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)


def listen(host: str, port: int) -> socket.socket:
    """Bind before anything is loaded, so that a port in use is known at once.

    Raises:
        SettingsError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SettingsError(
            f"cannot listen on {host} port {port}: {reason} (MODELTRACE_HOST, MODELTRACE_PORT)"
        ) from None
    sock.set_inheritable(True)
    return sock
