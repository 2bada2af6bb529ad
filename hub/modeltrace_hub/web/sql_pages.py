"""Serve the page `/sql`: a query, its result as a table and a chart, and the columns of the views."""

import re
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError

from modeltrace_hub.error_status import error_status
from modeltrace_hub.errors import HubError
from modeltrace_hub.queries.parameters import describe_invalid_parameter
from modeltrace_hub.sql_query.results import report_unexpected_errors, to_rows
from modeltrace_hub.sql_query.routes import SqlQuery, SqlQueue
from modeltrace_hub.sql_query.runner import MAX_ROWS
from modeltrace_hub.web.rendering import Renderer
from modeltrace_hub.web.sql_chart import draw_chart

ROWS_ON_PAGE: Final = 1000
TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_MAX_LINE: Final = 40
EXAMPLES: Final = {
    "Requests and durations by name": """\
SELECT name, count(*) AS requests, round(median(duration_ms), 2) AS median_ms,
       round(quantile_cont(duration_ms, 0.99), 2) AS p99_ms
FROM spans WHERE kind = 'SERVER'
GROUP BY name ORDER BY requests DESC""",
    "Traces per minute": """\
SELECT time_bucket(INTERVAL 1 MINUTE, time) AS minute, count(*) AS traces,
       count(*) FILTER (error_count > 0) AS failed
FROM traces GROUP BY minute ORDER BY minute""",
    "Values of an attribute": """\
SELECT attributes ->> 'http.response.status_code' AS code, count(*) AS spans
FROM spans WHERE kind = 'SERVER'
GROUP BY code ORDER BY spans DESC""",
    "Logs of slow traces": """\
SELECT t.trace_id, t.duration_ms, l.severity, l.body
FROM traces t JOIN logs l USING (trace_id)
WHERE t.duration_ms > 100 ORDER BY t.duration_ms DESC LIMIT 50""",
}


class SqlPages:
    """The route of the page `/sql`."""

    def __init__(self, renderer: Renderer, queue: SqlQueue) -> None:
        self._renderer = renderer
        self._queue = queue

    def router(self) -> APIRouter:
        """Return the route."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/sql", self._sql)
        return router

    async def _sql(self, request: Request) -> Response:
        parameters = {key: value for key, value in request.query_params.multi_items() if value}
        result = problem = chart = None
        rows: list[list[Any]] = []
        status = 200
        # A link on a page of another site fills the form in, but it does not run the query.
        foreign = request.headers.get("sec-fetch-site") == "cross-site"
        try:
            query = SqlQuery.model_validate({"limit": ROWS_ON_PAGE, **parameters})
            if query.q and not foreign:
                answer = await self._queue.run_until_disconnect(request, query)
                with report_unexpected_errors():
                    rows, chart = to_rows(answer)[:ROWS_ON_PAGE], draw_chart(answer)
                result = answer
        except ValidationError as error:
            name, problem = describe_invalid_parameter(error.errors()[0])
            problem = problem.replace("q: ", "SQL: ", 1) if name == "q" else problem
            status = 422
        except HubError as error:
            problem, status = str(error), error_status(error).http
        lasting = {key: value for key, value in parameters.items() if key in {"q", "since", "until"}}
        return self._renderer.render(
            request,
            "sql.html",
            "/sql",
            status,
            parameters=parameters,
            problem=problem,
            result=result,
            rows=rows,
            chart=chart,
            download=lambda format_: urlencode({**lasting, "limit": MAX_ROWS, "format": format_}),
            cell_class=_cell_class,
            is_trace_id=lambda value: isinstance(value, str) and TRACE_ID.fullmatch(value) is not None,
            timeout=self._queue.runner.timeout,
            views=self._queue.runner.views,
            shown_query=parameters.get("q") or next(iter(EXAMPLES.values())),
            examples={title: urlencode({"q": sql}) for title, sql in EXAMPLES.items()},
            foreign=foreign and bool(parameters.get("q")),
        )


def _cell_class(value: object) -> str:
    """Return the class of a cell. Numbers and short texts, such as times and IDs, stay on one line."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "numeric"
    return "sql-line" if isinstance(value, str) and len(value) <= _MAX_LINE else "sql-text"
