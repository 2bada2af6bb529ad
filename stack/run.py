"""Starts, watches and stops a stack through its supervisor, which restarts a part that dies."""

import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
from supervisor.xmlrpc import SupervisorTransport

from stack.errors import RunError
from stack.layout import Layout
from stack.parts import HOST

# Seconds.
HEALTHY_TIMEOUT = 120.0
STOP_TIMEOUT = 60.0
POLL = 0.1
LAST_LINES = 4
# What `startProcess` takes so as to return before the program has stayed up for `startsecs`.
NOT_WAITING = (False,)

# What is told while parts start: the name of one, and how it stands.
Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a part stands: the supervisor's word for it, whether its health address answers 200, seconds since start."""

    name: str
    state: str
    healthy: bool
    uptime: int
    pid: int


class Stack:
    """One stack, running or not."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def running(self) -> bool:
        """Whether its supervisor answers."""
        try:
            return bool(self._ask("getState")["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def up(self, tell: Tell = lambda *_: None) -> None:
        """Start what is not running, and return when all of it is healthy.

        Raises:
            StackError: a part is not built or was altered in the cache, a port is in use, there is no room, it runs
                already with other options; or a part does not start: then what this call has started is stopped again.
        """
        if self.running:
            self._check_same()
            self._start_parts(tell)
            return
        self._check_binaries()
        self._check_ports()
        self.layout.prepare()
        self._start_supervisor()
        try:
            self._start_parts(tell)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop all of it, the Collector first: what it still has queued finds its receivers alive.

        Raises:
            RunError: it does not end.
        """
        if not self.running:
            return
        pid = int(self._ask("getPID"))
        with suppress(OSError, xmlrpc.client.Error):
            self._ask("shutdown")
        deadline = time.monotonic() + STOP_TIMEOUT
        while _alive(pid):
            if time.monotonic() > deadline:
                raise RunError(f"the supervisor (process {pid}) does not end; its log: {self.layout.state}/logs")
            time.sleep(POLL)

    def start(self, name: str) -> None:
        """Start one part that was stopped, and return when it is healthy."""
        self._ask("startProcess", name)
        self._wait_healthy(name)

    def stop(self, name: str) -> None:
        """Stop one part."""
        self._ask("stopProcess", name)

    def kill(self, name: str) -> None:
        """End one part with SIGKILL, as a crash would; the supervisor starts it again."""
        os.kill(self.standing(name).pid, signal.SIGKILL)

    def standing(self, name: str) -> Standing:
        """How one part stands."""
        info = self._ask("getProcessInfo", name)
        uptime = info["now"] - info["start"] if info["statename"] == "RUNNING" else 0
        return Standing(name, info["statename"], self._healthy(name), uptime, info["pid"])

    def standings(self) -> list[Standing]:
        """How each part stands, in the order in which they start."""
        if not self.running:
            return [Standing(name, "STOPPED", healthy=False, uptime=0, pid=0) for name in self.layout.order()]
        return [self.standing(name) for name in self.layout.order()]

    def _check_same(self) -> None:
        if self.layout.supervisor_config.read_text() != self.layout.supervisor_text():
            raise RunError(
                "it runs already, with other options or other parts. To change them: ./dev stack down, then up"
            )

    def _check_binaries(self) -> None:
        parts, cache = self.layout.parts.parts, self.layout.cache
        if missing := cache.missing(parts):
            raise RunError(f"not built yet: {', '.join(missing)}. First: ./dev stack build")
        if altered := cache.altered(parts):
            raise RunError(
                f"binaries that do not match their SHA256SUMS in the cache: {', '.join(altered)}. "
                "To build them again: ./dev stack build"
            )

    def _check_ports(self) -> None:
        for part in self.layout.parts.parts:
            for name, port in self.layout.ports.by_part[part].items():
                try:
                    socket.create_server((HOST, port)).close()
                except OSError as error:
                    title = self.layout.parts.parts[part].title
                    raise RunError(
                        f"cannot listen on {HOST} port {port} for {title} ({part}.{name} in stack/parts.toml): "
                        f"{os.strerror(error.errno or 0)}. Stop what listens there"
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
            time.sleep(POLL)

    def _start_parts(self, tell: Tell) -> None:
        """Start each part once those that it waits for are healthy; those that wait for nothing start together."""
        waiting, starting, healthy = self.layout.order(), set[str](), set[str]()
        deadline = time.monotonic() + HEALTHY_TIMEOUT
        while waiting or starting:
            for name in [n for n in waiting if healthy.issuperset(self.layout.parts.parts[n].after)]:
                waiting.remove(name)
                starting.add(name)
                tell(name, "starting")
                if self._ask("getProcessInfo", name)["statename"] in ("STOPPED", "EXITED", "FATAL"):
                    self._ask("startProcess", name, *NOT_WAITING)
            for name in [n for n in starting if self._is_up(n)]:
                starting.remove(name)
                healthy.add(name)
                tell(name, "healthy")
            if time.monotonic() > deadline:
                raise self._not_healthy(min(starting))
            time.sleep(POLL)

    def _wait_healthy(self, name: str) -> None:
        deadline = time.monotonic() + HEALTHY_TIMEOUT
        while not self._is_up(name):
            if time.monotonic() > deadline:
                raise self._not_healthy(name)
            time.sleep(POLL)

    def _is_up(self, name: str) -> bool:
        """Whether a part is healthy.

        Raises:
            RunError: it has ended.
        """
        if self._ask("getProcessInfo", name)["statename"] in ("BACKOFF", "EXITED", "FATAL", "UNKNOWN"):
            raise RunError(f"{self._title(name)} does not start. {self._last_words(name)}")
        return self._healthy(name)

    def _healthy(self, name: str) -> bool:
        url = self.layout.fill(name, self.layout.parts.parts[name].health)
        try:
            return httpx.get(url, timeout=2).status_code == HTTPStatus.OK
        except httpx.HTTPError:
            return False

    def _not_healthy(self, name: str) -> RunError:
        return RunError(f"{self._title(name)} is not healthy after {HEALTHY_TIMEOUT:g} s. {self._last_words(name)}")

    def _title(self, name: str) -> str:
        return self.layout.parts.parts[name].title

    def _last_words(self, name: str) -> str:
        log = self.layout.log(name)
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = " / ".join(lines[-LAST_LINES:])[-800:]
        return f"It says: {said}  (all of it: {log})"

    def _ask(self, method: str, *arguments: object) -> Any:  # noqa: ANN401  what the method answers
        """Call a method of the supervisor; the connection is made anew each time, so threads may share a stack."""
        transport = SupervisorTransport(None, None, f"unix://{self.layout.socket}")
        with xmlrpc.client.ServerProxy("http://supervisor", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
