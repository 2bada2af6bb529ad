"""The wiring of one process, readable from top to bottom."""

import gc
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from service.api.discreet import DiscreetCalls, WithoutQuery
from service.api.errors import add_error_handlers
from service.api.execution import ModelThreads
from service.api.feedback import FeedbackCalls, feedback_routes
from service.api.front import Front
from service.api.health import SILENT_PATHS, health_routes
from service.api.predict import PredictionCalls, prediction_routes
from service.evaluation.publisher import start_publisher
from service.inference.batching import Batcher
from service.inference.bundle import load_bundle
from service.inference.ids import PredictionIds
from service.inference.model import Model
from service.inference.pipeline import Pipeline, describe
from service.inference.privacy import Privacy
from service.keys import id_key, privacy_key
from service.monitoring.announce import announce
from service.monitoring.feedback import LabelReader
from service.monitoring.training import training_data
from service.registry.catalog import Catalog
from service.settings import Settings
from service.store.config import store_config
from service.store.keeping import Keeping
from service.store.taking import LabelDesk
from service.telemetry.features import FeaturePoints, observe_features, report_training
from service.telemetry.feedback_recorder import FeedbackRecorder
from service.telemetry.logs import send_records, withhold_warnings, write_lines
from service.telemetry.metrics import build_instruments
from service.telemetry.record import Batch
from service.telemetry.recorded import build_recorded, needs_stock
from service.telemetry.recorder import Recorder
from service.telemetry.resource import build_resource
from service.telemetry.setup import SCOPE, Rest, Telemetry, report_rest
from service.telemetry.stock import build_stock
from service.telemetry.tracing import RequestTrace
from service.telemetry.watched import Watched

