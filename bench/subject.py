"""A service under measurement, told apart from the exporter process beside it, and what it says of its losses."""

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
    """CPU seconds so far: of the service with all its workers, and of their exporter processes."""

    service: float
    sidecar: float


class UndeliveredCounts(NamedTuple):
    """What was not delivered, by kind, as the service says it at its stop: gone for good, or kept on disk."""

    lost: Counter[str]
    spooled: Counter[str]


@dataclass(frozen=True)
class Subject:
    """A service that answers at a loopback port."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def sidecars(self) -> list[psutil.Process]:
        """The exporter processes, one a worker."""
        return [one for one in process_tree(self.pid) if SIDECAR_MODULE in one.cmdline()]

    def workers(self) -> list[psutil.Process]:
        """The service and whatever it runs besides."""
        apart = {one.pid for one in self.sidecars()}
        return [one for one in process_tree(self.pid) if one.pid not in apart]

    def cpu(self) -> CpuSeconds:
        """What they have used so far."""
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
        bundle: what is served.
        env: where telemetry goes, and whatever else differs from the default settings.
        workers: processes that answer.
        core: where the service runs.
        other_core: where its exporter processes run.
        output: the file that takes what it prints; `None` throws it away.
    """
    port = free_port()
    command = [sys.executable, "-m", "modeltrace", "serve", str(bundle), "--port", str(port), "--workers", str(workers)]
    ready = f"http://127.0.0.1:{port}/readyz"
    with run_process(command, ready_url=ready, env=env, core=core, output=output) as process:
        service = Subject(port, process.pid)
        if other_core is not None:
            for one in service.sidecars():
                pin_process(one, other_core)
        yield service


def read_undelivered(output: Path) -> UndeliveredCounts:
    """What a service that has stopped said it had not delivered."""
    with output.open(errors="replace") as lines:
        return parse_undelivered(lines)


def parse_undelivered(lines: Iterable[str]) -> UndeliveredCounts:
    """The same from its log lines."""
    found = UndeliveredCounts(Counter(), Counter())
    for line in lines:
        for start, numbers in zip((LOST_PREFIX, SPOOLED_PREFIX), found, strict=True):
            if start in line:
                message = str(json.loads(line)["message"])
                for figure in message.removeprefix(start).split(", "):
                    number, _, what = figure.partition(" ")
                    numbers[what] += int(number)
    return found
