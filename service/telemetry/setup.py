"""Builds the providers once, hands out what the service needs of them, and flushes all of them under one deadline."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry._logs import LoggerProvider as ApiLoggerProvider
from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.metrics import MeterProvider as ApiMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider
from opentelemetry.trace import TracerProvider as ApiTracerProvider

from service.settings import OtelSettings
from service.telemetry.exporters import AUDIT_QUEUE, ExporterBuilder, LogBatches, SpanBatches, Tally
from service.telemetry.metrics import build_views

SCOPE = "modeltrace"
PROCESS_METRICS = {
    "process.cpu.time": ["user", "system"],
    "process.cpu.utilization": ["user", "system"],
    "process.memory.usage": None,
    "process.memory.virtual": None,
    "process.thread.count": None,
    "process.open_file_descriptor.count": None,
}


@dataclass(frozen=True)
class Telemetry:
    """The providers of one process. With telemetry off they are the API's own no-ops: no code asks whether."""

    tracer_provider: ApiTracerProvider = field(default_factory=NoOpTracerProvider)
    meter_provider: ApiMeterProvider = field(default_factory=NoOpMeterProvider)
    logger_provider: ApiLoggerProvider = field(default_factory=NoOpLoggerProvider)
    audit_provider: ApiLoggerProvider = field(default_factory=NoOpLoggerProvider)
    tallies: tuple[Tally, ...] = ()
    enabled: bool = False

    def shutdown(self, seconds: float) -> dict[str, int]:
        """Flush every signal at the same time and stop; return after `seconds` at the latest.

        One after the other, a silent endpoint would cost each signal's timeout. What the SDK still tries after the
        deadline happens on daemon threads, which end with the process.

        Returns:
            How many items of each kind were taken and never delivered, since the start; only kinds that lost any.
        """
        deadline = time.monotonic() + seconds
        stops: list[Callable[[], object]] = [
            provider.shutdown
            for provider in (self.tracer_provider, self.meter_provider, self.logger_provider, self.audit_provider)
            if isinstance(provider, TracerProvider | MeterProvider | LoggerProvider)
        ]
        threads = [threading.Thread(target=stop, daemon=True, name="telemetry-shutdown") for stop in stops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return {tally.what: lost for tally in self.tallies if (lost := tally.lost())}


def build_telemetry(
    settings: OtelSettings, resource: Resource, *, pull_readers: tuple[MetricReader, ...] = ()
) -> Telemetry:
    """Build all providers for this process. Call it once, in the process that serves: nothing survives a fork.

    `pull_readers` are read by somebody else, such as the reader behind `/metrics`.
    """
    if settings.sdk_disabled:
        return Telemetry()
    # Read by the SDK's and the instrumentation's constructors, which offer no parameter for them.
    os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

    exporters = ExporterBuilder(settings)
    spans, records, audits = Tally("spans"), Tally("log records"), Tally("audit records")

    # The meter provider comes first: the other providers' queues report to it.
    meters = MeterProvider(
        metric_readers=[*(PeriodicExportingMetricReader(e) for e in exporters.metrics()), *pull_readers],
        resource=resource,
        views=build_views(),
        shutdown_on_exit=False,
    )
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if span_exporter := exporters.spans(meters):
        tracers.add_span_processor(SpanBatches(span_exporter, spans, meters))

    loggers, audit = (LoggerProvider(resource=resource, shutdown_on_exit=False) for _ in range(2))
    if log_exporter := exporters.logs(meters):
        loggers.add_log_record_processor(LogBatches(log_exporter, records, meters))
    if audit_exporter := exporters.logs(meters):
        audit.add_log_record_processor(LogBatches(audit_exporter, audits, meters, queue=AUDIT_QUEUE))

    SystemMetricsInstrumentor(config=PROCESS_METRICS).instrument(meter_provider=meters)
    return Telemetry(tracers, meters, loggers, audit, (spans, records, audits), enabled=True)


def report_losses(losses: dict[str, int]) -> None:
    """Say what was not delivered. A loss in silence is the one that is found too late."""
    if losses:
        text = ", ".join(f"{number} {what}" for what, number in losses.items())
        logging.getLogger(SCOPE).error("telemetry not delivered since the start: %s", text)
