"""Create the application of the page port: the JSON API and the pages."""

import asyncio
import logging
from functools import partial
from typing import Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import Response
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.staticfiles import StaticFiles

from modeltrace_http.responses import RelativeRedirectMiddleware, add_head_routes
from modeltrace_hub.alerts.monitor import AlertMonitor
from modeltrace_hub.archive.routes import ArchiveRoutes
from modeltrace_hub.auth import AccessPolicy, AuthMiddleware
from modeltrace_hub.error_handlers import add_error_handlers
from modeltrace_hub.hub_metrics.routes import hub_metrics_router
from modeltrace_hub.json_responses import encode_non_finite, json_response
from modeltrace_hub.mcp_server.endpoint import McpEndpoint
from modeltrace_hub.queries.completions import CompletionRequest, Completions
from modeltrace_hub.queries.explain import explain
from modeltrace_hub.queries.explain_parameters import COMPARISON_PARAMETERS, parse_comparison
from modeltrace_hub.queries.hub_stats import StatsSource, collect_stats
from modeltrace_hub.queries.list_parameters import LogFilter, MetricFilter, TraceFilter, TraceLimits
from modeltrace_hub.queries.logs import count_logs, group_logs, list_logs
from modeltrace_hub.queries.metrics import list_metrics, list_points
from modeltrace_hub.queries.model_parameters import ModelFilter, PredictionFilter, QualityFilter, Window
from modeltrace_hub.queries.models import list_models, read_models
from modeltrace_hub.queries.predictions import read_predictions
from modeltrace_hub.queries.quality import read_quality
from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.queries.trace import explain_missing_trace, read_trace
from modeltrace_hub.queries.trace_search import search_traces
from modeltrace_hub.query_limits import QueryLimits
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.sql_query.routes import SqlQueue, sql_router
from modeltrace_hub.sql_query.runner import SqlRunner
from modeltrace_hub.store import Store
from modeltrace_hub.trace_routes import trace_router
from modeltrace_hub.web.alert_pages import AlertPages
from modeltrace_hub.web.compare_page import ComparePage
from modeltrace_hub.web.explain_pages import ExplainPages
from modeltrace_hub.web.health_pages import HealthPages
from modeltrace_hub.web.live_updates import LiveUpdates
from modeltrace_hub.web.llm_pages import LlmPages
from modeltrace_hub.web.log_pages import LogPages
from modeltrace_hub.web.metric_pages import MetricPages
from modeltrace_hub.web.model_pages import ModelPages
from modeltrace_hub.web.rendering import Renderer
from modeltrace_hub.web.service_pages import ServicePages
from modeltrace_hub.web.sql_pages import SqlPages
from modeltrace_hub.web.trace_pages import Pages, SecurityHeaders
from modeltrace_hub.web.waterfall_cache import WaterfallCache
from modeltrace_hub.writer import Writer

logger = logging.getLogger(__name__)

# FastAPI records no telemetry about requests, because the hub might have to receive it, too.
NATIVE_TELEMETRY_OFF: Final[Any] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}

TraceIdPath = Annotated[str, Path(pattern="^[0-9a-fA-F]{32}$", description="32 hex digits.")]


class _ModelNameConvertor(PathConvertor):
    """Any text, such as `org/a`. The dot of `path` matches no line break."""

    regex = r"[\s\S]*"


register_url_convertor("model_name", _ModelNameConvertor())


