"""Serve the page that compares two traces."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.reader import Queries, Reader, Record
from modeltrace_hub.queries.trace_comparison import TraceComparison, compare_traces
from modeltrace_hub.queries.trace_parameters import CompareView
from modeltrace_hub.queries.trace_search import search_traces
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.rendering import Renderer

MAX_PATHS: Final = 1000
MAX_CANDIDATES: Final = 10


class ComparePage:
    """The route of the page. Without a second trace, it lists traces with the same name."""

    def __init__(self, renderer: Renderer, queries: Queries) -> None:
        self._renderer = renderer
        self._queries = queries

    def router(self) -> APIRouter:
        """Return the route. It runs in worker threads, because queries block."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/compare", self._compare)
        return router

    def _compare(self, request: Request, view: Annotated[CompareView, Query()]) -> Response:
        comparison: TraceComparison | None = None
        candidates: list[Record] = []
        with self._queries.open_reader() as reader:
            if view.a and view.b:
                comparison = compare_traces(reader, view.a, view.b)
            elif view.a:
                candidates = _find_candidates(reader, view.a)
        context = _context(comparison, only_changes=view.changes) if comparison else {"paths": [], "counts": {}}
        services = [path.service for path in context["paths"]]
        services += [name for trace in candidates for name in trace["services"]]
        return self._renderer.render(
            request,
            "compare.html",
            "/traces",
            view=view,
            comparison=comparison,
            candidates=candidates,
            hues=fmt.assign_hues(services),
            **context,
        )


def _context(comparison: TraceComparison, *, only_changes: bool) -> dict[str, Any]:
    """Return the paths that the page shows, and the number of paths by state."""
    states = [path.state for path in comparison.paths]
    shown = [path for path in comparison.paths if not only_changes or path.state != "similar"]
    return {
        "paths": shown[:MAX_PATHS],
        "omitted": max(len(shown) - MAX_PATHS, 0),
        "counts": {state: states.count(state) for state in ("slower", "faster", "added", "missing", "similar")},
        "longest_ns": max([abs(path.difference_ns) for path in shown], default=0),
    }


def _find_candidates(reader: Reader, trace_id: str) -> list[Record]:
    """Return the newest traces whose root has the service and name of a trace."""
    root = reader.fetch_all("get_trace_root", trace_id=trace_id)
    if not root:
        return []
    filters = TraceFilter(service=root[0]["service_name"], name=root[0]["name"], limit=MAX_CANDIDATES + 1)
    traces, _ = search_traces(reader, filters)
    same_root = (trace for trace in traces if trace["trace_id"] != trace_id and trace["name"] == root[0]["name"])
    return list(same_root)[:MAX_CANDIDATES]
