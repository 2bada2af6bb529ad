"""The stack as a backend: Jaeger, Prometheus and Loki (or a log file) behind one Collector."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

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
# Maximum number of traces of exemplars to look up, and maximum number of concurrent look-ups.
MAX_TRACES_CHECKED = 50
MAX_CONCURRENT_CHECKS = 8
# Seconds until a trace is sampled and stored. Younger exemplars are not checked.
SETTLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class StackAddresses:
    """URLs of the components, without a trailing slash. Grafana is optional; `log_file` replaces Loki."""

    jaeger: str = JAEGER_URL
    loki: str = LOKI_URL
    prometheus: str = PROMETHEUS_URL
    grafana: str | None = None
    log_file: Path | None = None


async def find_log_store(client: httpx.AsyncClient, addresses: StackAddresses) -> StackAddresses:
    """Add the log file of `./dev stack up` to the addresses if it is needed and its folder exists.

    It is needed if the addresses name neither a log file nor a Loki, and no Loki answers at the default address.
    """
    file = default_log_file()
    if addresses.log_file or addresses.loki != LOKI_URL or not file.parent.is_dir():
        return addresses
    try:
        await Loki(addresses.loki, client).check()
    except UnreachableError:
        return replace(addresses, log_file=file)
    return addresses


class StackBackend:
    """The components of the stack."""

    receiver = "the Collector (port 4318, or 4317 for gRPC; ./dev stack logs otelcol)"

    def __init__(self, client: httpx.AsyncClient, addresses: StackAddresses) -> None:
        self._jaeger = Jaeger(addresses.jaeger, client)
        self._log_store = LogFile(addresses.log_file) if addresses.log_file else Loki(addresses.loki, client)
        self._prometheus = Prometheus(addresses.prometheus, client)
        self._grafana = addresses.grafana

    async def check(self) -> None:
        """Check that all components answer; the message names those that do not."""
        components = (self._jaeger, self._log_store, self._prometheus)
        results = await asyncio.gather(*(part.check() for part in components), return_exceptions=True)
        errors = [error for error in results if error is not None]
        for error in errors:
            if not isinstance(error, UnreachableError):
                raise error
        if errors:
            raise UnreachableError(f"{'; '.join(map(str, errors))}. Start what is missing: {START_COMMAND}")

    async def span_names(self, trace_id: str) -> list[str]:
        """Return the names of the spans of a trace, from Jaeger."""
        return await self._jaeger.span_names(trace_id)

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """Return the log records of a trace, from Loki or the log file."""
        return await self._log_store.log_records(trace_id)

    async def exemplar_metrics(self, trace_id: str) -> list[str]:
        """Return the Prometheus names of the metrics that have an exemplar of a trace."""
        exemplars = await self._prometheus.exemplars(REQUEST_METRICS)
        return sorted({exemplar.metric for exemplar in exemplars if exemplar.trace_id == trace_id})

    async def links(self, trace_id: str) -> list[Link]:
        """Return the page of each component. Without such a page, return a page of Grafana or the JSON."""
        now = time.time()
        grafana = self._grafana
        if await self._jaeger.has_web_ui():
            trace = self._jaeger.trace_page_url(trace_id)
        else:
            trace = explore_trace(grafana, trace_id, now) if grafana else self._jaeger.trace_json_url(trace_id)
        if await self._prometheus.has_web_ui():
            metric = self._prometheus.graph_page_url()
        else:
            metric = (
                explore_metric(grafana, LINKED_METRIC, now) if grafana else self._prometheus.exemplars_json_url(now)
            )
        return [Link("trace", trace), self._log_store.link(trace_id, now, grafana), Link("exemplars", metric)]

    async def explain_missing(self, missing: Collection[Signal]) -> list[str]:
        """Return the size of the Collector's queues, and whether Prometheus stores exemplars."""
        lines = []
        for signal, component, exporter_name, other_reason in (
            ("span", "Jaeger", "jaeger", "was the trace not sampled (otel/sampling.yaml)?"),
            ("log record", self._log_store.title, self._log_store.exporter_name, "were the records rejected?"),
            ("exemplar", "Prometheus", "prometheus", ""),
        ):
            if signal not in missing:
                continue
            if exporter_name and (queued := await self._prometheus.collector_queue_size(exporter_name)):
                lines.append(f"{queued:,} queued in the Collector for {component}: is it healthy? ./dev stack status")
            elif other_reason:
                state = "an empty queue" if exporter_name else "no queue"
                lines.append(f"the Collector has {state} for {component}: {other_reason} ./dev stack logs otelcol")
        if "exemplar" in missing and not await self._prometheus.stores_exemplars():
            lines.append("Prometheus stores no exemplars: start it with --enable-feature=exemplar-storage")
        return lines

    async def health_findings(self, trace_id: str) -> list[str]:  # noqa: ARG002  the hub uses it
        """Return an empty list: the alerts of the stack report faults of telemetry."""
        return []

    async def unresolved_exemplars(self) -> UnresolvedExemplars | None:
        """Look up the traces of the latest exemplars. Sampling in the Collector drops traces but not exemplars."""
        before = time.time() - SETTLE_SECONDS
        exemplars = await self._prometheus.exemplars(PREDICTION_METRICS)
        latest = sorted((e for e in exemplars if e.timestamp <= before), key=lambda e: e.timestamp, reverse=True)
        trace_ids = list(dict.fromkeys(exemplar.trace_id for exemplar in latest))[:MAX_TRACES_CHECKED]
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_CHECKS)

        async def exists(trace_id: str) -> bool:
            async with semaphore:
                return bool(await self._jaeger.span_names(trace_id))

        found = await asyncio.gather(*(exists(trace_id) for trace_id in trace_ids))
        return UnresolvedExemplars(len(trace_ids), found.count(False))
