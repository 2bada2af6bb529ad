"""Serve services: the page with a table and sparklines, or a map of the calls between them, and the API calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from modeltrace_hub.json_responses import json_response
from modeltrace_hub.queries.list_parameters import TimeRangeFilter
from modeltrace_hub.queries.reader import Queries, Record
from modeltrace_hub.queries.services import Range, ServiceFilter, list_service_calls, list_service_requests, read_range
from modeltrace_hub.query_limits import QueryLimits
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.filter_form import query_without
from modeltrace_hub.web.rendering import Renderer
from modeltrace_hub.web.service_map import draw_map

SPARK_WIDTH: Final = 120.0
SPARK_HEIGHT: Final = 22.0


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A line without axes: the points of its unbroken parts."""

    parts: list[str]
    title: str


class ServicePages:
    """The route of the page `/services`."""

    def __init__(self, renderer: Renderer, queries: Queries, limits: QueryLimits) -> None:
        self._renderer = renderer
        self._queries = queries
        self._limits = limits

    def router(self) -> APIRouter:
        """Return the route. It runs in worker threads, because queries block."""
        router = APIRouter()
        router.add_api_route("/api/services", self._limits.expensive(self._list), response_class=Response)
        router.add_api_route("/api/services/calls", self._limits.expensive(self._calls), response_class=Response)
        page = self._limits.expensive(self._services)
        router.add_api_route("/services", page, include_in_schema=False, response_class=HTMLResponse)
        return router

    def _list(self, filters: Annotated[TimeRangeFilter, Query()]) -> Response:
        """Return requests, errors and durations of each service, in total and over time, and its instances."""
        with self._queries.open_reader() as reader:
            time = read_range(reader, filters)
            services = list_service_requests(reader, time) if time else []
        return json_response({**_range_record(time), "services": services})

    def _calls(self, filters: Annotated[TimeRangeFilter, Query()]) -> Response:
        """Return the calls between services, the most frequent first. `examined` is the share of the traces read."""
        with self._queries.open_reader() as reader:
            time = read_range(reader, filters)
            calls, examined = list_service_calls(reader, time) if time else ([], 1.0)
        return json_response({**_range_record(time), "calls": calls, "examined": examined})

    def _services(self, request: Request, filters: Annotated[ServiceFilter, Query()]) -> Response:
        return self._renderer.respond(request, partial(self._render, request, filters))

    def _render(self, request: Request, filters: ServiceFilter) -> Response:
        parameters = [(key, value) for key, value in request.query_params.multi_items() if value]
        calls: list[Record] = []
        examined = 1.0
        with self._queries.open_reader() as reader:
            time = read_range(reader, filters)
            services = list_service_requests(reader, time) if time else []
            if time and filters.view == "map":
                calls, examined = list_service_calls(reader, time)
        return self._renderer.render(
            request,
            "services.html",
            "/services",
            filters=filters,
            parameters=dict(parameters),
            query=query_without(parameters),
            services=services,
            time=time,
            sparklines={service["service_name"]: _sparklines(service, time) for service in services} if time else {},
            map=draw_map(services, calls) if filters.view == "map" else None,
            examined=examined,
            hues=fmt.assign_hues(service["service_name"] for service in services),
        )


def _range_record(time: Range | None) -> Record:
    """Return the steps of the range of time; null without spans."""
    names = ("since_ns", "until_ns", "step_ns", "steps")
    return {name: getattr(time, name) if time else None for name in names}


def _sparklines(service: Record, time: Range) -> dict[str, Sparkline]:
    """Return the sparklines of a service: requests, errors, and the 95th percentile of the durations."""
    steps = service["steps"]
    seconds = time.step_ns / 1e9
    requests = [step["request_count"] / seconds for step in steps]
    errors = [step["error_count"] / seconds for step in steps]
    return {
        "rate": _draw(requests, f"up to {fmt.number(max(requests))}/s"),
        # On the scale of the requests, so that a few errors are seen to be few.
        "errors": _draw(errors, f"up to {fmt.number(max(errors))}/s", highest=max(requests)),
        "p95": _draw(
            [step["p95_ns"] for step in steps],
            f"up to {fmt.duration(max((step['p95_ns'] or 0 for step in steps), default=0))}",
        ),
    }


def _draw(values: Sequence[float | None], title: str, highest: float | None = None) -> Sparkline:
    highest = highest or max((value for value in values if value is not None), default=0) or 1.0
    parts: list[list[str]] = [[]]
    for step, value in enumerate(values):
        if value is None:
            parts.append([])
        else:
            x = SPARK_WIDTH * (step + 0.5) / len(values)
            parts[-1].append(f"{x:.1f},{1 + (SPARK_HEIGHT - 2) * (1 - value / highest):.1f}")
    return Sparkline([" ".join(part * 2 if len(part) == 1 else part) for part in parts if part], title)