def create_app(
    store: Store,
    writer: Writer,
    settings: HubSettings,
    alert_monitor: AlertMonitor | None = None,
    closing: asyncio.Event | None = None,
) -> FastAPI:
    """Return the application with the API and the pages. Set `closing` to end the streams of updates."""
    queries = Queries(store)
    limits = QueryLimits()
    stats = partial(collect_stats, store, writer, settings, queries)
    sql_queue = SqlQueue(SqlRunner(store, timeout=settings.sql_timeout.total_seconds()))
    renderer = Renderer(writer)
    waterfalls = WaterfallCache()
    app = FastAPI(
        title="Modeltrace hub",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        # The URL is relative to the document, so it is correct behind a proxy that adds a path prefix.
        servers=[{"url": ".."}],
        telemetry=NATIVE_TELEMETRY_OFF,
    )
    _add_telemetry_routes(app, queries, limits, stats, writer)
    _add_log_routes(app, queries, limits)
    _add_completion_route(app, Completions(queries))
    _add_model_routes(app, queries, limits)
    add_head_routes(app)
    routers = (
        sql_router(sql_queue),
        trace_router(queries, waterfalls),
        hub_metrics_router(store, writer),
        Pages(renderer, queries, limits, waterfalls, stats, writer.retention, settings).router(),
        ComparePage(renderer, queries).router(),
        LogPages(renderer, queries, limits).router(),
        LlmPages(renderer, queries, limits, writer.retention).router(),
        ExplainPages(renderer, queries, limits).router(),
        MetricPages(renderer, queries, limits).router(),
        ServicePages(renderer, queries, limits).router(),
        ModelPages(renderer, queries, limits).router(),
        HealthPages(renderer, queries, writer).router(),
        AlertPages(renderer, queries, limits, alert_monitor).router(),
        ArchiveRoutes(renderer, queries, writer, settings).router(),
        SqlPages(renderer, sql_queue).router(),
    )
    for router in routers:
        app.include_router(add_head_routes(router))
    app.mount("/static", StaticFiles(packages=[("modeltrace_hub", "web/static")]))
    app.add_route("/mcp", McpEndpoint(app, settings.key.get_secret_value() if settings.key else None))  # type: ignore[arg-type]  # an ASGI application, which Starlette accepts
    add_error_handlers(app, renderer)
    app.add_middleware(LiveUpdates, closing=closing)
    app.add_middleware(RelativeRedirectMiddleware)
    app.add_middleware(AuthMiddleware, policy=AccessPolicy(settings))
    app.add_middleware(SecurityHeaders)
    return app


def _add_telemetry_routes(
    app: FastAPI, queries: Queries, limits: QueryLimits, stats: StatsSource, writer: Writer
) -> None:
    """Add the API calls about traces, metrics and the hub. They run in worker threads: queries block."""

    @app.get("/healthz", response_class=Response)
    async def healthz() -> Response:
        """Return 200 while the hub runs."""
        return Response("ok", media_type="text/plain")

    @app.get("/api/traces", response_class=Response)
    @limits.expensive_if_filtered
    def traces(filters: Annotated[TraceFilter, Query()]) -> Response:
        """Return traces, newest first. `next` is the `cursor` of the next page."""
        with queries.open_reader() as reader:
            rows, cursor = search_traces(reader, filters)
        return json_response({"traces": rows, "next": cursor})

    @app.get("/api/traces/{trace_id}", response_class=Response)
    def trace(trace_id: TraceIdPath, limits: Annotated[TraceLimits, Query()]) -> Response:
        """Return all records of a trace ID."""
        with queries.open_reader() as reader:
            content = read_trace(reader, writer.retention.state, trace_id.lower(), limits.limit)
            if content is None:
                raise HTTPException(404, explain_missing_trace(reader, writer.retention.state))
        for key in ("exemplars", "metrics"):
            content[key] = encode_non_finite(content[key])
        return json_response(content)

    @app.get("/api/explain", response_class=Response, openapi_extra={"parameters": COMPARISON_PARAMETERS})
    @limits.expensive
    def explanation(request: Request) -> Response:
        """Return the properties that are over-represented in a selection of traces or predictions.

        Besides its own parameters, the call takes the filters of `GET /api/traces` or `GET /api/predictions`: for all
        items without a prefix, for the selection as `select.NAME`, for the set it is compared with as `against.NAME`.
        """
        options, comparison = parse_comparison(request.query_params.multi_items())
        with queries.open_reader() as reader:
            return json_response(explain(reader, options, comparison))

    @app.get("/api/metrics", response_class=Response)
    @limits.expensive
    def metrics(filters: Annotated[MetricFilter, Query()]) -> Response:
        """Return all metrics; with `name`, the points of this metric, newest first."""
        with queries.open_reader() as reader:
            if filters.name is None:
                return json_response({"metrics": encode_non_finite(list_metrics(reader))})
            return json_response({"name": filters.name, "points": encode_non_finite(list_points(reader, filters))})

    @app.get("/api/stats", response_class=Response)
    @limits.expensive
    def statistics(request: Request) -> Response:
        """Return counts of received and stored telemetry, the storage, the endpoints and the services."""
        return json_response(stats(request.url.hostname))


