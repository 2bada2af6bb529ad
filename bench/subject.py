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

from bench.processes import cpu_seconds, free_port, move, started, tree

EXPORTER = "modeltrace.sidecar"
LOST = "telemetry not delivered since the start: "
KEPT = "telemetry kept on disk for the next start: "


class Cpu(NamedTuple):
    """CPU seconds so far: of the service with all its workers, and of their exporter processes."""

    service: float
    exporter: float


class Rest(NamedTuple):
    """What was not delivered, by kind, as the service says it at its stop: gone for good, or kept on disk."""

    lost: Counter[str]
    kept: Counter[str]


@dataclass(frozen=True)
class Served:
    """A service that answers at a loopback port."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def exporters(self) -> list[psutil.Process]:
        """The exporter processes, one a worker."""
        return [one for one in tree(self.pid) if EXPORTER in one.cmdline()]

    def workers(self) -> list[psutil.Process]:
        """The service and whatever it runs besides."""
        apart = {one.pid for one in self.exporters()}
        return [one for one in tree(self.pid) if one.pid not in apart]

    def cpu(self) -> Cpu:
        """What they have used so far."""
        return Cpu(cpu_seconds(self.workers()), cpu_seconds(self.exporters()))


@contextmanager
def served(
    bundle: Path,
    env: Mapping[str, str],
    *,
    workers: int = 1,
    core: int | None = None,
    other: int | None = None,
    output: Path | None = None,
) -> Iterator[Served]:
    """Serve a bundle until the block ends.

    Args:
        bundle: what is served.
        env: where telemetry goes, and whatever else differs from the default settings.
        workers: processes that answer.
        core: where the service runs.
        other: where its exporter processes run.
        output: the file that takes what it prints; `None` throws it away.
    """
    port = free_port()
    command = [sys.executable, "-m", "modeltrace", "serve", str(bundle), "--port", str(port), "--workers", str(workers)]
    ready = f"http://127.0.0.1:{port}/readyz"
    with started(command, ready=ready, env=env, core=core, output=output) as process:
        service = Served(port, process.pid)
        if other is not None:
            for one in service.exporters():
                move(one, other)
        yield service


def rest(output: Path) -> Rest:
    """What a service that has stopped said it had not delivered."""
    with output.open(errors="replace") as lines:
        return read_rest(lines)


def read_rest(lines: Iterable[str]) -> Rest:
    """The same from its log lines."""
    found = Rest(Counter(), Counter())
    for line in lines:
        for start, numbers in zip((LOST, KEPT), found, strict=True):
            if start in line:
                message = str(json.loads(line)["message"])
                for figure in message.removeprefix(start).split(", "):
                    number, _, what = figure.partition(" ")
                    numbers[what] += int(number)
    return found
