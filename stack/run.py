"""Start, inspect and stop a stack through its supervisor, which restarts a component that dies."""

import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
from supervisor.xmlrpc import SupervisorTransport

from stack.components import HOST
from stack.errors import RunError
from stack.layout import Layout
from stack.progress import OnProgress

# All in seconds.
HEALTHY_TIMEOUT = 120.0
STOP_TIMEOUT = 60.0
POLL_INTERVAL = 0.1
LOG_TAIL_LINES = 4
# Argument of `startProcess`: return before the program has been up for `startsecs`.
DO_NOT_WAIT = (False,)


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """The supervisor's name of the state, whether the health check answers 200, and seconds since the start."""

    name: str
    state: str
    healthy: bool
    uptime: int
    pid: int


class Stack:
    """A stack that may be running."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def running(self) -> bool:
        """Whether the supervisor answers."""
        try:
            return bool(self._call_supervisor("getState")["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def up(self, on_progress: OnProgress = lambda *_: None) -> None:
        """Start the components that are not running, and return when all are healthy.

        Raises:
            StackError: a component is not built or was altered in the cache, a port is in use, the disk is full, the
                stack already runs with other options, or a component does not start. In the last case, all components
                are stopped again if the stack did not run before this call.
        """
        if self.running:
            self._check_same()
            self._start_components(on_progress)
            return
        self._check_binaries()
        self._check_ports()
        self.layout.prepare()
        self._start_supervisor()
        try:
            self._start_components(on_progress)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop all components. The Collector is first, so that it can still deliver its queues to the backends.

        Raises:
            RunError: the supervisor does not end.
        """
        if not self.running:
            return
        pid = int(self._call_supervisor("getPID"))
        with suppress(OSError, xmlrpc.client.Error):
            self._call_supervisor("shutdown")
        deadline = time.monotonic() + STOP_TIMEOUT
        while _alive(pid):
            if time.monotonic() > deadline:
                raise RunError(f"the supervisor (process {pid}) does not exit; its log: {self.layout.state}/logs")
            time.sleep(POLL_INTERVAL)

    def status(self, name: str) -> ComponentStatus:
        """Return the state of a component."""
        if not self.running:
            return ComponentStatus(name, "STOPPED", healthy=False, uptime=0, pid=0)
        info = self._call_supervisor("getProcessInfo", name)
        uptime = info["now"] - info["start"] if info["statename"] == "RUNNING" else 0
        return ComponentStatus(name, info["statename"], self._healthy(name), uptime, info["pid"])

    def statuses(self) -> list[ComponentStatus]:
        """Return the state of each component, in start order."""
        return [self.status(name) for name in self.layout.start_order()]

    def _check_same(self) -> None:
        if self.layout.supervisor_config.read_text() != self.layout.supervisor_text():
            raise RunError(
                "the stack already runs with other options or components. To change them: ./dev stack down, then up"
            )

    def _check_binaries(self) -> None:
        components, cache = self.layout.table.components, self.layout.cache
        if missing := cache.missing(components):
            raise RunError(f"not built yet: {', '.join(missing)}. First: ./dev stack build")
        if altered := cache.altered(components):
            raise RunError(
                f"binaries that do not match their SHA256SUMS in the cache: {', '.join(altered)}. "
                "To build them again: ./dev stack build"
            )

    def _check_ports(self) -> None:
        for component in self.layout.table.components:
            for name, port in self.layout.ports.by_component[component].items():
                try:
                    socket.create_server((HOST, port)).close()
                except OSError as error:
                    title = self.layout.table.components[component].title
                    raise RunError(
                        f"cannot listen on {HOST} port {port} for {title} ({component}.{name} in stack/components.toml)"
                        f": {os.strerror(error.errno or 0)}. Stop what listens there"
                    ) from None

    def _start_supervisor(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.layout.supervisor_config)],
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + STOP_TIMEOUT
        while not self.running:
            if done.returncode or time.monotonic() > deadline:
                raise RunError(f"the supervisor does not start: {(done.stderr or done.stdout).strip()[-300:]}")
            time.sleep(POLL_INTERVAL)

    def _start_components(self, on_progress: OnProgress) -> None:
        """Start each component as soon as the components that it waits for are healthy; start others concurrently."""
        waiting, starting, healthy = self.layout.start_order(), set[str](), set[str]()
        deadline = time.monotonic() + HEALTHY_TIMEOUT
        while waiting or starting:
            for name in [n for n in waiting if healthy.issuperset(self.layout.table.components[n].after)]:
                waiting.remove(name)
                starting.add(name)
                on_progress(name, "starting", 0, 1)
                if self._call_supervisor("getProcessInfo", name)["statename"] in ("STOPPED", "EXITED", "FATAL"):
                    self._call_supervisor("startProcess", name, *DO_NOT_WAIT)
            for name in [n for n in starting if self._is_up(n)]:
                starting.remove(name)
                healthy.add(name)
                on_progress(name, "healthy", 1, 1)
            if time.monotonic() > deadline:
                raise self._not_healthy(min(starting))
            time.sleep(POLL_INTERVAL)

    def _is_up(self, name: str) -> bool:
        """Return whether a component is healthy.

        Raises:
            RunError: the component has exited.
        """
        if self._call_supervisor("getProcessInfo", name)["statename"] in ("BACKOFF", "EXITED", "FATAL", "UNKNOWN"):
            raise RunError(f"{self._title(name)} does not start. {self._log_tail(name)}")
        return self._healthy(name)

    def _healthy(self, name: str) -> bool:
        url = self.layout.fill(name, self.layout.table.components[name].health)
        try:
            return httpx.get(url, timeout=2).status_code == HTTPStatus.OK
        except httpx.HTTPError:
            return False

    def _not_healthy(self, name: str) -> RunError:
        return RunError(f"{self._title(name)} is not healthy after {HEALTHY_TIMEOUT:g} s. {self._log_tail(name)}")

    def _title(self, name: str) -> str:
        return self.layout.table.components[name].title

    def _log_tail(self, name: str) -> str:
        log = self.layout.log_file(name)
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        tail = " / ".join(lines[-LOG_TAIL_LINES:])[-800:]
        return f"Its log ends with: {tail}  (whole log: {log})"

    def _call_supervisor(self, method: str, *arguments: object) -> Any:  # noqa: ANN401  the method's result
        """Call a method of the supervisor. Each call opens a connection, so threads can share a stack."""
        transport = SupervisorTransport(None, None, f"unix://{self.layout.socket}")
        with xmlrpc.client.ServerProxy("http://supervisor", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
