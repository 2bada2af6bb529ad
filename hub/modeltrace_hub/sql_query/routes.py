"""The API call that runs a query of a user, and the query parameters of the call and of the page."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from modeltrace_hub.queries.filters import TimeRangeFilter
from modeltrace_hub.sql_query.results import report_unexpected_errors, to_csv, to_json, to_parquet
from modeltrace_hub.sql_query.runner import MAX_QUERY_LENGTH, MAX_ROWS, Cancellation, QueryResult, SqlRunner

DISCONNECT_INTERVAL_SECONDS: Final = 0.25


class SqlQuery(TimeRangeFilter):
    """The parameters of a SQL query."""

    q: str = Field("", max_length=MAX_QUERY_LENGTH, description="One SELECT statement over the views.")
    limit: int = Field(1000, ge=1, le=MAX_ROWS, description="The maximum number of rows.")


class SqlRequest(SqlQuery):
    """The parameters of the API call."""

    q: str = Field(min_length=1, max_length=MAX_QUERY_LENGTH, description="One SELECT statement over the views.")
    format: Literal["json", "csv", "parquet"] = Field("json", description="The format of the response.")


@dataclass(frozen=True, slots=True)
class _Format:
    media_type: str
    encode: Callable[[QueryResult], bytes]


_FORMATS: Final[Mapping[str, _Format]] = {
    "json": _Format("application/json", lambda result: orjson.dumps(to_json(result))),
    "csv": _Format("text/csv; charset=utf-8", to_csv),
    "parquet": _Format("application/vnd.apache.parquet", to_parquet),
}


def sql_router(runner: SqlRunner) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/api/sql", response_class=Response)
    async def sql(request: Request, query: Annotated[SqlRequest, Query()]) -> Response:
        """Run one SELECT statement over the views of `GET /api/sql/views`. It ends when the client disconnects."""
        result = await run_until_disconnect(request, runner, query)
        headers = {"Cache-Control": "no-store"}
        if query.format != "json":
            headers["Content-Disposition"] = f'attachment; filename="query.{query.format}"'
            if result.truncated:
                headers["X-Truncated"] = "true"
        format_ = _FORMATS[query.format]
        with report_unexpected_errors():
            content = await asyncio.to_thread(format_.encode, result)
        return Response(content, headers=headers, media_type=format_.media_type)

    @router.get("/api/sql/views", response_class=Response)
    def views() -> Response:
        """Return the columns of the views, with their types."""
        return Response(orjson.dumps({"views": runner.views}), media_type="application/json")

    return router


async def run_until_disconnect(request: Request, runner: SqlRunner, query: SqlQuery) -> QueryResult:
    """Run a query in a worker thread. Cancel it if the client disconnects.

    Raises:
        InvalidQueryError: the query is invalid.
        QueryTimeoutError: the query took too long, or the client has disconnected.
        ReadersBusyError: too many queries run.
    """
    cancellation = Cancellation()
    time_range: dict[str, Any] = query.time_range
    running = asyncio.ensure_future(
        asyncio.to_thread(runner.run, query.q, **time_range, max_rows=query.limit, cancellation=cancellation)
    )
    try:
        while not (await asyncio.wait([running], timeout=DISCONNECT_INTERVAL_SECONDS))[0]:
            if await request.is_disconnected():
                cancellation.cancel()
        return running.result()
    finally:
        cancellation.cancel()
