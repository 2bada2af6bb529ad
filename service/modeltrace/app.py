"""Build the application of a worker process and connect its parts."""

# isort: off
import modeltrace.bundles.skops_io  # noqa: F401  first: with more modules loaded, this import is slower

# isort: on
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from modeltrace.api.application import build_fastapi
from modeltrace.api.auth import wrap_with_auth
from modeltrace.api.body import BodyReader
from modeltrace.api.fast_path import PredictionASGIApp
from modeltrace.api.feedback import FeedbackHandler
from modeltrace.api.predict import PredictionHandlers
from modeltrace.api.protocol_handlers import ProtocolHandlers
from modeltrace.api.protocol_routes import ProtocolRoutes
from modeltrace.api.rate_limit import build_rate_limit
from modeltrace.api.request_target import RedactQueryMiddleware
from modeltrace.api.thread_pool import BoundedThreadPool
from modeltrace.evaluation.publisher import start_publisher
from modeltrace.inference.model import Model
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.keys import derive_synthetic_token, describe_access, load_id_key
from modeltrace.monitoring.model_event import log_model_event
from modeltrace.serving.bundle_loader import BundleWatch, load_challenger, load_model
from modeltrace.serving.router import ModelRouter
from modeltrace.serving.shadow_challenger import build_challenger
from modeltrace.serving.shadow_queue import ShadowQueue
from modeltrace.serving.version import CHALLENGER, NO_ROLE, PRIMARY, VersionFactory, privacy_rules, recorded_details
from modeltrace.serving.watcher import Watcher, run_watchers
from modeltrace.settings import Settings
from modeltrace.store.config import store_config
from modeltrace.store.in_process_writer import InProcessWriter
from modeltrace.store.label_writer import LabelWriter
from modeltrace.telemetry.export.sidecar_provider import build_sidecar_provider, requires_sdk
from modeltrace.telemetry.logging import configure_logging, export_logs
from modeltrace.telemetry.metrics.features import FeatureMetrics, observe_features, observe_reference
from modeltrace.telemetry.metrics.gpus import observe_gpus
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.outcomes import challenger_row_counter, model_change_counter, rate_limit_counter
from modeltrace.telemetry.metrics.readers import build_prometheus_reader
from modeltrace.telemetry.providers import SCOPE_NAME, Telemetry, log_shutdown_report
from modeltrace.telemetry.records.trace import RequestTrace
from modeltrace.telemetry.resource import build_resource
from modeltrace.telemetry.sdk.feedback_recorder import SDKFeedbackRecorder
from modeltrace.telemetry.sdk.provider import build_sdk_provider
from modeltrace.telemetry.sdk.recorder import SDKRecorder

# Seconds to wait for the sidecar at startup. It takes about one second, and longer on a busy machine.
SIDECAR_START_TIMEOUT = 10.0


