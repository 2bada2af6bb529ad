"""Build the FastAPI application from its routes."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from prometheus_client import CollectorRegistry

from modeltrace.api.body import BodyReader
from modeltrace.api.documentation import STATIC_PATH, documentation_routes
from modeltrace.api.errors import add_error_handlers
from modeltrace.api.feedback import FeedbackHandler, feedback_routes
from modeltrace.api.health import UNTRACED_PATHS, health_routes
from modeltrace.api.openapi import refresh
from modeltrace.api.predict import PredictionHandlers, prediction_routes
from modeltrace.telemetry.provider import Telemetry
from modeltrace.telemetry.sdk.recorder import SDKRecorder
from modeltrace_http.responses import RelativeRedirectMiddleware, add_head_routes

# FastAPI's own telemetry would create a second SERVER span, in addition to the span of the instrumentation.
FASTAPI_TELEMETRY_OFF: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def build_fastapi(
    predictions: PredictionHandlers,
    feedback: FeedbackHandler,
    body_reader: BodyReader,
    recorder: SDKRecorder,
    telemetry: Telemetry,
    *,
    registry: CollectorRegistry | None,
    workers: int,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Return the application with all routes; `recorder` and `telemetry` record the requests that it answers."""
    model_router = predictions.model_router
    app = FastAPIOffline(
        version=version("modeltrace"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=FASTAPI_TELEMETRY_OFF,
    )
    app.include_router(prediction_routes(predictions, recorder, body_reader))
    app.include_router(feedback_routes(feedback, recorder, body_reader))
    app.include_router(add_head_routes(health_routes(model_router, registry, workers=workers)))
    app.include_router(add_head_routes(documentation_routes(app)))
    add_error_handlers(app)
    app.add_middleware(RelativeRedirectMiddleware)
    build_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        model = model_router.primary.model
        return refresh(build_openapi(), f"{model.name} {model.version}", model.schema, model.classes)

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it
    if telemetry.enabled:
        FastAPIInstrumentor.instrument_app(
            app,
            tracer_provider=telemetry.tracer_provider,
            meter_provider=telemetry.meter_provider,
            exclude_spans=["receive", "send"],
            excluded_urls=",".join(f"^https?://[^/]+(/.*)?/{path}$" for path in (*UNTRACED_PATHS, f"{STATIC_PATH}/.*")),
        )
    return app
