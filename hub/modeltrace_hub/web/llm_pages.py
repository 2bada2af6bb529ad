"""Serve LLM calls: the page with the list, and the API calls."""

from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from modeltrace_hub.json_responses import json_response
from modeltrace_hub.queries.list_fields import LLM_FIELDS
from modeltrace_hub.queries.list_parameters import TraceLimits
from modeltrace_hub.queries.llm_calls import LlmFilter, list_llm_calls, read_trace_conversations
from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.queries.trace import explain_missing_trace
from modeltrace_hub.query_limits import QueryLimits
from modeltrace_hub.retention import Retention
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.filter_form import move_to_line, parse_filters, query_with_condition, query_without
from modeltrace_hub.web.rendering import Renderer

TraceIdPath = Annotated[str, Path(pattern="^[0-9a-fA-F]{32}$", description="32 hex digits.")]


class LlmPages:
    """The routes of the page `/llm-calls` and of the API."""

    def __init__(self, renderer: Renderer, queries: Queries, limits: QueryLimits, retention: Retention) -> None:
        self._renderer = renderer
        self._queries = queries
        self._limits = limits
        self._retention = retention

    def router(self) -> APIRouter:
        """Return the routes. They run in worker threads, because queries block."""
        router = APIRouter()
        router.add_api_route("/api/llm-calls", self._limits.expensive(self._list), response_class=Response)
        router.add_api_route("/api/traces/{trace_id}/llm-calls", self._conversations, response_class=Response)
        page = self._limits.expensive(self._page)
        router.add_api_route("/llm-calls", page, include_in_schema=False, response_class=HTMLResponse)
        return router

    def _list(self, filters: Annotated[LlmFilter, Query()]) -> Response:
        """Return calls of large language models, newest first. `next` is the `cursor` of the next page."""
        with self._queries.open_reader() as reader:
            calls, cursor = list_llm_calls(reader, filters)
        return json_response({"llm_calls": calls, "next": cursor})

    def _conversations(self, trace_id: TraceIdPath, limits: Annotated[TraceLimits, Query()]) -> Response:
        """Return the messages, calls of tools and tokens of the spans of LLM applications in a trace."""
        with self._queries.open_reader() as reader:
            content = read_trace_conversations(reader, trace_id.lower(), limits.limit)
            if content is None:
                raise HTTPException(404, explain_missing_trace(reader, self._retention.state))
        return json_response(content)

    def _page(self, request: Request) -> Response:
        parameters = [(key, value) for key, value in request.query_params.multi_items() if value]
        if (moved := move_to_line(LlmFilter, LLM_FIELDS, parameters)) is not None:
            return RedirectResponse(f"llm-calls?{urlencode(moved)}", status_code=303)
        return self._renderer.respond(request, partial(self._render, request, parameters))

    def _render(self, request: Request, parameters: list[tuple[str, str]]) -> Response:
        filters, problem = parse_filters(LlmFilter, parameters)
        with self._queries.open_reader() as reader:
            calls, cursor = list_llm_calls(reader, filters)
        lasting = [pair for pair in parameters if pair[0] != "cursor"]
        return self._renderer.render(
            request,
            "llm_calls.html",
            "/traces",
            422 if problem else 200,
            field_set=LLM_FIELDS,
            parameters=dict(parameters),
            query=query_without(lasting),
            query_with=query_with_condition(lasting),
            problem=problem,
            calls=calls,
            cursor=cursor,
            hues=fmt.assign_hues(call["service_name"] for call in calls),
        )
