"""The API call that runs a query of a user, and the query parameters of the call and of the page."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal

import orjson
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from modeltrace_hub.errors import ReadersBusyError
from modeltrace_hub.queries.list_parameters import TimeRangeFilter
from modeltrace_hub.sql_query.results import report_unexpected_errors, to_csv, to_json, to_parquet
from modeltrace_hub.sql_query.runner import (
    MAX_CONCURRENT,
    MAX_QUERY_LENGTH,
    MAX_ROWS,
    Cancellation,
    QueryResult,
    SqlRunner,
)

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


class SqlQueue:
    """Run the queries of all requests, at most `MAX_CONCURRENT` at the same time.

    The others wait in the event loop. They hold no thread, so requests that are no SQL queries do not wait for them.
    """

    def __init__(self, runner: SqlRunner) -> None:
        self.runner = runner
        self._slots = CapacityLimiter(MAX_CONCURRENT)

    async def run_until_disconnect(self, request: Request, query: SqlQuery) -> QueryResult:
        """Run a query in a worker thread. Cancel it if the client disconnects.

        Raises:
            InvalidQueryError: the query is invalid.
            QueryTimeoutError: the query took too long, or the client has disconnected.
            ReadersBusyError: too many queries run.
        """
        cancellation = Cancellation()
        running = asyncio.ensure_future(self._run(query, cancellation))
        try:
            while not (await asyncio.wait([running], timeout=DISCONNECT_INTERVAL_SECONDS))[0]:
                if await request.is_disconnected():
                    cancellation.cancel()
            return running.result()
        finally:
            cancellation.cancel()
            running.cancel()  # it may not have started yet

    async def _run(self, query: SqlQuery, cancellation: Cancellation) -> QueryResult:
        borrower = object()
        try:
            await asyncio.wait_for(self._slots.acquire_on_behalf_of(borrower), self.runner.timeout)
        except TimeoutError:
            raise ReadersBusyError(f"{MAX_CONCURRENT} other SQL queries are running. Try again in a moment.") from None
        try:
            time_range: dict[str, Any] = query.time_range
            run = partial(self.runner.run, query.q, **time_range, max_rows=query.limit, cancellation=cancellation)
            # A limiter of its own: the query takes none of the threads that other requests share.
            return await to_thread.run_sync(run, limiter=CapacityLimiter(1))
        finally:
            self._slots.release_on_behalf_of(borrower)


def sql_router(queue: SqlQueue) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/api/sql", response_class=Response)
    async def sql(request: Request, query: Annotated[SqlRequest, Query()]) -> Response:
        """Run one SELECT statement over the views of `GET /api/sql/views`. It ends when the client disconnects."""
        result = await queue.run_until_disconnect(request, query)
        headers = {"Cache-Control": "no-store"}
        if query.format != "json":
            headers["Content-Disposition"] = f'attachment; filename="query.{query.format}"'
            if result.truncated:
                headers["X-Truncated"] = "true"
        format_ = _FORMATS[query.format]
        with report_unexpected_errors():
            content = await to_thread.run_sync(format_.encode, result)
        return Response(content, headers=headers, media_type=format_.media_type)

    @router.get("/api/sql/views", response_class=Response)
    def views() -> Response:
        """Return the columns of the views, with their types."""
        return Response(orjson.dumps({"views": queue.runner.views}), media_type="application/json")

    return router
