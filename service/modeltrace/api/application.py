"""Build the FastAPI application from its routes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from prometheus_client import CollectorRegistry

from modeltrace.api.body import BodyReader
from modeltrace.api.documentation import STATIC_PATH, documentation_routes
from modeltrace.api.errors import add_error_handlers
from modeltrace.api.model_and_health import UNTRACED_PATHS, health_routes
from modeltrace.api.openapi import describe_routes, refresh
from modeltrace.api.predict import Handler
from modeltrace.api.protocol_openapi import describe_protocols
from modeltrace.api.protocol_routes import ProtocolRoutes, description_routes
from modeltrace.api.responses import encoded_response, typed_response
from modeltrace.serving.router import ModelRouter
from modeltrace.telemetry.providers import Telemetry
from modeltrace.telemetry.sdk.recorder import SDKRecorder
from modeltrace_http.responses import RelativeRedirectMiddleware, add_head_routes

# FastAPI's own telemetry would create a second SERVER span, in addition to the span of the instrumentation.
FASTAPI_TELEMETRY_OFF: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def build_fastapi(
    handlers: Mapping[str, Handler],
    protocol_routes: ProtocolRoutes,
    model_router: ModelRouter,
    body_reader: BodyReader,
    recorder: SDKRecorder,
    telemetry: Telemetry,
    *,
    registry: CollectorRegistry | None,
    tags: Sequence[str],
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Return the application with all routes; `recorder` and `telemetry` record the requests that it answers.

    FastAPI documents the routes of `handlers`, which are POST requests by path, and of `protocol_routes`. It answers
    their requests itself only with `MODELTRACE_INSTRUMENTATION=sdk`.
    """
    app = FastAPIOffline(
        version=version("modeltrace"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=FASTAPI_TELEMETRY_OFF,
    )
    for path, description in _describe(model_router, tags).items():
        app.add_api_route(
            path,
            _endpoint(handlers.get(path, protocol_routes.handle), recorder, body_reader),
            methods=["POST"],
            name=path.removeprefix("/").replace("/", "_"),
            **description,
        )
    app.include_router(add_head_routes(health_routes(model_router, registry)))
    app.include_router(add_head_routes(description_routes(model_router)))
    app.include_router(add_head_routes(documentation_routes(app)))
    add_error_handlers(app)
    app.add_middleware(RelativeRedirectMiddleware)
    build_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        return refresh(build_openapi(), model_router.primary.model, _describe(model_router, tags))

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


def _describe(model_router: ModelRouter, tags: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the arguments of `FastAPI.add_api_route` by path."""
    model = model_router.primary.model
    return {**describe_routes(model, tags), **describe_protocols(model)}


def _endpoint(handler: Handler, recorder: SDKRecorder, body_reader: BodyReader) -> Callable[..., Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        with recorder.record_request(request.scope) as trace:
            body = await handler(await body_reader.read(request.scope, request.receive), trace)
            if isinstance(body, bytes):
                return encoded_response(body, trace.trace_id_hex)
            return typed_response(body, trace.trace_id_hex)

    return answer
