"""The service under measurement, the CPU time of its processes, and the losses that it reports."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.processes import cpu_seconds, free_port, pin_process, process_tree, run_process

SIDECAR_MODULE = "modeltrace.sidecar"
LOST_PREFIX = "telemetry not delivered since the start: "
SPOOLED_PREFIX = "telemetry kept on disk for the next start: "


class CpuSeconds(NamedTuple):
    """CPU seconds of the service with all its workers, and of the sidecars."""

    service: float
    sidecar: float


class UndeliveredCounts(NamedTuple):
    """Items that the service reports as not delivered when it stops, by kind: lost, or spooled on disk."""

    lost: Counter[str]
    spooled: Counter[str]


@dataclass(frozen=True)
class Subject:
    """A running service on a loopback port."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """The base URL of the service."""
        return f"http://127.0.0.1:{self.port}"

    def sidecars(self) -> list[psutil.Process]:
        """Return the sidecars, one per worker."""
        return [process for process in process_tree(self.pid) if SIDECAR_MODULE in process.cmdline()]

    def workers(self) -> list[psutil.Process]:
        """Return all processes of the service except the sidecars."""
        excluded = {sidecar.pid for sidecar in self.sidecars()}
        return [process for process in process_tree(self.pid) if process.pid not in excluded]

    def cpu(self) -> CpuSeconds:
        """Return the CPU time used so far."""
        return CpuSeconds(cpu_seconds(self.workers()), cpu_seconds(self.sidecars()))


@contextmanager
def run_subject(
    bundle: Path,
    env: Mapping[str, str],
    *,
    workers: int = 1,
    core: int | None = None,
    other_core: int | None = None,
    output: Path | None = None,
) -> Iterator[Subject]:
    """Serve a bundle until the block ends.

    Args:
        bundle: the bundle to serve.
        env: the settings that differ from the defaults.
        workers: number of worker processes.
        core: the core of the service.
        other_core: the core of the sidecars.
        output: file for the output of the service; `None` discards it.
    """
    port = free_port()
    command = [sys.executable, "-m", "modeltrace", "serve", str(bundle), "--port", str(port), "--workers", str(workers)]
    ready = f"http://127.0.0.1:{port}/readyz"
    with run_process(command, ready_url=ready, env=env, core=core, output=output) as process:
        service = Subject(port, process.pid)
        if other_core is not None:
            for sidecar in service.sidecars():
                pin_process(sidecar, other_core)
        yield service


def read_undelivered(output: Path) -> UndeliveredCounts:
    """Read the counts of undelivered items from the output of a stopped service."""
    with output.open(errors="replace") as lines:
        return parse_undelivered(lines)


def parse_undelivered(lines: Iterable[str]) -> UndeliveredCounts:
    """Parse the counts of undelivered items from the log lines of a service."""
    undelivered = UndeliveredCounts(Counter(), Counter())
    for line in lines:
        for prefix, counts in zip((LOST_PREFIX, SPOOLED_PREFIX), undelivered, strict=True):
            if prefix in line:
                message = str(json.loads(line)["message"])
                for entry in message.removeprefix(prefix).split(", "):
                    number, _, kind = entry.partition(" ")
                    counts[kind] += int(number)
    return undelivered
