"""The set-up of records: predictions are written down, and a process beside this one tells them.

What is not a prediction (other calls, log records, process metrics) is a few records a minute: it goes through the SDK,
and leaves by the same process.
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
from prometheus_client import CollectorRegistry

from modeltrace.keys import derive_synthetic_token, load_id_key
from modeltrace.otel_env.table import SIGNALS
from modeltrace.settings import Settings, data_dir
from modeltrace.store.config import store_config
from modeltrace.telemetry.export.config import SidecarConfig
from modeltrace.telemetry.export.exporters import SidecarLogExporter, SidecarMetricExporter, SidecarSpanExporter
from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.export.process import SidecarProcess
from modeltrace.telemetry.export.queue import ExportQueue
from modeltrace.telemetry.metrics.features import FeatureMetrics
from modeltrace.telemetry.metrics.feedback import FeedbackMetrics
from modeltrace.telemetry.metrics.instruments import build_views
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.predictions import PeriodicRecordMetricsReader, PredictionMetrics, RequestMetrics
from modeltrace.telemetry.metrics.prometheus import PrometheusReader
from modeltrace.telemetry.metrics.store import StoreHealth
from modeltrace.telemetry.provider import SCOPE_NAME, SidecarPipeline, Telemetry, instrument_process
from modeltrace.telemetry.records.prediction import Origin
from modeltrace.telemetry.records.trace import RequestTracer
from modeltrace.telemetry.sdk.exporters import CountingLogProcessor, CountingSpanProcessor, ExportCounter

# Milliseconds that records gather before they go out; the specification's 5 s for spans is long to look at.
DEFAULT_SCHEDULE_DELAY: Final = 500
# What the exporter process needs to end, of the time that a stop has.
SIDECAR_EXIT_SECONDS: Final = 0.25
METRIC_ACTIVE_REQUESTS: Final = "http.server.active_requests"
# What only the stock set-up knows how to do.
SDK_ONLY_VARIABLES: Final = (
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    "OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
)


def requires_sdk(settings: Settings) -> str | None:
    """What among the settings only the stock set-up can do; `None` when there is nothing."""
    if settings.instrumentation == "sdk":
        return "MODELTRACE_INSTRUMENTATION"
    otel = settings.otel
    if "console" in (*otel.traces_exporter, *otel.logs_exporter, *otel.metrics_exporter):
        return "an exporter to the console"
    return next((name for name in SDK_ONLY_VARIABLES if os.environ.get(name)), None)


def build_sidecar_provider(
    settings: Settings, resource: Resource, model_catalog: ModelCatalog, *, registry: CollectorRegistry | None = None
) -> Telemetry:
    """Build all of it for this process. Call it once, in the process that serves: nothing survives a fork.

    `watched` are the models whose inputs are counted, `registry` what `/metrics` shows, if anything.
    """
    otel = settings.otel
    origin = Origin(_encode_resource(resource).SerializeToString(), SCOPE_NAME)
    health = ExportHealth(StoreHealth() if settings.store_url() else None)
    active: Counter[tuple[str, str]] = Counter()
    token = derive_synthetic_token(load_id_key(settings))
    if otel.sdk_disabled:
        config = _config(settings, service_name="")
        outbox = ExportQueue(
            partial(SidecarProcess, origin, config), on_event=health.on_event, model_catalog=model_catalog
        )
        return Telemetry(pipeline=SidecarPipeline(RequestTracer(None, synthetic_token=token), outbox, health, active))
    # Read by the SDK's and the instrumentation's constructors, which offer no parameter for them.
    os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

    signals, variables = otel.otlp_signals(), otel.variables.values
    temporality = variables.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE")
    delta = temporality in ("delta", "lowmemory")
    exemplars = variables.get("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based")

    def count(*, delta: bool = False) -> tuple[RequestMetrics, ...]:
        return (
            PredictionMetrics(exemplar_filter=exemplars, delta=delta),
            FeatureMetrics(model_catalog, exemplar_filter=exemplars, delta=delta),
        )

    pushed, labels = count(delta=delta), FeedbackMetrics(exemplar_filter=exemplars, delta=delta)
    # Prometheus takes totals.
    shown, shown_labels = (count(), FeedbackMetrics(exemplar_filter=exemplars)) if delta else (pushed, labels)
    wanted = ((pushed, labels, "metrics" in signals), (shown, shown_labels, registry is not None))
    outbox = ExportQueue(
        partial(SidecarProcess, origin, _config(settings, service_name=str(resource.attributes[SERVICE_NAME]))),
        tuple(dict.fromkeys(one for points, _, used in wanted if used for one in points)),
        tuple(dict.fromkeys(one for _, one, used in wanted if used)),
        on_event=health.on_event,
        model_catalog=model_catalog,
    )

    spans, records = ExportCounter("spans"), ExportCounter("log records")
    scope = InstrumentationScope(SCOPE_NAME)
    readers: list[MetricReader] = []
    if "metrics" in signals:
        readers.append(
            PeriodicRecordMetricsReader(SidecarMetricExporter(outbox)).with_sources((*pushed, labels), resource, scope)
        )
    if registry:
        readers.append(PrometheusReader(registry=registry).with_sources((*shown, shown_labels), resource, scope))
    meters = MeterProvider(
        metric_readers=readers,
        resource=resource,
        # Requests in flight are counted ahead of the instrumentation, which does not see predictions.
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
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if "traces" in signals:
        tracers.add_span_processor(CountingSpanProcessor(SidecarSpanExporter(outbox), spans, meters))
    loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
    if "logs" in signals:
        loggers.add_log_record_processor(CountingLogProcessor(SidecarLogExporter(outbox), records, meters))

    instrument_process(meters)
    meter = meters.get_meter(SCOPE_NAME)
    exporters = {s: "otlp_grpc" if otel.protocol_for(s) == "grpc" else "otlp_http" for s in SIGNALS}
    health.create_instruments(meter, outbox, exporters=exporters)
    meter.create_observable_up_down_counter(
        METRIC_ACTIVE_REQUESTS,
        [partial(_in_flight, active)],
        unit="{request}",
        description="Number of active HTTP server requests.",
    )
    tracing = RequestTracer(tracers.sampler, trust_context=settings.trust_trace_context, synthetic_token=token)
    return Telemetry(
        tracers,
        meters,
        loggers,
        export_counters=(spans, records),
        enabled=True,
        pipeline=SidecarPipeline(tracing, outbox, health, active),
    )


def _in_flight(active: Counter[tuple[str, str]], _: CallbackOptions) -> Iterable[Observation]:
    kinds: Counter[tuple[str, str]] = Counter()
    for (method, scheme), number in list(active.items()):
        kinds[sanitize_method(method), scheme] += number
    return [Observation(number, {HTTP_REQUEST_METHOD: m, URL_SCHEME: s}) for (m, s), number in kinds.items()]


def _config(settings: Settings, *, service_name: str) -> SidecarConfig:
    otel = settings.otel
    signals: dict[str, tuple[str, float]] = {
        signal: (otel.protocol_for(signal), otel.timeout_for(signal)) for signal in otel.otlp_signals()
    }
    store = store_config(settings)
    spool = ""
    if settings.spool_max_bytes and signals:
        # What waits for one endpoint must never be sent to another.
        ways = [(s, otel.protocol_for(s), otel.variables.option(s, "ENDPOINT")) for s in otel.otlp_signals()]
        folder = settings.spool_dir or data_dir() / "spool"
        spool = str(folder / hashlib.sha256(f"{service_name} {ways}".encode()).hexdigest()[:16])
    return SidecarConfig(
        signals=signals,
        schedule_delay=int(otel.variables.values.get("OTEL_BSP_SCHEDULE_DELAY", DEFAULT_SCHEDULE_DELAY)) / 1000,
        flush_timeout=max(settings.flush_timeout - SIDECAR_EXIT_SECONDS, 0.0),
        spool_dir=spool,
        spool_max_bytes=settings.spool_max_bytes,
        log_level=settings.log_level,
        log_file=str(settings.log_file) if settings.log_file else "",
        log_file_max_bytes=settings.log_file_max_bytes,
        log_file_backup_count=settings.log_file_backup_count,
        store=store and (store.url, store.retention_days, store.max_bytes, store.code_version),
    )
