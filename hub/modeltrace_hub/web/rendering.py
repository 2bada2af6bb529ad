"""Render pages from templates. Their ETag changes when the stored data changes."""

import secrets
import time
from collections.abc import Callable
from functools import partial
from inspect import getmembers, isfunction
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel

from modeltrace_hub.queries.filter_fields import suggest_fields
from modeltrace_hub.queries.filter_line import format_condition
from modeltrace_hub.queries.list_fields import TRACE_FIELDS
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web import histogram_chart
from modeltrace_hub.web.filter_form import attribute_name
from modeltrace_hub.web.model_charts import deciding_statistic
from modeltrace_hub.web.time_range import CHOICES, read_time_range
from modeltrace_hub.web.ucum import unit_name
from modeltrace_hub.writer import Writer

# The entries of the navigation.
NAVIGATION: Final = (
    ("/", "Overview"),
    ("/models", "Models"),
    ("/traces", "Traces"),
    ("/logs", "Logs"),
    ("/metrics", "Metrics"),
    ("/services", "Services"),
    ("/sql", "SQL"),
)


class Renderer:
    """Render pages, or answer 304 if the browser already has the current page."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._run_id = secrets.token_hex(4)
        self._templates = _create_environment()

    def respond(self, request: Request, build: Callable[[], Response]) -> Response:
        """Return the page that `build` queries and renders, or 304 if the browser already has it.

        The ETag is that of the stored data before the queries, so that no ETag is newer than its data. A page of
        something that is not stored has none.
        """
        etag = f'W/"{self._run_id}-{self._writer.generation}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304)
        request.state.version = etag
        response = build()
        if response.status_code != 404:
            response.headers["ETag"] = etag
        return response

    def render(
        self,
        request: Request,
        template: str,
        current_page: str,
        status_code: int = 200,
        **context: Any,  # noqa: ANN401  templates take different variables
    ) -> Response:
        """Render a template. `current_page` is its path in the navigation."""
        html = self._templates.get_template(template).render(
            root=_root_path(request),
            current_page=current_page,
            navigation=NAVIGATION,
            now_ns=time.time_ns(),
            time_range=read_time_range(request.query_params),
            range_choices=CHOICES,
            version=getattr(request.state, "version", ""),
            **context,
        )
        return HTMLResponse(html, status_code, {"Cache-Control": "no-cache"})

    def root(self, request: Request) -> str:
        """Return the relative path from a page to the hub's root."""
        return _root_path(request)

    def error(self, request: Request, status_code: int, message: str) -> Response:
        """Render the error page."""
        return self.render(request, "error.html", "", status_code, message=message)


def _root_path(request: Request) -> str:
    """Return the relative path from a page to the hub's root, so that links work below any path of a proxy."""
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    depth = path.count(b"/") - request.scope.get("root_path", "").rstrip("/").count("/") - 1
    return "../" * depth or "./"


def _create_environment() -> Environment:
    """Return the template environment, with autoescaping. The functions of `modeltrace_hub.web.format` are filters."""
    environment = Environment(
        loader=PackageLoader("modeltrace_hub", "web/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_none_to_dash,
    )
    environment.filters |= dict(getmembers(fmt, isfunction))
    environment.filters |= {"query_with": _query_with, "without": _without, "condition": _condition}
    environment.filters["suggest_fields"] = suggest_fields
    environment.filters |= {"unit_name": unit_name, "deciding_statistic": deciding_statistic}
    environment.globals["trace_attribute"] = partial(attribute_name, TRACE_FIELDS)
    environment.globals["draw_histogram"] = histogram_chart.draw_histogram
    return environment


def _none_to_dash(value: Any) -> Any:  # noqa: ANN401  any value of a template
    """Render None as a dash."""
    return "\N{EN DASH}" if value is None else value


def _query_with(view: BaseModel, **changes: object) -> str:
    """Return the query string of the page with some parameters changed."""
    return urlencode(view.model_copy(update=changes).model_dump(exclude_defaults=True))


def _condition(value: str, field: str, operator: str = "=") -> str:
    """Return the text of a condition for a filter line."""
    return format_condition(field, operator, value)


def _without(items: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: item for key, item in items.items() if key not in keys}
