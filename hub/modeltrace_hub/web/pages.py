"""The pages: rendered here, whole without JavaScript; static/main.js makes them live.

A page refreshes by asking for itself again and changing what differs, so that each thing is drawn in one place only.
"""

import re
from importlib import resources
from typing import Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modeltrace_hub.queries.filters import ATTRIBUTE_PREFIX, PageView, TraceFilter
from modeltrace_hub.queries.queries import Queries, Record
from modeltrace_hub.queries.stats import Stats
from modeltrace_hub.queries.trace import absence
from modeltrace_hub.retention import Retention
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.rendering import Renderer, first_problem
from modeltrace_hub.web.trace_page import read_page

LATEST: Final = 8

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    """The routes of the pages."""

    def __init__(self, renderer: Renderer, queries: Queries, stats: Stats, retention: Retention) -> None:
        self._renderer = renderer
        self._queries = queries
        self._stats = stats
        self._retention = retention

    def router(self) -> APIRouter:
        """The pages' routes; they run on worker threads, since the database makes them wait."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/", self._overview)
        router.add_api_route("/traces", self._traces)
        router.add_api_route("/t", self._open)
        router.add_api_route("/t/{trace_id}", self._trace)
        return router

    def static(self) -> ASGIApp:
        """Style, scripts and the icon."""
        return StaticFiles(directory=str(resources.files("modeltrace_hub").joinpath("web/static")))

    def _overview(self, request: Request) -> Response:
        snapshot = self._stats.read(request.url.hostname)
        with self._queries.ask() as reader:
            latest, _ = reader.traces(TraceFilter(limit=LATEST))
        services = [record["service_name"] for record in snapshot.services]
        services += [name for trace in latest for name in trace["services"]]
        return self._renderer.render(
            request, "overview.html", "/", snapshot=snapshot, latest=latest, hues=fmt.hues(services)
        )

    def _traces(self, request: Request) -> Response:
        given = [(key, value) for key, value in request.query_params.multi_items() if value]
        if "attr" in request.query_params:
            return RedirectResponse(f"traces?{urlencode(_canonical(given))}", status_code=303)
        if (unchanged := self._renderer.unchanged(request)) is not None:
            return unchanged
        etag = self._renderer.etag()
        problem: str | None = None
        found: list[Record] = []
        following: str | None = None
        asked = TraceFilter()
        try:
            asked = TraceFilter.model_validate(_grouped(given))
        except ValidationError as error:
            problem = first_problem(error)
        with self._queries.ask() as reader:
            if problem is None:
                found, following = reader.traces(asked)
            services = [record["service_name"] for record in reader.services()]
        return self._renderer.render(
            request,
            "traces.html",
            "/traces",
            422 if problem else 200,
            etag,
            asked=asked,
            attributes=[(f"{ATTRIBUTE_PREFIX}{key}", key, value) for key, value in asked.attributes],
            given=dict(given),
            without=lambda *pair: urlencode([one for one in given if one != pair and one[0] != "cursor"]),
            problem=problem,
            traces=found,
            following=following and urlencode([*(one for one in given if one[0] != "cursor"), ("cursor", following)]),
            services=services,
            hues=fmt.hues(name for trace in found for name in trace["services"]),
        )

    def _open(self, request: Request) -> Response:
        trace_id = request.query_params.get("id", "").strip().lower().replace("-", "")
        return RedirectResponse(f"t/{quote(trace_id[:64])}" if trace_id.isalnum() else "traces", status_code=303)

    def _trace(self, request: Request, trace_id: str) -> Response:
        trace_id = trace_id.lower()
        if not re.fullmatch("[0-9a-f]{32}", trace_id) or trace_id == "0" * 32:
            return self._renderer.error(
                request,
                404,
                f"“{trace_id[:80]}” is not a trace ID. A trace ID is 32 hexadecimal digits, not all of them zero.",
            )
        try:
            view = PageView.model_validate(dict(request.query_params))
        except ValidationError as error:
            return self._renderer.error(request, 422, first_problem(error))
        if (unchanged := self._renderer.unchanged(request)) is not None:
            return unchanged
        etag = self._renderer.etag()
        with self._queries.ask() as reader:
            context = read_page(reader, self._retention.kept, trace_id, view)
            if context is None:
                words = absence(reader, self._retention.kept)
                return self._renderer.render(request, "absent.html", "/traces", 404, trace_id=trace_id, words=words)
        hues = fmt.hues(context["services"])
        return self._renderer.render(
            request, "trace.html", "/traces", 200, etag, trace_id=trace_id, view=view, hues=hues, **context
        )


class SecurityHeaders:
    """What every answer says to browsers: run nothing but our own files, show us in no frame, tell nobody whence."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, with_headers)


_HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def _canonical(given: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The form's one field `KEY=VALUE` as the parameter `attr.KEY`."""
    pairs = []
    for name, value in given:
        key, equals, wanted = value.partition("=")
        pairs.append(
            (f"{ATTRIBUTE_PREFIX}{key.strip()}", wanted.strip()) if name == "attr" and equals else (name, value)
        )
    return [pair for pair in pairs if pair[0] != "attr"]


def _grouped(given: list[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Parameters by name; a repeated attribute as a list."""
    grouped: dict[str, str | list[str]] = {}
    for name, value in given:
        before = grouped.get(name)
        if before is None or not name.startswith(ATTRIBUTE_PREFIX):
            grouped[name] = value
        else:
            grouped[name] = [*([before] if isinstance(before, str) else before), value]
    return grouped
