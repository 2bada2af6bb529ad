"""The real stack as a backend: Jaeger, Prometheus and Loki, or a log file in its place, behind one Collector."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import httpx

from modeltrace.client.service import UnreachableError
from modeltrace.doctor.backends.backend import Link, LogRecordRef, Signal, UnresolvedExemplars
from modeltrace.doctor.backends.grafana import explore_metric, explore_trace
from modeltrace.doctor.backends.jaeger import Jaeger
from modeltrace.doctor.backends.log_file import LogFile, default_log_file
from modeltrace.doctor.backends.loki import Loki
from modeltrace.doctor.backends.prometheus import LINKED_METRIC, PREDICTION_METRICS, REQUEST_METRICS, Prometheus

JAEGER_URL = "http://127.0.0.1:16686"
LOKI_URL = "http://127.0.0.1:3100"
PROMETHEUS_URL = "http://127.0.0.1:9090"

START_COMMAND = "./dev stack up"
# How many traces are looked for behind exemplars, and how many of them at a time.
MAX_TRACES_CHECKED = 50
MAX_CONCURRENT_CHECKS = 8
# Seconds that a trace may take to be decided about and stored; a younger exemplar says nothing yet.
SETTLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class StackAddresses:
    """Where the parts answer, without a slash at the end. Grafana is optional; a log file takes Loki's place."""

    jaeger: str = JAEGER_URL
    loki: str = LOKI_URL
    prometheus: str = PROMETHEUS_URL
    grafana: str | None = None
    log_file: Path | None = None


class LogStore(Protocol):
    """Where the Collector puts log records. `queue` is in the name of its exporter; `""`: it has no queue."""

    title: str
    exporter_name: str

    async def check(self) -> None:
        """See that it can be asked."""

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """The log records of a trace."""

    def link(self, trace_id: str, at: float, grafana: str | None) -> Link:
        """Where a person looks at them."""


async def find_log_store(client: httpx.AsyncClient, addresses: StackAddresses) -> StackAddresses:
    """Take the log file of `./dev stack up` if it exists, none is named, and no Loki answers at its usual port."""
    file = default_log_file()
    if addresses.log_file or addresses.loki != LOKI_URL or not file.parent.is_dir():
        return addresses
    try:
        await Loki(addresses.loki, client).check()
    except UnreachableError:
        return replace(addresses, log_file=file)
    return addresses


class StackBackend:
    """Asks the three stores. `settled`: see `SETTLE_SECONDS`."""

    receiver = "the Collector in front of them (port 4318, or 4317 for gRPC; ./dev stack logs otelcol)"

    def __init__(
        self, client: httpx.AsyncClient, addresses: StackAddresses, *, settle_seconds: float = SETTLE_SECONDS
    ) -> None:
        self._jaeger = Jaeger(addresses.jaeger, client)
        self._log_store: LogStore = LogFile(addresses.log_file) if addresses.log_file else Loki(addresses.loki, client)
        self._prometheus = Prometheus(addresses.prometheus, client)
        self._grafana = addresses.grafana
        self._settle_seconds = settle_seconds

    async def check(self) -> None:
        """See that each of them answers; the message names those that do not."""
        parts = (self._jaeger, self._log_store, self._prometheus)
        errors = [e for e in await asyncio.gather(*(p.check() for p in parts), return_exceptions=True) if e is not None]
        absent = [str(error) for error in errors if isinstance(error, UnreachableError)]
        if len(absent) < len(errors):
            raise next(error for error in errors if not isinstance(error, UnreachableError))
        if absent:
            raise UnreachableError(f"{'; '.join(absent)}. Start what is missing: {START_COMMAND}")

    async def span_names(self, trace_id: str) -> list[str]:
        """The names of its spans, from Jaeger."""
        return await self._jaeger.span_names(trace_id)

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """Its log records, from Loki or the log file."""
        return await self._log_store.log_records(trace_id)

    async def exemplar_metrics(self, trace_id: str) -> list[str]:
        """The names, as Prometheus has them, of the metrics with an exemplar of it."""
        found = await self._prometheus.exemplars(REQUEST_METRICS)
        return sorted({exemplar.metric for exemplar in found if exemplar.trace_id == trace_id})

    async def links(self, trace_id: str) -> list[Link]:
        """A part's own page where it has one; otherwise Grafana's, or else, without a Grafana, its answer as JSON."""
        at = time.time()
        grafana = self._grafana
        if await self._jaeger.has_web_ui():
            trace = self._jaeger.trace_page_url(trace_id)
        else:
            trace = explore_trace(grafana, trace_id, at) if grafana else self._jaeger.trace_json_url(trace_id)
        if await self._prometheus.has_web_ui():
            metric = self._prometheus.graph_page_url()
        else:
            metric = explore_metric(grafana, LINKED_METRIC, at) if grafana else self._prometheus.exemplars_json_url(at)
        return [Link("trace", trace), self._log_store.link(trace_id, at, grafana), Link("exemplars", metric)]

    async def explain_missing(self, missing: Collection[Signal]) -> list[str]:
        """What waits in the Collector, and what a part is set not to keep."""
        lines = []
        for signal, part, queue, otherwise in (
            ("span", "Jaeger", "jaeger", "was the trace sampled away (otel/sampling.yaml)?"),
            ("log record", self._log_store.title, self._log_store.exporter_name, "was it refused?"),
            ("exemplar", "Prometheus", "prometheus", ""),
        ):
            if signal not in missing:
                continue
            if queue and (waiting := await self._prometheus.collector_queue_size(queue)):
                lines.append(f"{waiting:,} wait in the Collector for {part}: is it healthy? ./dev stack status")
            elif otherwise:
                state = f"nothing waits in the Collector for {part}" if queue else f"{part} has no queue before it"
                lines.append(f"{state}: {otherwise} ./dev stack logs otelcol")
        if "exemplar" in missing and not await self._prometheus.stores_exemplars():
            lines.append("Prometheus keeps no exemplars: start it with --enable-feature=exemplar-storage")
        return lines

    async def unresolved_exemplars(self) -> UnresolvedExemplars | None:
        """Look for the traces of the latest exemplars: sampling in the Collector drops traces, exemplars stay."""
        before = time.time() - self._settle_seconds
        found = await self._prometheus.exemplars(PREDICTION_METRICS)
        latest = sorted((e for e in found if e.timestamp <= before), key=lambda e: e.timestamp, reverse=True)
        named = list(dict.fromkeys(exemplar.trace_id for exemplar in latest))[:MAX_TRACES_CHECKED]
        turn = asyncio.Semaphore(MAX_CONCURRENT_CHECKS)

        async def is_there(trace_id: str) -> bool:
            async with turn:
                return await self._jaeger.has_trace(trace_id)

        there = await asyncio.gather(*(is_there(trace_id) for trace_id in named))
        return UnresolvedExemplars(len(named), there.count(False))
