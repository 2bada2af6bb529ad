"""The real stack as a backend: Jaeger, Prometheus and Loki, or a log file in its place, behind one Collector."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import httpx

from modeltrace.client.service import UnreachableError
from modeltrace.doctor.backends.backend import Dangling, Link, LogSeen, Signal
from modeltrace.doctor.backends.grafana import explore_metric, explore_trace
from modeltrace.doctor.backends.jaeger import Jaeger
from modeltrace.doctor.backends.log_file import LogFile, default_log_file
from modeltrace.doctor.backends.loki import Loki
from modeltrace.doctor.backends.prometheus import OF_A_PREDICTION, OF_PREDICTIONS, SHOWN, Prometheus

JAEGER = "http://127.0.0.1:16686"
LOKI = "http://127.0.0.1:3100"
PROMETHEUS = "http://127.0.0.1:9090"

START = "./dev stack up"
# How many traces are looked for behind exemplars, and how many of them at a time.
LOOKED_AT = 50
AT_A_TIME = 8
# Seconds that a trace may take to be decided about and stored; a younger exemplar says nothing yet.
SETTLED = 30.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts answer, without a slash at the end. Grafana is optional; a log file takes Loki's place."""

    jaeger: str = JAEGER
    loki: str = LOKI
    prometheus: str = PROMETHEUS
    grafana: str | None = None
    log_file: Path | None = None


class LogStore(Protocol):
    """Where the Collector puts log records. `queue` is in the name of its exporter; `""`: it has no queue."""

    title: str
    queue: str

    async def check(self) -> None:
        """See that it can be asked."""

    async def logs(self, trace_id: str) -> list[LogSeen]:
        """The log records of a trace."""

    def link(self, trace_id: str, at: float, grafana: str | None) -> Link:
        """Where a person looks at them."""


async def find_log_store(client: httpx.AsyncClient, addresses: Addresses) -> Addresses:
    """Take the log file of `./dev stack up` if it exists, none is named, and no Loki answers at its usual port."""
    file = default_log_file()
    if addresses.log_file or addresses.loki != LOKI or not file.parent.is_dir():
        return addresses
    try:
        await Loki(addresses.loki, client).check()
    except UnreachableError:
        return replace(addresses, log_file=file)
    return addresses


class StackBackend:
    """Asks the three stores. `settled`: see `SETTLED`."""

    entry = "the Collector in front of them (port 4318, or 4317 for gRPC; ./dev stack logs otelcol)"

    def __init__(self, client: httpx.AsyncClient, addresses: Addresses, *, settled: float = SETTLED) -> None:
        self._jaeger = Jaeger(addresses.jaeger, client)
        self._logs: LogStore = LogFile(addresses.log_file) if addresses.log_file else Loki(addresses.loki, client)
        self._prometheus = Prometheus(addresses.prometheus, client)
        self._grafana = addresses.grafana
        self._settled = settled

    async def check(self) -> None:
        """See that each of them answers; the message names those that do not."""
        parts = (self._jaeger, self._logs, self._prometheus)
        errors = [e for e in await asyncio.gather(*(p.check() for p in parts), return_exceptions=True) if e is not None]
        absent = [str(error) for error in errors if isinstance(error, UnreachableError)]
        if len(absent) < len(errors):
            raise next(error for error in errors if not isinstance(error, UnreachableError))
        if absent:
            raise UnreachableError(f"{'; '.join(absent)}. Start what is missing: {START}")

    async def spans(self, trace_id: str) -> list[str]:
        """The names of its spans, from Jaeger."""
        return await self._jaeger.spans(trace_id)

    async def logs(self, trace_id: str) -> list[LogSeen]:
        """Its log records, from Loki or the log file."""
        return await self._logs.logs(trace_id)

    async def exemplars(self, trace_id: str) -> list[str]:
        """The names, as Prometheus has them, of the metrics with an exemplar of it."""
        found = await self._prometheus.exemplars(OF_A_PREDICTION)
        return sorted({exemplar.metric for exemplar in found if exemplar.trace_id == trace_id})

    async def links(self, trace_id: str) -> list[Link]:
        """A part's own page where it has one; otherwise Grafana's, or else, without a Grafana, its answer as JSON."""
        at = time.time()
        grafana = self._grafana
        if await self._jaeger.has_pages():
            trace = self._jaeger.page(trace_id)
        else:
            trace = explore_trace(grafana, trace_id, at) if grafana else self._jaeger.answer(trace_id)
        if await self._prometheus.has_pages():
            metric = self._prometheus.page()
        else:
            metric = explore_metric(grafana, SHOWN, at) if grafana else self._prometheus.answer(at)
        return [Link("trace", trace), self._logs.link(trace_id, at, grafana), Link("exemplars", metric)]

    async def explain(self, missing: Collection[Signal]) -> list[str]:
        """What waits in the Collector, and what a part is set not to keep."""
        lines = []
        for signal, part, queue, otherwise in (
            ("span", "Jaeger", "jaeger", "was the trace sampled away (otel/sampling.yaml)?"),
            ("log record", self._logs.title, self._logs.queue, "was it refused?"),
            ("exemplar", "Prometheus", "prometheus", ""),
        ):
            if signal not in missing:
                continue
            if queue and (waiting := await self._prometheus.waiting_for(queue)):
                lines.append(f"{waiting:,} wait in the Collector for {part}: is it healthy? ./dev stack status")
            elif otherwise:
                state = f"nothing waits in the Collector for {part}" if queue else f"{part} has no queue before it"
                lines.append(f"{state}: {otherwise} ./dev stack logs otelcol")
        if "exemplar" in missing and not await self._prometheus.keeps_exemplars():
            lines.append("Prometheus keeps no exemplars: start it with --enable-feature=exemplar-storage")
        return lines

    async def dangling(self) -> Dangling | None:
        """Look for the traces of the latest exemplars: sampling in the Collector drops traces, exemplars stay."""
        before = time.time() - self._settled
        found = await self._prometheus.exemplars(OF_PREDICTIONS)
        latest = sorted((e for e in found if e.at <= before), key=lambda e: e.at, reverse=True)
        named = list(dict.fromkeys(exemplar.trace_id for exemplar in latest))[:LOOKED_AT]
        turn = asyncio.Semaphore(AT_A_TIME)

        async def is_there(trace_id: str) -> bool:
            async with turn:
                return await self._jaeger.has(trace_id)

        there = await asyncio.gather(*(is_there(trace_id) for trace_id in named))
        return Dangling(len(named), there.count(False))
