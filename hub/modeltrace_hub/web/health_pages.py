"""Serve the faults of the received telemetry: the page `/health` and the API call."""

import time
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.telemetry_health import HealthFilter, check_health
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.rendering import Renderer
from modeltrace_hub.writer import Writer


class HealthPages:
    """The routes."""

    def __init__(self, renderer: Renderer, queries: Queries, writer: Writer) -> None:
        self._renderer = renderer
        self._queries = queries
        self._writer = writer

    def router(self) -> APIRouter:
        """Return the routes. They run in worker threads, because queries block."""
        router = APIRouter()
        router.add_api_route("/api/health", self._api, response_class=Response)
        router.add_api_route("/health", self._page, include_in_schema=False, response_class=HTMLResponse)
        return router

    def _api(self, filters: Annotated[HealthFilter, Query()]) -> Response:
        """Return faults of the received telemetry, such as missing parents and wrong clocks."""
        with self._queries.open_reader() as reader:
            findings = check_health(reader, self._writer.stats, filters)
        return Response(orjson.dumps({"findings": findings}), media_type="application/json")

    def _page(self, request: Request, filters: Annotated[HealthFilter, Query()]) -> Response:
        with self._queries.open_reader() as reader:
            findings = check_health(reader, self._writer.stats, filters)
        services = [finding["service"] for finding in findings if finding["service"] is not None]
        return self._renderer.render(
            request,
            "health.html",
            "/health",
            findings=findings,
            window=filters.window,
            checked_ns=time.time_ns(),
            hues=fmt.assign_hues(services),
        )
