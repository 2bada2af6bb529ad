"""The wiring of one process, readable from top to bottom."""

# isort: off
import modeltrace.bundles.skops_io  # noqa: F401  first: its import takes longer the more modules are loaded

# isort: on
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from modeltrace.api.auth import wrap_with_auth
from modeltrace.api.body import BodyReader
from modeltrace.api.documentation import STATIC_PATH, documentation_routes
from modeltrace.api.errors import add_error_handlers
from modeltrace.api.fast_path import PredictionASGIApp
from modeltrace.api.feedback import FeedbackHandler, feedback_routes
from modeltrace.api.health import UNTRACED_PATHS, health_routes
from modeltrace.api.openapi import refresh
from modeltrace.api.predict import PredictionHandlers, prediction_routes
from modeltrace.api.redact_query import RedactQueryMiddleware
from modeltrace.api.thread_pool import BoundedThreadPool
from modeltrace.bundles.registry.bundle_ref import check_version_conflict
from modeltrace.evaluation.publisher import start_publisher
from modeltrace.inference.model import Model
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.inference.privacy import Redactor
from modeltrace.keys import derive_privacy_key, derive_synthetic_token, describe_access, load_id_key
from modeltrace.monitoring.model_event import log_model_event
from modeltrace.serving.bundle_loader import BundleLoader
from modeltrace.serving.router import ModelRouter
from modeltrace.serving.shadow_queue import Challenger, LocalChallenger, ShadowQueue
from modeltrace.serving.version import CHALLENGER, NO_ROLE, PRIMARY, VersionFactory
from modeltrace.serving.watcher import BundleWatch, Watcher, run_watchers
from modeltrace.settings import Settings
from modeltrace.store.config import store_config
from modeltrace.store.in_process_writer import InProcessWriter
from modeltrace.store.label_writer import LabelWriter
from modeltrace.telemetry.export.provider import build_sidecar_provider, requires_sdk
from modeltrace.telemetry.logging import configure_logging, export_logs
from modeltrace.telemetry.metrics.features import FeatureMetrics, observe_features, observe_reference
from modeltrace.telemetry.metrics.instruments import build_instruments
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.serving import challenger_row_counter, model_change_counter
from modeltrace.telemetry.provider import SCOPE_NAME, ShutdownReport, SidecarPipeline, Telemetry, log_shutdown_report
from modeltrace.telemetry.records.trace import RequestTrace
from modeltrace.telemetry.resource import build_resource
from modeltrace.telemetry.sdk.feedback_recorder import SDKFeedbackRecorder
from modeltrace.telemetry.sdk.provider import build_sdk_provider
from modeltrace.telemetry.sdk.recorder import SDKRecorder
from modeltrace_http.responses import RelativeRedirectMiddleware, add_head_routes

