"""Builds telemetry without a sidecar: processors and exporters of the OpenTelemetry SDK run in this process."""

import os

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from modeltrace.otel_settings import OtelSettings
from modeltrace.telemetry.metrics.readers import PrometheusReader
from modeltrace.telemetry.metrics.views import build_views
from modeltrace.telemetry.providers import SCOPE_NAME, Telemetry, instrument_process
from modeltrace.telemetry.sampling import IgnoreRemoteParent
from modeltrace.telemetry.sdk.counting_exporters import (
    PREDICTION_QUEUE_SIZE,
    CountingLogProcessor,
    CountingSpanProcessor,
    ExportCounter,
    build_exporters,
)


def build_sdk_provider(
    settings: OtelSettings,
    resource: Resource,
    *,
    prometheus: PrometheusReader | None = None,
    trust_context: bool = True,
) -> Telemetry:
    """Build the providers. Call it once, in the process that serves: their threads do not survive a fork.

    Args:
        settings: select the exporters.
        resource: describes this process.
        prometheus: the reader of `/metrics`; `None` if the Prometheus exporter is disabled.
        trust_context: whether callers decide on sampling.
    """
    if settings.sdk_disabled:
        return Telemetry()
    # The SDK and the instrumentation read these variables; their constructors have no parameters for them.
    os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

    counters: list[ExportCounter] = []

    def new_counter(item_name: str) -> ExportCounter:
        counters.append(ExportCounter(item_name))
        return counters[-1]

    # The meter provider is built first: the queues of the other providers report to it.
    meters = MeterProvider(
        metric_readers=[
            *(PeriodicExportingMetricReader(exporter) for exporter in build_exporters(settings, "metrics")),
            *([prometheus.with_sources((), resource, InstrumentationScope(SCOPE_NAME))] if prometheus else []),
        ],
        resource=resource,
        views=build_views(),
        shutdown_on_exit=False,
    )
    if prometheus:
        prometheus.start()
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if not trust_context:
        tracers.sampler = IgnoreRemoteParent(tracers.sampler)
    for span_exporter in build_exporters(settings, "traces", meters):
        tracers.add_span_processor(CountingSpanProcessor(span_exporter, new_counter("spans"), meters))

    # Prediction log records have a queue of their own, so that other log records cannot displace them.
    loggers, prediction_loggers = (LoggerProvider(resource=resource, shutdown_on_exit=False) for _ in range(2))
    queue_size = int(settings.variables.values.get("OTEL_BLRP_MAX_QUEUE_SIZE", PREDICTION_QUEUE_SIZE))
    for exporter in build_exporters(settings, "logs", meters):
        loggers.add_log_record_processor(CountingLogProcessor(exporter, new_counter("log records"), meters))
    for exporter in build_exporters(settings, "logs", meters):
        counter = new_counter("prediction log records")
        prediction_loggers.add_log_record_processor(CountingLogProcessor(exporter, counter, meters, queue_size))

    instrument_process(meters)
    return Telemetry(tracers, meters, loggers, prediction_loggers, tuple(counters), enabled=True)
