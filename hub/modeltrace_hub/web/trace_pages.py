"""Serve the pages of traces and the overview.

To update itself, a page requests its own address again and replaces the parts that differ. Each part is therefore
rendered in one place only, the server.
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modeltrace_hub.queries.filter_fields import FieldSet
from modeltrace_hub.queries.hub_stats import StatsSource
from modeltrace_hub.queries.list_fields import TRACE_FIELDS
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.model_parameters import DEFAULT_WINDOW, ModelFilter
from modeltrace_hub.queries.models import list_model_traffic
from modeltrace_hub.queries.reader import Queries, Record
from modeltrace_hub.queries.spooled import describe_spooled_items
from modeltrace_hub.queries.trace import explain_missing_trace
from modeltrace_hub.queries.trace_parameters import TracePageView
from modeltrace_hub.queries.trace_search import search_traces
from modeltrace_hub.query_limits import QueryLimits
from modeltrace_hub.retention import Retention
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.external_links import build_links
from modeltrace_hub.web.filter_form import move_to_line, parse_filters, query_without
from modeltrace_hub.web.rendering import Renderer
from modeltrace_hub.web.time_range import describe_window, read_time_range
from modeltrace_hub.web.trace_details import span_context, trace_page_context
from modeltrace_hub.web.trace_selection import read_selection, selection_context
from modeltrace_hub.web.waterfall_cache import WaterfallCache

LATEST_TRACES: Final = 8

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    """The routes of the overview and the pages of traces."""

    def __init__(
        self,
        renderer: Renderer,
        queries: Queries,
        limits: QueryLimits,
        waterfalls: WaterfallCache,
        stats: StatsSource,
        retention: Retention,
        settings: HubSettings,
    ) -> None:
        self._renderer = renderer
        self._queries = queries
        self._limits = limits
        self._waterfalls = waterfalls
        self._stats = stats
        self._retention = retention
        self._settings = settings

    def router(self) -> APIRouter:
        """Return the routes. They run in worker threads, because queries block."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/", self._limits.expensive(self._overview))
        router.add_api_route("/traces", self._limits.expensive_if_filtered(self._traces))
        router.add_api_route("/t", self._go_to_trace)
        router.add_api_route("/t/{trace_id}", self._trace)
        return router

    def _overview(self, request: Request) -> Response:
        snapshot = self._stats(request.url.hostname)
        time_range = read_time_range(request.query_params)
        view, _ = parse_filters(ModelFilter, [pair for pair in time_range.pairs if pair[1]])
        window = view.current_window()
        with self._queries.open_reader() as reader:
            models = list_model_traffic(reader, window)
            latest, _ = search_traces(reader, TraceFilter(limit=LATEST_TRACES))
            spooled = describe_spooled_items(reader)
        services = [record["service_name"] for record in snapshot["services"]]
        services += [name for model in models for version in model["versions"] for name in version["services"]]
        services += [name for trace in latest for name in trace["services"]]
        return self._renderer.render(
            request,
            "overview.html",
            "/",
            snapshot=snapshot,
            models=models,
            window=window,
            window_choice=describe_window(time_range, DEFAULT_WINDOW),
            latest=latest,
            spooled=spooled,
            hues=fmt.assign_hues(services),
        )

    def _traces(self, request: Request) -> Response:
        parameters = [(key, value) for key, value in request.query_params.multi_items() if value]
        if (moved := move_to_line(TraceFilter, TRACE_FIELDS, parameters)) is not None:
            return RedirectResponse(f"traces?{urlencode(moved)}", status_code=303)
        return self._renderer.respond(request, partial(self._render_traces, request, parameters))

    def _render_traces(self, request: Request, parameters: list[tuple[str, str]]) -> Response:
        selected = read_selection(parameters)
        problem = selected.problem
        with self._queries.open_reader() as reader:
            traces, cursor = search_traces(reader, selected.listed)
            context = selection_context(reader, selected, parameters)
        without_cursor = [pair for pair in parameters if pair[0] != "cursor"]
        return self._renderer.render(
            request,
            "traces.html",
            "/traces",
            422 if problem else 200,
            field_set=_shown_fields(traces),
            parameters=dict(parameters),
            query_without=query_without(without_cursor),
            problem=problem,
            traces=traces,
            next_query=cursor and urlencode([*without_cursor, ("cursor", cursor)]),
            hues=fmt.assign_hues(name for trace in traces for name in trace["services"]),
            **context,
        )

    def _go_to_trace(self, request: Request) -> Response:
        trace_id = request.query_params.get("id", "").strip().lower().replace("-", "")
        return RedirectResponse(f"t/{quote(trace_id[:64])}" if trace_id.isalnum() else "traces", status_code=303)

    def _trace(self, request: Request, trace_id: str, view: Annotated[TracePageView, Query()]) -> Response:
        trace_id = trace_id.lower()
        if not re.fullmatch("[0-9a-f]{32}", trace_id) or trace_id == "0" * 32:
            return self._renderer.error(
                request,
                404,
                f"“{trace_id[:80]}” is not a trace ID. A trace ID is 32 hexadecimal digits, not all of them zero.",
            )
        return self._renderer.respond(request, partial(self._render_trace, request, trace_id, view))

    def _render_trace(self, request: Request, trace_id: str, view: TracePageView) -> Response:
        if view.part == "span":
            with self._queries.open_reader() as reader:
                details = span_context(reader, trace_id, view)
            hues = fmt.assign_hues(details["services"])
            page_view = view.model_copy(update={"part": "page"})
            return self._renderer.render(
                request, "_span.html", "/traces", trace_id=trace_id, view=page_view, hues=hues, **details
            )
        with self._queries.open_reader() as reader:
            context = trace_page_context(reader, self._waterfalls, self._retention.state, trace_id, view)
            if context is None:
                explanation = explain_missing_trace(reader, self._retention.state)
                return self._renderer.render(
                    request, "trace_not_found.html", "/traces", 404, trace_id=trace_id, explanation=explanation
                )
        end_ns = context["start_ns"] + (context["waterfall"].trace_duration_ns or 0)
        root = context["root_span"]
        service = root["service_name"] if root else None
        return self._renderer.render(
            request,
            "trace.html",
            "/traces",
            trace_id=trace_id,
            view=view,
            hues=fmt.assign_hues(context["services"]),
            external_links=build_links(self._settings, trace_id, context["start_ns"], end_ns, service),
            **context,
        )


def _shown_fields(traces: Sequence[Record]) -> FieldSet:
    """Return the fields that the help of the filter line lists: without those of predictions or LLM calls, if none."""
    hidden: set[str] = set()
    if all(trace["output"] is None for trace in traces):
        hidden |= {"output", "confidence"}
    if not any(trace["llm_call_count"] for trace in traces):
        hidden |= {"llm_calls", "tokens"}
    fields = {name: field for name, field in TRACE_FIELDS.fields.items() if name not in hidden}
    return FieldSet(fields, TRACE_FIELDS.prefixes)


class SecurityHeaders:
    """Add security headers to every response. They forbid foreign scripts, framing, and sending the referrer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to the response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


_HEADERS: Final = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