def _add_log_routes(app: FastAPI, queries: Queries, limits: QueryLimits) -> None:
    """Add the API calls about log records."""

    @app.get("/api/logs", response_class=Response)
    @limits.expensive_if_filtered
    def logs(filters: Annotated[LogFilter, Query()]) -> Response:
        """Return log records, newest first. `next` is the `cursor` of the next page."""
        with queries.open_reader() as reader:
            rows, cursor = list_logs(reader, filters)
        return json_response({"logs": rows, "next": cursor})

    @app.get("/api/logs/counts", response_class=Response)
    @limits.expensive
    def log_counts(filters: Annotated[LogFilter, Query()]) -> Response:
        """Count log records by severity over time, and by severity, service, event and scope."""
        with queries.open_reader() as reader:
            return json_response({"counts": count_logs(reader, filters)})

    @app.get("/api/logs/groups", response_class=Response)
    @limits.expensive
    def log_groups(filters: Annotated[LogFilter, Query()]) -> Response:
        """Return groups of similar records among the newest 20,000 matching ones, the largest group first."""
        with queries.open_reader() as reader:
            return json_response({"groups": group_logs(reader, filters)})


def _add_completion_route(app: FastAPI, completions: Completions) -> None:
    """Add the API call for the completion of a filter line."""

    @app.get("/api/completions", response_class=Response)
    def complete(request: Annotated[CompletionRequest, Query()]) -> Response:
        """Return the names that the filter line of a list can have; with `name`, the most frequent values of it."""
        return json_response(completions.complete(request))


def _add_model_routes(app: FastAPI, queries: Queries, limits: QueryLimits) -> None:
    """Add the API calls about models and predictions."""

    @app.get("/api/models", response_class=Response)
    @limits.expensive
    def models(filters: Annotated[ModelFilter, Query()]) -> Response:
        """Return the models with telemetry in a window, and their versions."""
        window = filters.current_window()
        with queries.open_reader() as reader:
            return json_response({"window": _window_json(window), "models": list_models(reader, window)})

    @app.get("/api/models/{name:model_name}", response_class=Response)
    @limits.expensive
    def model(name: str, filters: Annotated[ModelFilter, Query()]) -> Response:
        """Return all metrics of a model in a window, by version."""
        window = filters.current_window()
        with queries.open_reader() as reader:
            matches = read_models(reader, window, name)
        if not matches:
            raise HTTPException(404, "No model of this name has telemetry in this window. See GET /api/models.")
        return json_response({"window": _window_json(window), **matches[0]})

    @app.get("/api/quality", response_class=Response)
    @limits.expensive
    def quality(filters: Annotated[QualityFilter, Query()]) -> Response:
        """Return the figures of the labelled predictions of a model: over time, by confidence, threshold and error."""
        window = filters.current_window()
        with queries.open_reader() as reader:
            figures = read_quality(reader, filters.model, window, filters.over)
        return json_response({"window": _window_json(window), "model": filters.model, **figures})

    @app.get("/api/predictions", response_class=Response)
    @limits.expensive
    def predictions(filters: Annotated[PredictionFilter, Query()]) -> Response:
        """Return predictions, labels or schema violations, newest first, each with its trace ID."""
        with queries.open_reader() as reader:
            return json_response(read_predictions(reader, filters))


def _window_json(window: Window) -> dict[str, int]:
    return {"since_ns": window.since_ns, "until_ns": window.until_ns, "step_ns": window.step_ns}
