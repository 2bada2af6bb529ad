"""Start the processes under measurement, pin them to a core, wait until they are ready, and stop them."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
from ephemeral_port_reserve import reserve

READY_TIMEOUT = 60
POLL_INTERVAL = 0.05
STOP_TIMEOUT = 15


def available_cores() -> list[int]:
    """Return the cores that this process may use, or an empty list if the system does not support affinity."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@dataclass(frozen=True)
class CoreAssignment:
    """The core of the server and the core of all other processes, or `None` if processes cannot be pinned."""

    service: int | None = None
    other: int | None = None

    @classmethod
    def assign(cls) -> Self:
        """Assign the last core to the server, and pin this process and its children to the first core."""
        available = available_cores()
        if len(available) < 2:
            return cls()
        os.sched_setaffinity(0, {available[0]})
        return cls(service=available[-1], other=available[0])


def free_port() -> int:
    """Reserve a loopback port. For a minute the system assigns it to no other process; a server can bind it."""
    port: int = reserve()
    return port


@contextmanager
def run_process(
    command: Sequence[str],
    *,
    ready_url: str,
    env: Mapping[str, str] | None = None,
    core: int | None = None,
    folder: Path | None = None,
    output: Path | None = None,
    ready_timeout: float = READY_TIMEOUT,
    poll_interval: float = POLL_INTERVAL,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `command` and its children on `core` until the block ends.

    Args:
        command: the program and its arguments.
        ready_url: the URL that answers 200 when the process is ready.
        env: added to the environment of this process without its OTEL_ and MODELTRACE_ variables.
        core: the core of the process and its children; `None` does not pin them.
        folder: the working directory.
        output: file for the output of the process; `None` discards it.
        ready_timeout: seconds after which it must be ready.
        poll_interval: seconds between two requests to `ready_url`.

    Raises:
        RuntimeError: the process was not ready in time. The message ends with the last line of its output.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MODELTRACE_"))}
    with (output or Path(os.devnull)).open("wb") as stdout, _pin_children(core):
        process = subprocess.Popen(
            command, env={**inherited, **(env or {})}, cwd=folder, stdout=stdout, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(process, ready_url, output, ready_timeout, poll_interval)
        yield process
    finally:
        _terminate(process)


@contextmanager
def _pin_children(core: int | None) -> Iterator[None]:
    """Let children started in the block inherit the core. Pinning them later would miss their first threads."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all of its descendants."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the CPU time that the processes have used so far, in user and system mode."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def pin_process(process: psutil.Process, core: int) -> None:
    """Pin all threads of a running process to `core`. An affinity set by process ID affects only the first thread."""
    for thread in process.threads():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread.id, {core})


def _terminate(process: "subprocess.Popen[bytes]") -> None:
    """Send TERM, then KILL. Also end the descendants that the process has left behind."""
    descendants = process_tree(process.pid)[1:]
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(descendants, timeout=5)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(alive, timeout=5)


def _wait_until_ready(
    process: "subprocess.Popen[bytes]", url: str, output: Path | None, timeout: float, poll_interval: float
) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} exited with {process.returncode}{_last_line(output)}")
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310  loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(poll_interval)
    raise RuntimeError(f"{url} did not answer within {timeout:g} s{_last_line(output)}")


def _last_line(output: Path | None) -> str:
    lines = output.read_text(errors="replace").split("\n") if output else []
    return next((f": {line.strip()[:200]}" for line in reversed(lines) if line.strip()), "")