# Seconds that a start waits for the exporter process: it takes a second, and longer on a busy machine.
SIDECAR_START_TIMEOUT = 10.0
# FastAPI's own telemetry would make a second SERVER span beside the instrumentation's.
FASTAPI_TELEMETRY_OFF: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


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
    """Wire one application.

    `registry` is what `/metrics` shows; `watched` what telemetry from records knows of models; `keep` takes requests
    that are told by the SDK, for the prediction store; `challenger` stands beside the model, as the settings say;
    `changes` is where new versions come from; `on_shutdown` is called last, off the event loop.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if shadows:
            shadows.start()
        with run_watchers(watchers):
            yield
        if shadows:
            await anyio.to_thread.run_sync(shadows.stop)
        await anyio.to_thread.run_sync(desk.close)
        await anyio.to_thread.run_sync(on_shutdown)

    records = telemetry.pipeline
    meter, catalog = telemetry.meter_provider.get_meter(SCOPE_NAME), catalog or ModelCatalog()
    observe_reference(meter, catalog)
    also, counts = [on_request_done], []
    if telemetry.enabled and records is None:
        features = FeatureMetrics(catalog, exemplar_filter="always_off")
        observe_features(meter, features)
        counts.append(features.count)
    tracer = telemetry.tracer_provider.get_tracer(SCOPE_NAME)
    recorder = SDKRecorder(
        tracer,
        build_instruments(meter),
        also,
        raw_listeners=counts,
        model_catalog=catalog,
        trust_context=settings.trust_trace_context,
        synthetic_token=derive_synthetic_token(load_id_key(settings)),
    )
    threads = BoundedThreadPool(settings.inference_threads, settings.max_queue_size)
    versions = VersionFactory(
        PredictionIdSigner(load_id_key(settings)),
        catalog,
        inline_threshold=settings.inline_threshold,
        run_on_thread=threads.run,
        on_batch=records.queue.enqueue_batch if records else recorder.record_batch,
        max_batch_requests=settings.max_batch_requests if settings.batching else None,
        max_queue_size=settings.max_queue_size,
        privacy_rules=partial(privacy_rules, settings),
    )
    serving = ModelRouter(
        versions,
        versions.build(model, PRIMARY if settings.challenger or challenger else NO_ROLE),
        versions.build(challenger, CHALLENGER) if challenger else None,
        mode=settings.challenger_mode,
        share=settings.effective_challenger_share(),
        key=settings.challenger_key,
        remote=(remote := settings.remote_challenger_url()),
    )
    seconds, tell = settings.reload_interval, model_change_counter(meter)
    watchers = [
        Watcher(serving, versions, one, interval=seconds, on_event=tell)
        for one in bundle_watches
        if not one.loader.pinned
    ]
    shadows = None
    if (challenger or remote) and settings.challenger_mode == "shadow":
        key = settings.challenger_api_key
        ask = build_challenger(
            remote, serving, records, recorder, catalog, api_key=key.get_secret_value() if key else None
        )
        shadows = ShadowQueue(serving, ask, challenger_row_counter(meter))
        also.append(shadows.enqueue)
    calls = PredictionHandlers(serving, threads, max_rows=settings.max_batch_rows)
    desk = LabelWriter(settings.store_url())
    feedback = FeedbackHandler(
        serving,
        desk,
        BoundedThreadPool(settings.inference_threads, settings.max_queue_size),
        records.queue.enqueue_feedback if records else SDKFeedbackRecorder(tracer, meter).record,
        max_items=settings.max_batch_rows,
    )
    app = FastAPIOffline(
        title=f"{model.name} {model.version}",
        version=version("modeltrace"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=FASTAPI_TELEMETRY_OFF,
    )
    body_reader = BodyReader(settings.max_body_bytes, settings.body_timeout)
    app.include_router(prediction_routes(calls, recorder, body_reader))
    app.include_router(feedback_routes(feedback, recorder, body_reader))
    app.include_router(add_head_routes(health_routes(serving, registry, workers=settings.workers)))
    app.include_router(add_head_routes(documentation_routes(app)))
    add_error_handlers(app)
    app.add_middleware(RelativeRedirectMiddleware)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        served = serving.primary.model
        return refresh(described(), f"{served.name} {served.version}", served.schema, served.classes)

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it
    if telemetry.enabled:
        FastAPIInstrumentor.instrument_app(
            app,
            tracer_provider=telemetry.tracer_provider,
            meter_provider=telemetry.meter_provider,
            exclude_spans=["receive", "send"],
            excluded_urls=",".join(f"^https?://[^/]+(/.*)?/{path}$" for path in (*UNTRACED_PATHS, f"{STATIC_PATH}/.*")),
        )
    answering: ASGIApp = app
    if records is not None:
        answering = PredictionASGIApp(
            app,
            {"/predict": calls.predict, "/predict/batch": calls.predict_batch, "/feedback": feedback.handle},
            records.tracer,
            records.queue,
            body_reader=body_reader,
            active_requests=records.active_requests,
            on_response_sent=shadows.enqueue if shadows else lambda _: None,
        )
    return RedactQueryMiddleware(answering, serving)


def build_challenger(
    remote: str | None,
    serving: ModelRouter,
    records: SidecarPipeline | None,
    recorder: SDKRecorder,
    watched: ModelCatalog,
    *,
    api_key: str | None,
) -> Challenger:
    """What is asked beside the version that answers: the service at `remote`, or the challenger in this process."""
    if remote is None:
        if records:
            return LocalChallenger(serving, records.record_shadow, records.queue.enqueue_batch)
        return LocalChallenger(serving, recorder.record_shadow, recorder.record_batch)
    from modeltrace.serving.remote_challenger import RemoteChallenger  # noqa: PLC0415  most services have none, and need no client

    if records:
        return RemoteChallenger(remote, records.record_shadow, watched.redact_rows, api_key=api_key)
    # The stock recorder has made rows what may be told of them by the time that they are offered.
    return RemoteChallenger(
        remote, partial(recorder.record_shadow, kind=SpanKind.CLIENT), lambda _, rows: rows, api_key=api_key
    )


def privacy_rules(settings: Settings, model: Model) -> Redactor | None:
    """What may be told of a model's inputs; `None` for all of it."""
    return (
        Redactor(model.schema, derive_privacy_key(load_id_key(settings))) if model.schema.has_private_features else None
    )


