"""Start hub, service and traffic, watch them, and stop them in an order that loses no telemetry."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from ssl import SSLContext
from typing import Any, Protocol

import httpx
import orjson

from modeltrace.client.service import ServedModel, fetch_model, is_ready
from modeltrace.client.verification import client_context
from modeltrace.keys import authorization_header
from modeltrace.local.bundles import read_raw_manifest
from modeltrace.local.child_processes import ChildProcess, start_child
from modeltrace.local.plan import (
    UpConfig,
    UpError,
    check_collector_reachable,
    check_ports_free,
    hub_arguments,
    service_arguments,
    service_environment,
    traffic_arguments,
    traffic_environment,
)
from modeltrace.os_signals import handle_signals
from modeltrace.settings import Settings
from modeltrace.traffic.progress import Snapshot

# Seconds.
READY_TIMEOUT = 60.0
READY_POLL_INTERVAL = 0.05
STOP_TIMEOUTS = {"traffic": 3.0, "service": 5.0, "hub": 5.0}
TOTAL_STOP_TIMEOUT = 8.0


class Screen(Protocol):
    """Display of `up`."""

    def show_waiting(self, target: str) -> None:
        """Show what `up` is waiting for."""

    def show_started(self, config: UpConfig, model: ServedModel) -> None:
        """Show what is running, and the URLs."""

    def show_traffic(self, snapshot: Snapshot) -> None:
        """Show the counts of traffic."""


class Supervisor:
    """Supervisor of the child processes. It can be run once."""

    def __init__(self, config: UpConfig, settings: Settings, environ: Mapping[str, str], screen: Screen) -> None:
        self._config = config
        self._screen = screen
        self._service_env = service_environment(environ, config, settings.otel)
        self._environ = environ
        self._headers = authorization_header(settings)
        self._children: list[ChildProcess] = []

    async def run(self) -> None:
        """Start all processes, wait for a signal, and stop all processes. A second signal kills them.

        Raises:
            UpError: a process could not be started, or ended unexpectedly. All others were stopped.
        """
        check_ports_free(self._config)
        if self._config.stack is not None:
            check_collector_reachable(self._config.stack)
        rows = read_raw_manifest(self._config.bundle).get("traffic")
        has_labels = isinstance(rows, dict) and rows.get("target") is not None
        task = asyncio.create_task(self._start_and_watch(has_rows=rows is not None, has_labels=has_labels))
        handlers = iter([task.cancel])

        def on_signal() -> None:
            next(handlers, self._kill_children)()

        with handle_signals(on_signal, "SIGINT", "SIGTERM", "SIGHUP"):
            try:
                await task
            except asyncio.CancelledError:
                self._screen.show_waiting("everything to stop")
            finally:
                await self._stop_children()

    async def _start_and_watch(self, *, has_rows: bool, has_labels: bool) -> None:
        config = self._config
        waits: list[Coroutine[Any, Any, None]] = []
        if config.starts_hub:
            hub = await self._start_child("hub", hub_arguments(config), self._environ)
            waits.append(_wait_until_ready(hub, f"{config.hub_url}/healthz", client_context(config.tls.hub_ca)))
        service = await self._start_child("service", service_arguments(config), self._service_env)
        verify = client_context(config.tls.service_ca)
        waits.append(_wait_until_ready(service, f"{config.service_url}/readyz", verify))
        self._screen.show_waiting(" and ".join(f"the {child.name}" for child in self._children))
        traffic = None
        if config.rate is not None:  # started at once: it imports its modules while the service starts
            arguments = traffic_arguments(config, has_rows=has_rows, has_labels=has_labels, ready_timeout=READY_TIMEOUT)
            env = traffic_environment(self._service_env)
            traffic = await self._start_child("traffic", arguments, env, pipe_stdout=True)
        await asyncio.gather(*waits)
        async with httpx.AsyncClient(base_url=config.service_url, headers=self._headers, verify=verify) as client:
            self._screen.show_started(config, await fetch_model(client))
        if traffic:
            await asyncio.gather(self._watch(), self._show_traffic(traffic))
        await self._watch()

    async def _start_child(
        self, name: str, arguments: Sequence[str], env: Mapping[str, str], *, pipe_stdout: bool = False
    ) -> ChildProcess:
        log_file = self._config.log_dir / f"{name}.log"
        child = await start_child(name, arguments, env=env, log_file=log_file, pipe_stdout=pipe_stdout)
        self._children.append(child)
        return child

    async def _watch(self) -> None:
        """Wait while all children run.

        Raises:
            UpError: a child ended.
        """
        waits = {asyncio.create_task(child.process.wait()): child for child in self._children}
        try:
            ended, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        raise _ended_error(waits[ended.pop()])

    async def _show_traffic(self, traffic: ChildProcess) -> None:
        assert traffic.process.stdout is not None  # noqa: S101  `pipe_stdout` is set
        async for line in traffic.process.stdout:
            # Console exporters of the OpenTelemetry SDK, if configured, write to stdout as well.
            with suppress(orjson.JSONDecodeError, TypeError):
                self._screen.show_traffic(Snapshot(**orjson.loads(line)))

    async def _stop_children(self) -> None:
        """Stop the children in reverse order. The receiver of a child's telemetry therefore ends after the child."""
        deadline = asyncio.get_running_loop().time() + TOTAL_STOP_TIMEOUT
        for child in reversed(self._children):
            remaining = max(0.1, deadline - asyncio.get_running_loop().time())
            await child.stop(min(STOP_TIMEOUTS[child.name], remaining))

    def _kill_children(self) -> None:
        for child in self._children:
            child.kill()


async def _wait_until_ready(child: ChildProcess, url: str, verify: SSLContext) -> None:
    """Wait until `url` answers 200.

    Raises:
        UpError: the child ended, or is not ready in time.
        UnreachableError: the certificate of the child cannot be verified.
    """
    async with httpx.AsyncClient(timeout=1.0, verify=verify) as client:
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                while not await is_ready(client, url):
                    if not child.running:
                        raise _ended_error(child)
                    await asyncio.sleep(READY_POLL_INTERVAL)
        except TimeoutError:
            raise UpError(
                f"the {child.name} is not ready after {READY_TIMEOUT:g} s; its log: {child.log_file}"
            ) from None


def _ended_error(child: ChildProcess) -> UpError:
    code = child.process.returncode
    how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    tail = child.stderr_tail()
    output = f". The last lines of its output:\n{tail}\n" if tail else ". "
    return UpError(f"the {child.name} ended unexpectedly ({how}){output}Its log: {child.log_file}")
