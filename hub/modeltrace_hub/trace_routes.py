"""The API calls about the structure of traces: the waterfall, the search in a trace, the comparison of two traces."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from modeltrace_hub.json_responses import json_response
from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.queries.span_search import search_spans
from modeltrace_hub.queries.trace import locate_trace
from modeltrace_hub.queries.trace_comparison import compare_traces
from modeltrace_hub.queries.trace_parameters import ComparedTraces, TraceSearch
from modeltrace_hub.web.waterfall_cache import WaterfallCache
from modeltrace_hub.web.waterfall_columns import read_waterfall_columns

TraceIdPath = Annotated[str, Path(pattern="^[0-9a-fA-F]{32}$", description="32 hex digits.")]


def trace_router(queries: Queries, waterfalls: WaterfallCache) -> APIRouter:
    """Return the routes. They run in worker threads: queries block."""
    router = APIRouter()

    @router.get("/api/traces/{trace_id}/waterfall", response_class=Response)
    def waterfall(trace_id: TraceIdPath) -> Response:
        """Return the rows of the waterfall of a trace as columns: tree, times, self times, critical path."""
        with queries.open_reader() as reader:
            return json_response(read_waterfall_columns(reader, waterfalls, trace_id.lower()))

    @router.get("/api/traces/{trace_id}/search", response_class=Response)
    def search(trace_id: TraceIdPath, parameters: Annotated[TraceSearch, Query()]) -> Response:
        """Return the IDs of the spans of a trace that contain a text."""
        with queries.open_reader() as reader:
            trace = locate_trace(reader, trace_id.lower())
            return json_response({"span_ids": search_spans(reader, trace, parameters.q)})

    @router.get("/api/compare", response_class=Response)
    def comparison(traces: Annotated[ComparedTraces, Query()]) -> Response:
        """Compare two traces by structure: their spans are matched by the path of services and names."""
        with queries.open_reader() as reader:
            return json_response(compare_traces(reader, traces.a, traces.b))

    return router