# Seconds that a start waits for the exporter process: it takes a second, and longer on a busy machine.
EXPORTER_START = 10.0
# FastAPI's own telemetry would make a second SERVER span beside the instrumentation's.
NATIVE_TELEMETRY_OFF: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(
    settings: Settings,
    model: Model,
    telemetry: Telemetry,
    *,
    registry: CollectorRegistry | None = None,
    watched: Watched | None = None,
    keep: Callable[[RequestTrace], None] = lambda _: None,
    on_stop: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """Wire one application.

    `registry` is what `/metrics` shows; `watched` what telemetry from records knows of models; `keep` takes requests
    that are told by the SDK, for the prediction store; `on_stop` is called last, off the event loop.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(desk.close)
        await anyio.to_thread.run_sync(on_stop)

    records = telemetry.records
    meter, watched = telemetry.meter_provider.get_meter(SCOPE), watched or Watched()
    watched.add(describe(model), training_data(model)._replace(rules=rules_of(settings, model)))
    report_training(meter, watched)
    counts = []
    if telemetry.enabled and records is None:
        features = FeaturePoints(watched, exemplar_filter="always_off")
        observe_features(meter, features)
        counts.append(features.count)
    tracer = telemetry.tracer_provider.get_tracer(SCOPE)
    recorder = Recorder(tracer, build_instruments(meter), [keep], counts=counts, watched=watched)
    calls = build_calls(settings, model, tell_batch=records.outbox.put_batch if records else recorder.tell_batch)
    desk = LabelDesk(settings.store_location())
    feedback = FeedbackCalls(
        model,
        LabelReader(model, PredictionIds(id_key(settings))),
        desk,
        ModelThreads(settings.inference_threads, settings.max_waiting),
        records.outbox.put_feedback if records else FeedbackRecorder(tracer, meter).tell,
        most_items=settings.max_batch_rows,
    )
    app = FastAPIOffline(
        title=f"{model.name} {model.version}",
        version=version("modeltrace"),
        redoc_url=None,
        lifespan=lifespan,
        telemetry=NATIVE_TELEMETRY_OFF,
    )
    app.include_router(prediction_routes(calls, recorder, most_bytes=settings.max_body_bytes))
    app.include_router(feedback_routes(feedback, recorder, most_bytes=settings.max_body_bytes))
    app.include_router(health_routes(model, registry, workers=settings.workers))
    add_error_handlers(app)
    if telemetry.enabled:
        FastAPIInstrumentor.instrument_app(
            app,
            tracer_provider=telemetry.tracer_provider,
            meter_provider=telemetry.meter_provider,
            exclude_spans=["receive", "send"],
            excluded_urls=",".join(f"^https?://[^/]+/{path}$" for path in (*SILENT_PATHS, "static-offline-docs/.*")),
        )
    answering: ASGIApp = app
    if records is not None:
        answering = Front(
            app,
            {"/predict": calls.predict, "/predict/batch": calls.predict_batch, "/feedback": feedback.feedback},
            records.tracing,
            records.outbox,
            most_bytes=settings.max_body_bytes,
            active=records.active,
        )
    return WithoutQuery(answering) if model.schema.private else answering


def build_calls(settings: Settings, model: Model, *, tell_batch: Callable[[Batch], None]) -> PredictionCalls:
    """The prediction calls: where the model runs, and whether requests share its calls."""
    pipeline = Pipeline(model, PredictionIds(id_key(settings)))
    threads = ModelThreads(settings.inference_threads, settings.max_waiting)
    on_loop = pipeline.seconds_a_row() < settings.inline_seconds
    batcher = None
    if settings.batching:
        batcher = Batcher(
            pipeline,
            largest=settings.batching_rows,
            most_waiting=settings.max_waiting,
            on_thread=None if on_loop else threads.run,
            tell=tell_batch,
        )
    kind = DiscreetCalls if model.schema.private else PredictionCalls
    return kind(pipeline, threads, on_loop=on_loop, batcher=batcher, most_rows=settings.max_batch_rows)


def rules_of(settings: Settings, model: Model) -> Privacy | None:
    """What may be told of a model's inputs; `None` for all of it."""
    return Privacy(model.schema, privacy_key(id_key(settings))) if model.schema.private else None


def load_model(settings: Settings) -> Model:
    """The model that the settings name, if they allow it.

    Raises:
        ModeltraceError: none is named, or its bundle cannot be served.
    """
    with Catalog(logging.getLogger(SCOPE).warning) as catalog:
        bundle = catalog.locate(settings.bundle_source()).path
    return load_bundle(
        bundle,
        expect_sha256=settings.expect_sha256,
        trust_pickle=settings.trust_pickle,
        trusted_types=settings.trusted_types,
        engine=settings.engine,
    )


def build_app(settings: Settings) -> ASGIApp:
    """Everything a serving process needs, built in that process: nothing of telemetry survives a fork.

    Raises:
        ModeltraceError: the bundle cannot be served.
    """
    lines = write_lines(
        level=settings.log_level,
        file=settings.log_file,
        file_bytes=settings.log_file_bytes,
        file_backups=settings.log_file_backups,
    )
    model = load_model(settings)
    registry = None
    if "prometheus" in settings.otel.metrics_exporter and settings.workers == 1 and not settings.otel.sdk_disabled:
        registry = CollectorRegistry()
    watched = Watched()
    resource = build_resource(settings.otel.service_name, version("modeltrace"), workers=settings.workers)
    if needs_stock(settings):
        telemetry = build_stock(settings.otel, resource, registry=registry)
        keeping = Keeping(store_config(settings), telemetry.meter_provider.get_meter(SCOPE))
    else:
        telemetry = build_recorded(settings, resource, watched, registry=registry)
        keeping = Keeping(None, telemetry.meter_provider.get_meter(SCOPE))  # the exporter process does
    if model.schema.private:
        withhold_warnings()
    publisher = None
    if telemetry.enabled:
        meter = telemetry.meter_provider.get_meter(SCOPE)
        publisher = start_publisher(settings, model.name, model.classes, meter)
    stop_sending = send_records(telemetry.logger_provider, telemetry.audit_provider)

    def stop() -> None:
        deadline = time.monotonic() + settings.flush_timeout
        keeping.end()
        if publisher:
            publisher.end()
        rest = telemetry.shutdown(settings.flush_timeout)
        stop_sending()
        report_rest(Rest({**rest.lost, **keeping.close(deadline)}, rest.kept))
        if publisher:
            publisher.close(deadline)
        lines.close()

    app = create_app(settings, model, telemetry, registry=registry, watched=watched, keep=keeping.keep, on_stop=stop)
    if telemetry.records and not telemetry.records.outbox.wait_ready(EXPORTER_START):
        logging.getLogger(SCOPE).warning(
            "no exporter process after %g s: what is answered until there is one waits in the service",
            EXPORTER_START,
        )
    where = f"http://{settings.host}:{settings.port}"
    logging.getLogger(SCOPE).info("serving %s %s at %s", model.name, model.version, where)
    announce(model)
    # What is loaded by now lives as long as the process: walking it at every collection is half of the p99.
    gc.collect()
    gc.freeze()
    return app
