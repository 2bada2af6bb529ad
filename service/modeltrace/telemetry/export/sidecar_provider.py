"""Builds telemetry with a sidecar: this process records requests, and the sidecar encodes and exports the records.

Other telemetry (other routes, log records, process metrics) is a few records a minute. The OpenTelemetry SDK records
and encodes it, and the same sidecar delivers it.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Final

from opentelemetry.exporter.otlp.proto.common._internal import _encode_resource
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME
from opentelemetry.semconv.attributes.url_attributes import URL_SCHEME
from opentelemetry.util.http import sanitize_method

from modeltrace.keys import derive_synthetic_token, load_id_key
from modeltrace.otel_env.table import LIMITS, SIGNALS
from modeltrace.settings import Settings, data_dir
from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.export.protocol import SidecarConfig
from modeltrace.telemetry.export.queue import ExportQueue, QueueLimits
from modeltrace.telemetry.export.sidecar_exporters import SidecarLogExporter, SidecarMetricExporter, SidecarSpanExporter
from modeltrace.telemetry.export.sidecar_process import SidecarProcess
from modeltrace.telemetry.metrics.features import FeatureMetrics
from modeltrace.telemetry.metrics.feedback import FeedbackMetrics
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.predictions import PredictionMetrics
from modeltrace.telemetry.metrics.readers import PeriodicRecordMetricsReader, PrometheusReader
from modeltrace.telemetry.metrics.store import StoreHealth
from modeltrace.telemetry.metrics.views import build_views
from modeltrace.telemetry.providers import SCOPE_NAME, SidecarPipeline, Telemetry, instrument_process
from modeltrace.telemetry.records.prediction import Origin
from modeltrace.telemetry.records.trace import RequestTracer
from modeltrace.telemetry.sdk.counting_exporters import CountingLogProcessor, CountingSpanProcessor, ExportCounter

# Milliseconds for which records are batched. The specification's default for spans is 5 s; users wait for traces.
DEFAULT_SCHEDULE_DELAY: Final = 500
# Share of the flush timeout that is reserved for the end of the sidecar.
SIDECAR_EXIT_SHARE: Final = 0.125
METRIC_ACTIVE_REQUESTS: Final = "http.server.active_requests"
# Variables that only the SDK and its instrumentations implement.
SDK_ONLY_VARIABLES: Final = (
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    "OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS",
    *(variable.name for variable in LIMITS),
)


def requires_sdk(settings: Settings) -> str | None:
    """Return a setting in use that only the SDK implements; `None` if there is none."""
    if settings.instrumentation == "sdk":
        return "MODELTRACE_INSTRUMENTATION"
    otel = settings.otel
    if "console" in (*otel.traces_exporter, *otel.logs_exporter, *otel.metrics_exporter):
        return "an exporter to the console"
    return next((name for name in SDK_ONLY_VARIABLES if os.environ.get(name)), None)


def build_sidecar_provider(
    settings: Settings,
    resource: Resource,
    model_catalog: ModelCatalog,
    store: tuple[str, float, int, str] | None = None,
    *,
    prometheus: PrometheusReader | None = None,
) -> Telemetry:
    """Build the providers, the export queue and the sidecar. Call it once, in the process that serves.

    Args:
        settings: the service's settings.
        resource: describes this process.
        model_catalog: the models whose inputs are counted, and their privacy rules.
        store: the `StoreConfig` of the prediction store, which the sidecar writes to; `None`: no prediction is stored.
        prometheus: the reader of `/metrics`; `None` if the Prometheus exporter is disabled.
    """
    otel = settings.otel
    origin = Origin(_encode_resource(resource).SerializeToString(), SCOPE_NAME)
    health = ExportHealth(StoreHealth() if store else None)
    active: Counter[tuple[str, str]] = Counter()
    token = derive_synthetic_token(load_id_key(settings))
    service_name = "" if otel.sdk_disabled else str(resource.attributes[SERVICE_NAME])
    start_sidecar = partial(SidecarProcess, origin, _sidecar_config(settings, service_name, store))
    new_queue = partial(
        ExportQueue,
        start_sidecar,
        limits=_queue_limits(settings),
        on_event=health.on_event,
        model_catalog=model_catalog,
    )
    if otel.sdk_disabled:
        tracer = RequestTracer(None, synthetic_token=token)
        return Telemetry(pipeline=SidecarPipeline(tracer, new_queue(), health, active))
    # The SDK and the instrumentation read these variables; their constructors have no parameters for them.
    os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

    signals, variables = otel.otlp_signals(), otel.variables.values
    temporality = variables.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE")
    delta = temporality in ("delta", "lowmemory")
    exemplars = variables.get("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based")

    def build_metrics(*, delta: bool) -> tuple[PredictionMetrics, FeatureMetrics, FeedbackMetrics]:
        return (
            PredictionMetrics(exemplar_filter=exemplars, delta=delta),
            FeatureMetrics(model_catalog, exemplar_filter=exemplars, delta=delta),
            FeedbackMetrics(exemplar_filter=exemplars, delta=delta),
        )

    pushed = build_metrics(delta=delta)
    # Prometheus needs cumulative counts.
    scraped = build_metrics(delta=False) if delta else pushed
    used = {*([pushed] if "metrics" in signals else []), *([scraped] if prometheus else [])}
    on_records = [prometheus.on_records] if prometheus else []
    queue = new_queue(
        [*(count for predictions, features, _ in used for count in (predictions.add, features.add)), *on_records],
        [*(feedback.add for _, _, feedback in used), *on_records],
    )

    spans, log_records = ExportCounter("spans"), ExportCounter("log records")
    scope = InstrumentationScope(SCOPE_NAME)
    readers: list[MetricReader] = []
    if "metrics" in signals:
        reader = PeriodicRecordMetricsReader(SidecarMetricExporter(queue))
        readers.append(reader.with_sources(pushed, resource, scope))
    if prometheus:
        readers.append(prometheus.with_sources(scraped, resource, scope))
    meters = MeterProvider(
        metric_readers=readers,
        resource=resource,
        # Active requests are counted before the instrumentation, which does not see predictions.
        views=[
            *build_views(),
            View(
                meter_name="opentelemetry.instrumentation.*",
                instrument_name=METRIC_ACTIVE_REQUESTS,
                aggregation=DropAggregation(),
            ),
        ],
        shutdown_on_exit=False,
    )
    if prometheus:
        prometheus.start()
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if "traces" in signals:
        tracers.add_span_processor(CountingSpanProcessor(SidecarSpanExporter(queue), spans, meters))
    loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
    if "logs" in signals:
        loggers.add_log_record_processor(CountingLogProcessor(SidecarLogExporter(queue), log_records, meters))

    instrument_process(meters)
    meter = meters.get_meter(SCOPE_NAME)
    exporters = {s: "otlp_grpc" if otel.protocol_for(s) == "grpc" else "otlp_http" for s in SIGNALS}
    health.create_instruments(meter, queue, exporters=exporters)
    meter.create_observable_up_down_counter(
        METRIC_ACTIVE_REQUESTS,
        [partial(_observe_active, active)],
        unit="{request}",
        description="Number of active HTTP server requests.",
    )
    tracer = RequestTracer(tracers.sampler, trust_context=settings.trust_trace_context, synthetic_token=token)
    return Telemetry(
        tracers,
        meters,
        loggers,
        export_counters=(spans, log_records),
        enabled=True,
        pipeline=SidecarPipeline(tracer, queue, health, active),
    )


def _observe_active(active: Counter[tuple[str, str]], _: CallbackOptions) -> Iterable[Observation]:
    requests: Counter[tuple[str, str]] = Counter()
    for (method, scheme), number in list(active.items()):
        requests[sanitize_method(method), scheme] += number
    return [Observation(number, {HTTP_REQUEST_METHOD: m, URL_SCHEME: s}) for (m, s), number in requests.items()]


def _queue_limits(settings: Settings) -> QueueLimits:
    variables, default = settings.otel.variables.values, QueueLimits()
    return QueueLimits(
        int(variables.get("OTEL_BSP_MAX_QUEUE_SIZE", default.spans)),
        int(variables.get("OTEL_BLRP_MAX_QUEUE_SIZE", default.log_records)),
        settings.export_queue_max_bytes,
    )


def _sidecar_config(settings: Settings, service_name: str, store: tuple[str, float, int, str] | None) -> SidecarConfig:
    otel = settings.otel
    signals = {signal: (otel.protocol_for(signal), otel.timeout_for(signal)) for signal in otel.otlp_signals()}
    spool_dir = ""
    if settings.spool_max_bytes and signals:
        # Telemetry that was spooled for one endpoint must never be sent to another.
        endpoints = [(s, otel.protocol_for(s), otel.variables.option(s, "ENDPOINT")) for s in otel.otlp_signals()]
        parent = settings.spool_dir or data_dir() / "spool"
        spool_dir = str(parent / hashlib.sha256(f"{service_name} {endpoints}".encode()).hexdigest()[:16])
    return SidecarConfig(
        signals=signals,
        schedule_delay=int(otel.variables.values.get("OTEL_BSP_SCHEDULE_DELAY", DEFAULT_SCHEDULE_DELAY)) / 1000,
        flush_timeout=settings.flush_timeout * (1 - SIDECAR_EXIT_SHARE),
        spool_dir=spool_dir,
        spool_max_bytes=settings.spool_max_bytes,
        log_level=settings.log_level,
        log_file=str(settings.log_file) if settings.log_file else "",
        log_file_max_bytes=settings.log_file_max_bytes,
        log_file_backup_count=settings.log_file_backup_count,
        store=None if store is None else (*store,),
        queue_max_bytes=settings.export_queue_max_bytes,
    )
