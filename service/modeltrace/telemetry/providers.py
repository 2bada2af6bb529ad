"""The telemetry of a process: its providers, and their shutdown under one deadline."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from opentelemetry._logs import LoggerProvider as ApiLoggerProvider
from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.metrics import MeterProvider as ApiMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider
from opentelemetry.trace import TracerProvider as ApiTracerProvider

from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.export.queue import ExportQueue
from modeltrace.telemetry.records.trace import RequestTrace, RequestTracer
from modeltrace.telemetry.sdk.counting_exporters import ExportCounter
from modeltrace.threads import run_until

SCOPE_NAME = "modeltrace"
PROCESS_METRICS = {
    "process.cpu.time": ["user", "system"],
    "process.cpu.utilization": ["user", "system"],
    "process.memory.usage": None,
    "process.memory.virtual": None,
    "process.thread.count": None,
    "process.open_file_descriptor.count": None,
}


class ShutdownReport(NamedTuple):
    """Items that were not delivered since the start, by kind: lost, or on disk for the next start."""

    lost: dict[str, int]
    spooled: dict[str, int]
    sidecar_ended: bool = True  # otherwise it continues to deliver telemetry by itself


@dataclass(frozen=True)
class SidecarPipeline:
    """Records requests and exports them through the sidecar: see `modeltrace.telemetry.export.queue`."""

    tracer: RequestTracer
    queue: ExportQueue
    health: ExportHealth
    active_requests: Counter[tuple[str, str]]  # requests in flight by method and scheme

    @contextmanager
    def record_shadow(self, parent: RequestTrace) -> Iterator[RequestTrace]:
        """Yield the trace of a shadow request for a finished request. It is exported when the block ends."""
        request = self.tracer.start_shadow(parent)
        try:
            yield request
        finally:
            request.end = request.now()
            self.queue.enqueue(request)

    def close(self, deadline: float) -> ShutdownReport:
        """Deliver as much as possible by the monotonic `deadline`."""
        ended = self.queue.close(deadline)
        lost = self.health.lost_items(self.queue)
        return ShutdownReport(lost, self.health.spooled_items(), ended)


@dataclass(frozen=True)
class Telemetry:
    """The providers of one process. If telemetry is disabled, they are no-ops, so callers need no check.

    Attributes:
        prediction_logger_provider: of prediction log records, if the SDK exports them.
        export_counters: count what the SDK's processors accept and deliver.
        enabled: whether the providers export telemetry. A pipeline may exist without them.
        pipeline: exports predictions through the sidecar; `None` if the SDK does.
    """

    tracer_provider: ApiTracerProvider = field(default_factory=NoOpTracerProvider)
    meter_provider: ApiMeterProvider = field(default_factory=NoOpMeterProvider)
    logger_provider: ApiLoggerProvider = field(default_factory=NoOpLoggerProvider)
    prediction_logger_provider: ApiLoggerProvider = field(default_factory=NoOpLoggerProvider)
    export_counters: tuple[ExportCounter, ...] = ()
    enabled: bool = False
    pipeline: SidecarPipeline | None = None

    def flush(self, seconds: float) -> None:
        """Export the spans and prediction log records that wait in the SDK's queues; at most `seconds` per signal."""
        for provider in (self.tracer_provider, self.prediction_logger_provider):
            if isinstance(provider, TracerProvider | LoggerProvider):
                provider.force_flush(int(seconds * 1000))

    def shutdown(self, seconds: float) -> ShutdownReport:
        """Flush all signals and stop, within `seconds`.

        The providers stop at the same time. Otherwise, if the endpoint does not respond, the timeouts of all signals
        would add up. Work of the SDK after the deadline runs on daemon threads.
        """
        deadline = time.monotonic() + seconds
        if self.pipeline:  # the meter provider collects the last metrics when it stops
            self.pipeline.queue.drain(time.monotonic() + seconds / 4)
        stops: list[Callable[[], object]] = [
            provider.shutdown
            for provider in (
                self.tracer_provider,
                self.meter_provider,
                self.logger_provider,
                self.prediction_logger_provider,
            )
            if isinstance(provider, TracerProvider | MeterProvider | LoggerProvider)
        ]
        run_until(deadline, stops, "telemetry-shutdown")
        report = self.pipeline.close(deadline) if self.pipeline else ShutdownReport({}, {})
        lost = Counter(report.lost)
        for counter in self.export_counters:
            lost[counter.item_name] += counter.lost()
        return report._replace(lost=dict(+lost))  # `+` removes zeros


def instrument_process(meters: MeterProvider) -> None:
    """Measure CPU, memory, threads and open files of this process."""
    SystemMetricsInstrumentor(config=PROCESS_METRICS).instrument(meter_provider=meters)


def log_shutdown_report(report: ShutdownReport) -> None:
    """Log the numbers of items that were not delivered.

    The providers have stopped. A record that was logged earlier during the shutdown would itself be counted as lost.
    """
    logger = logging.getLogger(SCOPE_NAME)
    if not report.sidecar_ended:
        logger.warning("the sidecar continues to deliver telemetry by itself")
    if report.lost:
        logger.error("telemetry not delivered since the start: %s", _format_counts(report.lost))
    if report.spooled:
        logger.warning("telemetry kept on disk for the next start: %s", _format_counts(report.spooled))


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())
