"""What the service needs of OpenTelemetry, built once, and flushed under one deadline."""

import logging
import threading
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
from modeltrace.telemetry.sdk.exporters import ExportCounter

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
    """What was not delivered since the start, by kind: gone for good, or kept on disk for the next start."""

    lost: dict[str, int]
    spooled: dict[str, int]


@dataclass(frozen=True)
class SidecarPipeline:
    """The way out of predictions that are written down: see `modeltrace.telemetry.export.queue`."""

    tracer: RequestTracer
    queue: ExportQueue
    health: ExportHealth
    active_requests: Counter[tuple[str, str]]  # requests in flight by method and scheme

    @contextmanager
    def record_shadow(self, parent: RequestTrace) -> Iterator[RequestTrace]:
        """The trace of what a challenger makes of a request that is over; it goes out when the block ends."""
        request = self.tracer.start_shadow(parent)
        try:
            yield request
        finally:
            request.end = request.now()
            self.queue.enqueue(request)

    def close(self, deadline: float) -> ShutdownReport:
        """Deliver what can be delivered by the monotonic `deadline`."""
        ended = self.queue.close(deadline)
        lost = self.health.lost_items(self.queue)
        if not ended:
            logging.getLogger(SCOPE_NAME).warning("the sidecar goes on by itself with what it has not delivered yet")
        return ShutdownReport(lost, self.health.spooled_items())


@dataclass(frozen=True)
class Telemetry:
    """The providers of one process. With telemetry off they are the API's own no-ops: no code asks whether.

    `records` is there when predictions are told from records, not by the SDK.
    """

    tracer_provider: ApiTracerProvider = field(default_factory=NoOpTracerProvider)
    meter_provider: ApiMeterProvider = field(default_factory=NoOpMeterProvider)
    logger_provider: ApiLoggerProvider = field(default_factory=NoOpLoggerProvider)
    prediction_logger_provider: ApiLoggerProvider = field(default_factory=NoOpLoggerProvider)
    export_counters: tuple[ExportCounter, ...] = ()
    enabled: bool = False
    pipeline: SidecarPipeline | None = None

    def shutdown(self, seconds: float) -> ShutdownReport:
        """Flush every signal at the same time and stop; return after `seconds` at the latest.

        One after the other, a silent endpoint would cost each signal's timeout. What the SDK still tries after the
        deadline happens on daemon threads, which end with the process.
        """
        deadline = time.monotonic() + seconds
        if self.pipeline:  # the last points are collected when the meter provider stops
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
        threads = [threading.Thread(target=stop, daemon=True, name="telemetry-shutdown") for stop in stops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        rest = self.pipeline.close(deadline) if self.pipeline else ShutdownReport({}, {})
        lost = Counter(rest.lost)
        for tally in self.export_counters:
            lost[tally.item_name] += tally.lost()
        lost = +lost  # without those that lost nothing
        return ShutdownReport(dict(lost), rest.spooled)


def instrument_process(meters: MeterProvider) -> None:
    """Measure this process."""
    SystemMetricsInstrumentor(config=PROCESS_METRICS).instrument(meter_provider=meters)


def log_shutdown_report(report: ShutdownReport) -> None:
    """Say what was not delivered. A loss in silence is the one that is found too late."""
    logger = logging.getLogger(SCOPE_NAME)
    if report.lost:
        logger.error("telemetry not delivered since the start: %s", _format_counts(report.lost))
    if report.spooled:
        logger.warning("telemetry kept on disk for the next start: %s", _format_counts(report.spooled))


def _format_counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in numbers.items())