def create_app(
    settings: Settings,
    model: Model,
    telemetry: Telemetry,
    *,
    registry: CollectorRegistry | None = None,
    catalog: ModelCatalog | None = None,
    challenger: Model | None = None,
    bundle_watches: Sequence[BundleWatch] = (),
    on_request_done: Callable[[RequestTrace], None] = lambda _: None,
    on_shutdown: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """Wire the application.

    Args:
        settings: the service's settings.
        model: the primary model.
        telemetry: the providers, and the sidecar pipeline if there is one.
        registry: the metrics of `/metrics`; `None` if the Prometheus exporter is disabled.
        catalog: the models whose features are counted.
        challenger: a second model in this process; the settings define its mode and share.
        bundle_watches: sources of new model versions.
        on_request_done: called with each request that the SDK recorded.
        on_shutdown: called last, on a thread.
    """
    pipeline, catalog = telemetry.pipeline, catalog or ModelCatalog()
    meter = telemetry.meter_provider.get_meter(SCOPE_NAME)
    tracer = telemetry.tracer_provider.get_tracer(SCOPE_NAME)
    observe_reference(meter, catalog)

    # Telemetry of requests that FastAPI answers
    listeners, raw_listeners = [on_request_done], []
    if telemetry.enabled and pipeline is None:
        features = FeatureMetrics(catalog, exemplar_filter="always_off")
        observe_features(meter, features)
        raw_listeners.append(features.count)
    recorder = SDKRecorder(
        tracer,
        meter,
        listeners,
        raw_listeners=raw_listeners,
        model_catalog=catalog,
        trust_context=settings.trust_trace_context,
        synthetic_token=derive_synthetic_token(load_id_key(settings)),
    )

    # Model versions
    threads = BoundedThreadPool(settings.inference_threads, settings.max_queue_size)
    versions = VersionFactory(
        ids=PredictionIdSigner(load_id_key(settings)),
        catalog=catalog,
        inline_threshold=settings.inline_threshold,
        run_on_thread=threads.run,
        on_batch=pipeline.queue.enqueue_batch if pipeline else recorder.record_batch,
        max_batch_requests=settings.max_batch_requests if settings.batching else None,
        max_queue_size=settings.max_queue_size,
        privacy_rules=partial(privacy_rules, settings),
        recorded_details=recorded_details(settings),
    )
    remote_url = settings.remote_challenger_url()
    model_router = ModelRouter(
        versions,
        versions.build(model, PRIMARY if settings.challenger or challenger else NO_ROLE),
        versions.build(challenger, CHALLENGER) if challenger else None,
        mode=settings.challenger_mode,
        share=settings.effective_challenger_share(),
        key=settings.challenger_key,
        remote=remote_url,
    )
    on_change = model_change_counter(meter)
    watchers = [
        Watcher(model_router, versions, watch, interval=settings.reload_interval, on_event=on_change)
        for watch in bundle_watches
        if not watch.loader.pinned
    ]
    shadows = None
    if (challenger or remote_url) and settings.challenger_mode == "shadow":
        shadow = build_challenger(settings, model_router, pipeline, recorder, catalog)
        shadows = ShadowQueue(model_router, shadow, challenger_row_counter(meter))
        listeners.append(shadows.enqueue)

    # Routes
    predictions = PredictionHandlers(model_router, threads, settings)
    protocols = ProtocolRoutes(ProtocolHandlers(model_router, threads, settings.max_batch_rows, settings.probabilities))
    label_writer = LabelWriter(settings.store_url())
    feedback = FeedbackHandler(
        model_router=model_router,
        label_writer=label_writer,
        threads=BoundedThreadPool(settings.inference_threads, settings.max_queue_size),
        on_feedback=pipeline.queue.enqueue_feedback if pipeline else SDKFeedbackRecorder(tracer, meter).record,
        max_items=settings.max_batch_rows,
    )
    body_reader = BodyReader(settings.max_body_bytes, settings.body_timeout)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if shadows:
            shadows.start()
        with run_watchers(watchers):
            yield
        if shadows:
            await anyio.to_thread.run_sync(shadows.stop)
        await anyio.to_thread.run_sync(label_writer.close)
        await anyio.to_thread.run_sync(on_shutdown)

    handlers = {"/predict": predictions.predict, "/predict/batch": predictions.predict_batch}
    handlers["/feedback"] = feedback.handle
    app: ASGIApp = build_fastapi(
        handlers,
        protocols,
        model_router,
        body_reader,
        recorder,
        telemetry,
        registry=registry,
        tags=settings.tags,
        lifespan=lifespan,
    )
    if pipeline is not None:
        app = PredictionASGIApp(
            app=app,
            handlers=handlers,
            find_endpoint=protocols.find,
            tracer=pipeline.tracer,
            export_queue=pipeline.queue,
            body_reader=body_reader,
            active_requests=pipeline.active_requests,
            listeners=[shadows.enqueue] if shadows else (),
        )
    return RedactQueryMiddleware(app, model_router)


def build_app(settings: Settings, shared_folder: Path | None = None) -> ASGIApp:
    """Build everything that a worker process needs.

    Call this function in the worker process, because the threads of telemetry do not exist after a fork.

    Args:
        settings: the service's settings.
        shared_folder: the folder that several workers share; `None`: there is one worker.

    Raises:
        ModeltraceError: the bundle cannot be served.
    """
    log_writer = configure_logging(
        level=settings.log_level,
        log_file=settings.log_file,
        max_file_bytes=settings.log_file_max_bytes,
        max_backups=settings.log_file_backup_count,
        sdk_level=settings.otel.variables.values.get("OTEL_LOG_LEVEL"),
    )
    logger = logging.getLogger(SCOPE_NAME)
    loaded = [load_model(settings)]
    if challenger := load_challenger(settings, loaded[0][0]):
        loaded.append(challenger)
    models, watches = zip(*loaded, strict=True)

    prometheus = build_prometheus_reader(settings.otel, shared_folder)
    catalog = ModelCatalog()
    resource = build_resource(settings.otel.service_name, version("modeltrace"), workers=settings.workers)
    if requires_sdk(settings):
        trust_context = settings.trust_trace_context
        telemetry = build_sdk_provider(settings.otel, resource, prometheus=prometheus, trust_context=trust_context)
    else:  # the sidecar writes the prediction store
        telemetry = build_sidecar_provider(settings, resource, catalog, store_config(settings), prometheus=prometheus)
    meter = telemetry.meter_provider.get_meter(SCOPE_NAME)
    observe_gpus(settings, meter, shared_folder)
    store_writer = InProcessWriter(None if telemetry.pipeline else store_config(settings), meter)
    publisher = start_publisher(settings, catalog, meter) if telemetry.enabled else None
    stop_log_export = export_logs(telemetry.logger_provider, telemetry.prediction_logger_provider)

    def shut_down() -> None:
        deadline = time.monotonic() + settings.flush_timeout
        store_writer.stop()
        if publisher:
            publisher.stop()
        report = telemetry.shutdown(settings.flush_timeout)
        stop_log_export()
        log_shutdown_report(report._replace(lost={**report.lost, **store_writer.close(deadline)}))
        if publisher:
            publisher.close(deadline)
        log_writer.close()

    app = create_app(
        settings,
        models[0],
        telemetry,
        registry=prometheus.registry if prometheus else None,
        catalog=catalog,
        challenger=models[1] if len(models) > 1 else None,
        bundle_watches=watches,
        on_request_done=store_writer.enqueue,
        on_shutdown=shut_down,
    )
    app = wrap_with_auth(app, settings, build_rate_limit(settings, shared_folder, rate_limit_counter(meter)))
    if settings.grpc_port is not None:
        from modeltrace.api.grpc_server import GrpcMiddleware  # noqa: PLC0415  only this needs gRPC

        app = GrpcMiddleware(app, settings)
    if telemetry.pipeline and not telemetry.pipeline.queue.wait_ready(SIDECAR_START_TIMEOUT):
        logger.warning(
            "the sidecar is not ready after %g s: telemetry of predictions waits in the service until it is",
            SIDECAR_START_TIMEOUT,
        )
    url = f"{'https' if settings.tls_certificate else 'http'}://{settings.host}:{settings.port}"
    logger.info("serving %s %s at %s%s", models[0].name, models[0].version, url, describe_access(settings))
    for model in models:
        log_model_event(model)
    # Loaded objects live as long as the process. If garbage collections visit them, the p99 latency doubles.
    gc.collect()
    gc.freeze()
    return app
