"""How a page is made: its template, what every template can do, and the tag that says whether it has changed."""

import secrets
import time
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ValidationError

from modeltrace_hub.queries.stats import Stats
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web import histogram_chart

# What is in the navigation, in its order.
PAGES: Final = (("/", "Overview"), ("/models", "Models"), ("/traces", "Traces"))


class Renderer:
    """Renders pages, and answers browsers that have the newest one already."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._run = secrets.token_hex(4)
        self._templates = _environment()

    def etag(self) -> str:
        """Stands for all that is stored; taken before the store is asked, so that it is never too new."""
        return f'W/"{self._run}-{self._stats.generation}"'

    def unchanged(self, request: Request) -> Response | None:
        """The answer to a browser that has this already."""
        if request.headers.get("if-none-match") == self.etag():
            return Response(status_code=304)
        return None

    def render(
        self,
        request: Request,
        template: str,
        here: str,
        status_code: int = 200,
        etag: str | None = None,
        **context: Any,  # noqa: ANN401  what a template takes differs
    ) -> Response:
        """The page; `here` is the place in the navigation."""
        html = self._templates.get_template(template).render(
            root=_root(request), here=here, pages=PAGES, now_ns=time.time_ns(), **context
        )
        headers = {"Cache-Control": "no-cache"} | ({"ETag": etag} if etag else {})
        return HTMLResponse(html, status_code, headers)

    def error(self, request: Request, status_code: int, message: str) -> Response:
        """A page that says what went wrong."""
        return self.render(request, "error.html", "", status_code, message=message)


def first_problem(error: ValidationError) -> str:
    """What is wrong with parameters, for a person."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = f"{first['loc'][0]}: " if first["loc"] else ""
    return name + str(first["msg"]).removeprefix("Value error, ")


def _root(request: Request) -> str:
    """The relative way from a page to the hub's root: links made with it work below any path of a proxy."""
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    below = path.count(b"/") - request.scope.get("root_path", "").rstrip("/").count("/") - 1
    return "../" * below or "./"


def _environment() -> Environment:
    """Templates, everything in them escaped."""
    environment = Environment(
        loader=PackageLoader("modeltrace_hub", "web/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_shown_or_dash,
    )
    names = (
        *(
            "age",
            "breakable",
            "clock",
            "duration",
            "exact",
            "lasted",
            "machine",
            "measure",
            "number",
            "percent",
            "plural",
        ),
        *("share", "shown", "size", "span_of", "violated"),
    )
    environment.filters |= {name: getattr(fmt, name) for name in names}
    environment.filters |= {"with": _with, "without": _without}
    environment.globals["draw"] = histogram_chart.draw
    return environment


def _shown_or_dash(value: Any) -> Any:  # noqa: ANN401  whatever a template writes
    """Write a dash for what a record does not say."""
    return "\N{EN DASH}" if value is None else value


def _with(view: BaseModel, **changes: object) -> str:
    """The query string of the page with something else open."""
    return urlencode(view.model_copy(update=changes).model_dump(exclude_defaults=True))


def _without(items: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: item for key, item in items.items() if key not in keys}
