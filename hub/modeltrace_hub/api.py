"""The application of the page's port: the JSON API, and the pages beside it."""

import logging
from typing import Annotated, Any, Final

import orjson
from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from modeltrace_http.responses import RelativeRedirectMiddleware, add_head_routes
from modeltrace_hub.auth import Guard, GuardMiddleware
from modeltrace_hub.decode.values import json_double
from modeltrace_hub.errors import QueryTimeoutError, ReadersBusyError, StoreError
from modeltrace_hub.queries.filters import LogFilter, MetricFilter, TraceDetail, TraceFilter
from modeltrace_hub.queries.models import list_models, read_models
from modeltrace_hub.queries.predictions import read_predictions
from modeltrace_hub.queries.queries import Queries
from modeltrace_hub.queries.stats import Stats
from modeltrace_hub.queries.trace import absence, read_trace
from modeltrace_hub.queries.windows import ModelFilter, PredictionFilter, Window
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import Store
from modeltrace_hub.web.model_pages import ModelPages
from modeltrace_hub.web.pages import Pages, SecurityHeaders
from modeltrace_hub.web.rendering import Renderer
from modeltrace_hub.writer import Writer

logger = logging.getLogger(__name__)

# The hub makes no telemetry of its own: it would send it to itself.
NATIVE_TELEMETRY_OFF: Final[Any] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}

TraceIdPath = Annotated[str, Path(pattern="^[0-9a-fA-F]{32}$", description="32 hex digits.")]


def create_app(store: Store, writer: Writer, settings: HubSettings) -> FastAPI:
    """Put the API and the pages together."""
    queries = Queries(store)
    stats = Stats(store, writer, settings, queries)
    renderer = Renderer(stats)
    pages = Pages(renderer, queries, stats, writer.retention)
    app = FastAPI(
        title="Modeltrace hub",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        # Relative to the document, so that it is true below any path.
        servers=[{"url": ".."}],
        telemetry=NATIVE_TELEMETRY_OFF,
    )
    _add_api(app, queries, stats, writer)
    _add_models(app, queries)
    add_head_routes(app)
    app.include_router(add_head_routes(pages.router()))
    app.include_router(add_head_routes(ModelPages(renderer, queries).router()))
    app.mount("/static", pages.static())
    _add_error_handlers(app, renderer)
    app.add_middleware(RelativeRedirectMiddleware)
    app.add_middleware(GuardMiddleware, guard=Guard(settings))
    app.add_middleware(SecurityHeaders)
    return app


def _add_api(app: FastAPI, queries: Queries, stats: Stats, writer: Writer) -> None:
    """The calls that answer JSON. They run on worker threads, since the database makes them wait."""

    @app.get("/healthz", response_class=Response)
    async def healthz() -> Response:
        """200 as long as the hub runs."""
        return Response("ok", media_type="text/plain")

    @app.get("/api/traces", response_class=Response)
    def traces(asked: Annotated[TraceFilter, Query()]) -> Response:
        """Traces, newest first; `next` is the `cursor` of those that follow."""
        with queries.ask() as reader:
            found, following = reader.traces(asked)
        return json({"traces": found, "next": following})

    @app.get("/api/traces/{trace_id}", response_class=Response)
    def trace(trace_id: TraceIdPath, asked: Annotated[TraceDetail, Query()]) -> Response:
        """All that is kept under one trace ID."""
        with queries.ask() as reader:
            found = read_trace(reader, writer.retention.kept, trace_id.lower(), asked.limit)
            if found is None:
                raise HTTPException(404, absence(reader, writer.retention.kept))
        return json({**found, "exemplars": spell(found["exemplars"]), "metrics": spell(found["metrics"])})

    @app.get("/api/logs", response_class=Response)
    def logs(asked: Annotated[LogFilter, Query()]) -> Response:
        """Log records, newest first."""
        with queries.ask() as reader:
            return json({"logs": reader.logs(asked)})

    @app.get("/api/metrics", response_class=Response)
    def metrics(asked: Annotated[MetricFilter, Query()]) -> Response:
        """All metrics; with `name`, the points of one, newest first."""
        with queries.ask() as reader:
            if asked.name is None:
                return json({"metrics": spell(reader.metrics())})
            return json({"name": asked.name, "points": spell(reader.points(asked))})

    @app.get("/api/stats", response_class=Response)
    def statistics(request: Request) -> Response:
        """What has arrived, what has become of it, what is kept, and who sent it."""
        return json(stats.read(request.url.hostname))


def _add_models(app: FastAPI, queries: Queries) -> None:
    """The calls about models and their predictions."""

    @app.get("/api/models", response_class=Response)
    def models(asked: Annotated[ModelFilter, Query()]) -> Response:
        """The models heard of in a window, with their versions."""
        window = asked.now()
        with queries.ask() as reader:
            return json({"window": _bounds(window), "models": list_models(reader, window)})

    @app.get("/api/models/{name:path}", response_class=Response)
    def model(name: str, asked: Annotated[ModelFilter, Query()]) -> Response:
        """All figures of one model in a window, by version."""
        window = asked.now()
        with queries.ask() as reader:
            found = read_models(reader, window, name)
        if not found:
            raise HTTPException(404, "No model of this name was heard of in this window. GET /api/models lists those.")
        return json({"window": _bounds(window), **found[0]})

    @app.get("/api/predictions", response_class=Response)
    def predictions(asked: Annotated[PredictionFilter, Query()]) -> Response:
        """Predictions, newest first, each with its trace ID; by label, bin, confidence, or what became of them."""
        with queries.ask() as reader:
            return json(read_predictions(reader, asked))


def _bounds(window: Window) -> dict[str, int]:
    return {"since_ns": window.since_ns, "until_ns": window.until_ns, "step_ns": window.step_ns}


def _add_error_handlers(app: FastAPI, renderer: Renderer) -> None:
    """JSON for the API, a page for everything else."""

    def answer(request: Request, status: int, type_: str, message: str, **more: str) -> Response:
        if request.url.path.startswith("/api/") or request.url.path == "/healthz":
            return json({"error": {"type": type_, "message": message, **more}}, status)
        return renderer.error(request, status, message)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"] if part not in {"query", "path"}]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such parameter"
        named = {"parameter": where[-1][:80]} if where else {}
        text = f"{named['parameter']}: {message}" if named else message
        return answer(request, 422, "invalid_parameter", text, **named)

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> Response:
        types = {404: "not_found", 405: "method_not_allowed"}
        response = answer(request, error.status_code, types.get(error.status_code, "error"), str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(StoreError)
    async def unanswered(request: Request, error: StoreError) -> Response:
        slow = isinstance(error, QueryTimeoutError | ReadersBusyError)
        response = answer(request, 503, "timeout" if slow else "store_failed", str(error))
        response.headers["Retry-After"] = "1"
        return response

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(request, 500, "internal", "The hub failed to answer; its log says why.")


def spell(value: Any) -> Any:  # noqa: ANN401  whatever a record holds
    """Write the numbers that JSON lacks as attributes have them: "NaN", "Infinity", "-Infinity"."""
    match value:
        case float():
            return json_double(value)
        case list() | tuple():
            return [spell(item) for item in value]
        case dict():
            return {key: spell(item) for key, item in value.items()}
        case _:
            return value


def json(content: object, status: int = 200) -> Response:
    """JSON, never from a cache."""
    return Response(orjson.dumps(content), status, {"Cache-Control": "no-store"}, "application/json")