def load_model(settings: Settings) -> tuple[Model, BundleWatch]:
    """The model that the settings name, if they allow it, and where it comes from.

    Raises:
        ModeltraceError: none is named, or its bundle cannot be served.
    """
    bundles = BundleLoader(settings, settings.bundle_source(), expect_sha256=settings.expect_sha256)
    found = bundles.locate()
    return bundles.load(found), BundleWatch(bundles, found, PRIMARY if settings.challenger else NO_ROLE)


def load_challenger(settings: Settings, primary: Model) -> tuple[Model, BundleWatch] | None:
    """The same of what stands beside the model that answers, if anything does.

    Raises:
        ModeltraceError: its bundle cannot be served.
    """
    if settings.challenger is None or settings.remote_challenger_url():
        return None
    bundles = BundleLoader(settings, settings.challenger)
    found = bundles.locate()
    check_version_conflict(found, [primary])
    return bundles.load(found), BundleWatch(bundles, found, CHALLENGER)


def build_app(settings: Settings) -> ASGIApp:
    """Everything a serving process needs, built in that process: nothing of telemetry survives a fork.

    Raises:
        ModeltraceError: the bundle cannot be served.
    """
    lines = configure_logging(
        level=settings.log_level,
        log_file=settings.log_file,
        max_file_bytes=settings.log_file_max_bytes,
        max_backups=settings.log_file_backup_count,
        sdk_level=settings.otel.variables.values.get("OTEL_LOG_LEVEL"),
    )
    model, changes = load_model(settings)
    beside = load_challenger(settings, model)
    registry = None
    if "prometheus" in settings.otel.metrics_exporter and settings.workers == 1 and not settings.otel.sdk_disabled:
        registry = CollectorRegistry()
    watched = ModelCatalog()
    resource = build_resource(settings.otel.service_name, version("modeltrace"), workers=settings.workers)
    if requires_sdk(settings):
        telemetry = build_sdk_provider(
            settings.otel, resource, registry=registry, trust_context=settings.trust_trace_context
        )
        keeping = InProcessWriter(store_config(settings), telemetry.meter_provider.get_meter(SCOPE_NAME))
    else:
        telemetry = build_sidecar_provider(settings, resource, watched, registry=registry)
        keeping = InProcessWriter(None, telemetry.meter_provider.get_meter(SCOPE_NAME))  # the exporter process does
    publisher = None
    if telemetry.enabled:
        meter = telemetry.meter_provider.get_meter(SCOPE_NAME)
        publisher = start_publisher(settings, watched.classes, meter)
    stop_sending = export_logs(telemetry.logger_provider, telemetry.prediction_logger_provider)

    def stop() -> None:
        deadline = time.monotonic() + settings.flush_timeout
        keeping.stop()
        if publisher:
            publisher.stop()
        rest = telemetry.shutdown(settings.flush_timeout)
        stop_sending()
        log_shutdown_report(ShutdownReport({**rest.lost, **keeping.close(deadline)}, rest.spooled))
        if publisher:
            publisher.close(deadline)
        lines.close()

    app = wrap_with_auth(
        create_app(
            settings,
            model,
            telemetry,
            registry=registry,
            catalog=watched,
            challenger=beside and beside[0],
            bundle_watches=(changes, beside[1]) if beside else (changes,),
            on_request_done=keeping.enqueue,
            on_shutdown=stop,
        ),
        settings,
    )
    if telemetry.pipeline and not telemetry.pipeline.queue.wait_ready(SIDECAR_START_TIMEOUT):
        logging.getLogger(SCOPE_NAME).warning(
            "no exporter process after %g s: what is answered until there is one waits in the service",
            SIDECAR_START_TIMEOUT,
        )
    where = f"http://{settings.host}:{settings.port}"
    logging.getLogger(SCOPE_NAME).info(
        "serving %s %s at %s%s", model.name, model.version, where, describe_access(settings)
    )
    for one in (model, *([beside[0]] if beside else [])):
        log_model_event(one)
    # What is loaded by now lives as long as the process: walking it at every collection is half of the p99.
    gc.collect()
    gc.freeze()
    return app
