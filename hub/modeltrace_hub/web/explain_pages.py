"""Serve the page that compares two sets of traces or predictions."""

from functools import partial
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from modeltrace_hub.queries.explain import explain
from modeltrace_hub.queries.explain_parameters import AGAINST_PREFIX, SELECT_PREFIX, parse_comparison, split_comparison
from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.query_limits import QueryLimits
from modeltrace_hub.web.explanation import describe_explanation
from modeltrace_hub.web.rendering import Renderer


class ExplainPages:
    """The route of the page `/explain`."""

    def __init__(self, renderer: Renderer, queries: Queries, limits: QueryLimits) -> None:
        self._renderer = renderer
        self._queries = queries
        self._limits = limits

    def router(self) -> APIRouter:
        """Return the route. It runs in worker threads, because queries block."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/explain", self._limits.expensive(self._explain))
        return router

    def _explain(self, request: Request) -> Response:
        return self._renderer.respond(request, partial(self._render, request))

    def _render(self, request: Request) -> Response:
        pairs = [(name, value) for name, value in request.query_params.multi_items() if value]
        options, comparison = parse_comparison(pairs)
        with self._queries.open_reader() as reader:
            record = explain(reader, options, comparison)
        parts = split_comparison(pairs)
        is_traces = options.of == "traces"
        listed = [*parts[""], *((f"{SELECT_PREFIX}{name}", value) for name, value in parts[SELECT_PREFIX])]
        return self._renderer.render(
            request,
            "explain.html",
            "/traces" if is_traces else "/models",
            explanation=describe_explanation(record, listed if is_traces else None),
            both=[pair for pair in parts[""] if pair[0] not in type(options).model_fields],
            selected=parts[SELECT_PREFIX],
            against=parts[AGAINST_PREFIX],
            query=urlencode(pairs),
        )
