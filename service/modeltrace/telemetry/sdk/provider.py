"""The stock set-up: OpenTelemetry's SDK, with its processors and exporters in this process."""

import os

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from modeltrace.settings import OtelSettings
from modeltrace.telemetry.metrics.instruments import build_views
from modeltrace.telemetry.provider import Telemetry, instrument_process
from modeltrace.telemetry.sampling import IgnoreRemoteParent
from modeltrace.telemetry.sdk.exporters import (
    PREDICTION_QUEUE_SIZE,
    CountingLogProcessor,
    CountingSpanProcessor,
    ExportCounter,
    ExporterBuilder,
)


def build_sdk_provider(
    settings: OtelSettings,
    resource: Resource,
    *,
    registry: CollectorRegistry | None = None,
    trust_context: bool = True,
) -> Telemetry:
    """Build all providers for this process. Call it once, in the process that serves: nothing survives a fork.

    `registry` is what `/metrics` shows, if anything; without `trust_context`, callers do not decide on sampling.
    """
    if settings.sdk_disabled:
        return Telemetry()
    # Read by the SDK's and the instrumentation's constructors, which offer no parameter for them.
    os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

    exporters = ExporterBuilder(settings)
    tallies: list[ExportCounter] = []

    def tally(what: str) -> ExportCounter:
        tallies.append(ExportCounter(what))
        return tallies[-1]

    # The meter provider comes first: the other providers' queues report to it.
    meters = MeterProvider(
        metric_readers=[
            *(PeriodicExportingMetricReader(exporter) for exporter in exporters.metrics()),
            *([PrometheusMetricReader(registry=registry)] if registry else []),
        ],
        resource=resource,
        views=build_views(),
        shutdown_on_exit=False,
    )
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if not trust_context:
        tracers.sampler = IgnoreRemoteParent(tracers.sampler)
    for span_exporter in exporters.spans(meters):
        tracers.add_span_processor(CountingSpanProcessor(span_exporter, tally("spans"), meters))

    loggers, audit = (LoggerProvider(resource=resource, shutdown_on_exit=False) for _ in range(2))
    for exporter in exporters.logs(meters):
        loggers.add_log_record_processor(CountingLogProcessor(exporter, tally("log records"), meters))
    for exporter in exporters.logs(meters):
        audit.add_log_record_processor(
            CountingLogProcessor(exporter, tally("audit records"), meters, queue=PREDICTION_QUEUE_SIZE)
        )

    instrument_process(meters)
    return Telemetry(tracers, meters, loggers, audit, tuple(tallies), enabled=True)
