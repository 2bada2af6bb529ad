"""Processes under measurement: started on a free port, on a core of their own, waited for, stopped, children too."""

import os
import signal
import subprocess
import sys
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

READY_SECONDS = 60
POLL_SECONDS = 0.05
STOP_SECONDS = 15


def cores() -> list[int]:
    """The cores this process may use; empty where the system cannot say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@dataclass(frozen=True)
class Pins:
    """Which core a server has to itself, and which one all else shares; `None` where nothing can be pinned."""

    service: int | None = None
    other: int | None = None

    @classmethod
    def take(cls) -> Self:
        """The last core for the server, the first for this process and whatever it starts."""
        available = cores()
        if len(available) < 2:
            return cls()
        os.sched_setaffinity(0, {available[0]})
        return cls(service=available[-1], other=available[0])


def free_port() -> int:
    """A loopback port that the system gives to nobody else for a minute: a server that names it may still bind it."""
    port: int = reserve()
    return port


@contextmanager
def running(
    arguments: Sequence[str], *, ready: str, env: Mapping[str, str] | None = None, core: int | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `python -m …` on `core` until the block ends. Its output is thrown away, as a log collector would read it.

    Raises:
        RuntimeError: it did not answer at `ready`.
    """
    with started([sys.executable, "-m", *arguments], ready=ready, env=env, core=core) as process:
        yield process


@contextmanager
def started(
    command: Sequence[str],
    *,
    ready: str,
    env: Mapping[str, str] | None = None,
    core: int | None = None,
    folder: Path | None = None,
    output: Path | None = None,
    patience: float = READY_SECONDS,
    poll: float = POLL_SECONDS,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `command` and whatever it starts on `core` until the block ends.

    Args:
        command: the program and its arguments.
        ready: the address that answers 200 when it can be measured.
        env: variables beside this process's own, of which OpenTelemetry's and ours are not handed on.
        core: where it runs; all of its children inherit it.
        folder: where it runs, in the other sense.
        output: the file that takes what it prints; `None` throws it away.
        patience: seconds until it has to be ready.
        poll: seconds between two looks at whether it is.

    Raises:
        RuntimeError: it did not answer at `ready`; the message ends with the last line that it printed.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MODELTRACE_"))}
    with (output or Path(os.devnull)).open("wb") as sink, _on(core):
        process = subprocess.Popen(
            command, env={**clean, **(env or {})}, cwd=folder, stdout=sink, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, ready, output, patience, poll)
        yield process
    finally:
        _stop(process)


@contextmanager
def _on(core: int | None) -> Iterator[None]:
    """Children started in the block inherit the core; setting theirs afterwards would miss their first threads."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(pid: int) -> list[psutil.Process]:
    """A process and everything below it."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """CPU time that the processes have used so far, in user and system mode."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def move(process: psutil.Process, core: int) -> None:
    """Put a running process on `core`, every thread of it: what is set by a process's ID holds for its first thread."""
    for thread in process.threads():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread.id, {core})


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """TERM, then KILL; what it has started and left behind is ended, too."""
    below = tree(process.pid)[1:]
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(below, timeout=5)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(alive, timeout=5)


def _wait(process: "subprocess.Popen[bytes]", url: str, output: Path | None, patience: float, poll: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} exited with {process.returncode}{_last_line(output)}")
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310  loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(poll)
    raise RuntimeError(f"{url} did not answer within {patience:g} s{_last_line(output)}")


def _last_line(output: Path | None) -> str:
    lines = output.read_text(errors="replace").split("\n") if output else []
    return next((f": {line.strip()[:200]}" for line in reversed(lines) if line.strip()), "")
