"""Runs hub, service and traffic as one: started together, watched, stopped in the order in which nothing is lost."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, Protocol

import httpx
import orjson

from modeltrace.client.service import ServedModel, fetch_model
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
from modeltrace.settings import Settings
from modeltrace.traffic.progress import Snapshot

# Seconds.
READY_TIMEOUT = 60.0
READY_POLL_INTERVAL = 0.05
# All of them together stay within 8 s. Traffic and service flush by themselves well within theirs.
STOP_TIMEOUTS = {"traffic": 3.0, "service": 5.0, "hub": 5.0}
TOTAL_STOP_TIMEOUT = 8.0


class Screen(Protocol):
    """What shows how `up` stands."""

    def show_waiting(self, what: str) -> None:
        """Say what is being waited for."""

    def show_started(self, local: UpConfig, model: ServedModel) -> None:
        """Say what runs and where to look."""

    def show_traffic(self, now: Snapshot) -> None:
        """Say how traffic stands."""


class Supervisor:
    """The laptop size. Use once."""

    def __init__(self, config: UpConfig, settings: Settings, environ: Mapping[str, str], screen: Screen) -> None:
        self._config = config
        self._screen = screen
        self._service_env = service_environment(environ, config, settings.otel)
        self._environ = environ
        self._headers = authorization_header(settings)
        self._children: list[ChildProcess] = []

    async def run(self) -> None:
        """Start everything and stay until a signal comes; then stop everything. A second signal kills it.

        Raises:
            UpError: something could not be started or ended by itself; everything else was stopped.
        """
        check_ports_free(self._config)
        if self._config.stack is not None:
            check_collector_reachable(self._config.stack)
        rows = read_raw_manifest(self._config.bundle).get("traffic")
        labelled = isinstance(rows, dict) and rows.get("target") is not None
        work = asyncio.create_task(self._start_and_watch(held_out=rows is not None, labelled=labelled))
        with _on_signals(work.cancel, self._kill_children):
            try:
                await work
            except asyncio.CancelledError:
                self._screen.show_waiting("everything to stop")
            finally:
                await self._stop_children()

    async def _start_and_watch(self, *, held_out: bool, labelled: bool) -> None:
        local = self._config
        waits: list[Coroutine[Any, Any, None]] = []
        if local.starts_hub:
            hub = await self._start_child("hub", hub_arguments(local), self._environ)
            waits.append(_wait_until_ready(hub, f"{local.hub_url}/healthz"))
        service = await self._start_child("service", service_arguments(local), self._service_env)
        waits.append(_wait_until_ready(service, f"{local.service_url}/readyz"))
        self._screen.show_waiting(" and ".join(f"the {child.name}" for child in self._children))
        traffic = None
        if local.rate is not None:  # it waits by itself until the service is ready, and is then, too
            arguments = traffic_arguments(local, has_rows=held_out, has_labels=labelled, ready_timeout=READY_TIMEOUT)
            traffic = await self._start_child(
                "traffic", arguments, traffic_environment(self._service_env), read_output=True
            )
        await asyncio.gather(*waits)
        async with httpx.AsyncClient(base_url=local.service_url, headers=self._headers) as client:
            self._screen.show_started(local, await fetch_model(client))
        if traffic:
            await asyncio.gather(self._watch(), self._show_traffic(traffic))
        await self._watch()

    async def _start_child(
        self, name: str, arguments: Sequence[str], env: Mapping[str, str], *, read_output: bool = False
    ) -> ChildProcess:
        log = self._config.log_dir / f"{name}.log"
        child = await start_child(name, arguments, env=env, log_file=log, pipe_stdout=read_output)
        self._children.append(child)
        return child

    async def _watch(self) -> None:
        """Wait for as long as all children live.

        Raises:
            UpError: one has ended.
        """
        ends = {asyncio.create_task(child.process.wait()): child for child in self._children}
        try:
            ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
        raise _ended_error(ends[ended.pop()])

    async def _show_traffic(self, traffic: ChildProcess) -> None:
        assert traffic.process.stdout is not None  # noqa: S101  it was started with its output read
        async for line in traffic.process.stdout:
            # Exporters that the user set to `console` write to stdout, too.
            with suppress(orjson.JSONDecodeError, TypeError):
                self._screen.show_traffic(Snapshot(**orjson.loads(line)))

    async def _stop_children(self) -> None:
        """Stop the last one first: what a child still has to send then finds its receiver alive."""
        deadline = asyncio.get_running_loop().time() + TOTAL_STOP_TIMEOUT
        for child in reversed(self._children):
            left = max(0.1, deadline - asyncio.get_running_loop().time())
            await child.stop(min(STOP_TIMEOUTS[child.name], left))

    def _kill_children(self) -> None:
        for child in self._children:
            child.kill()


async def _wait_until_ready(child: ChildProcess, url: str) -> None:
    """Wait until `url` answers 200.

    Raises:
        UpError: the child has ended, or is not ready in time.
    """
    async with httpx.AsyncClient(timeout=1.0) as client:
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                while not await _responds_ok(client, url):
                    if not child.running:
                        raise _ended_error(child)
                    await asyncio.sleep(READY_POLL_INTERVAL)
        except TimeoutError:
            raise UpError(
                f"the {child.name} is not ready after {READY_TIMEOUT:g} s; its log: {child.log_file}"
            ) from None


async def _responds_ok(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == HTTPStatus.OK
    except httpx.HTTPError:
        return False


def _ended_error(child: ChildProcess) -> UpError:
    code = child.process.returncode
    how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    words = child.stderr_tail()
    said = f". Its last words:\n{words}\n" if words else ". "
    return UpError(f"the {child.name} has ended ({how}){said}Its log: {child.log_file}")


@contextmanager
def _on_signals(first: Callable[[], object], again: Callable[[], object]) -> Iterator[None]:
    """Call `first` at the first SIGINT, SIGTERM or SIGHUP, and `again` at every other, while the context lasts."""
    loop = asyncio.get_running_loop()
    actions = iter((first,))

    def handle(*_: object) -> None:
        loop.call_soon_threadsafe(next(actions, again))

    names = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is none of Windows'
    before = {signum: signal.signal(signum, handle) for name in names if (signum := getattr(signal, name, None))}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
