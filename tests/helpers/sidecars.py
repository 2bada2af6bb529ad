"""Find the sidecars of a service, and parse the counts of lost or spooled telemetry in its log."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from tests.helpers.processes import Process


def sidecars(service: Process) -> list[int]:
    """List the process IDs of the sidecars of a service, or of its workers, that have not ended."""
    pids, parents = [], [service.popen.pid]
    while parents:
        with suppress(OSError):
            pid = parents.pop()
            children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            parents += children
            pids += [child for child in children if is_sidecar(child)]
            for thread in Path(f"/proc/{pid}/task").iterdir():  # a child belongs to the thread that started it
                if int(thread.name) != pid:
                    of_thread = [int(child) for child in (thread / "children").read_text().split()]
                    parents += of_thread
                    pids += [child for child in of_thread if is_sidecar(child)]
    return pids


def is_sidecar(pid: int) -> bool:
    """Return whether a process is a sidecar that has not ended."""
    return b"modeltrace.sidecar" in Path(f"/proc/{pid}/cmdline").read_bytes()


def has_ended(pid: int) -> bool:
    """Return whether a process has ended; it may be a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def kill_leftover(pid: int) -> None:
    """Kill a process if a failed test has not stopped it."""
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def counts_in_log(log: str, message: str) -> dict[str, int]:
    """Return the counts in the log line with a message, by kind."""
    match = re.search(rf"{message}[^:\"]*: ([^\"]+)", log)
    return {kind: int(n) for n, kind in re.findall(r"(\d+) ([a-z ]+)", match[1])} if match else {}
