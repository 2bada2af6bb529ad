"""The API calls and the page that write and open archives."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import UploadFile

from modeltrace_hub.archive.reader import ImportedFile, import_file
from modeltrace_hub.archive.selection import ArchiveFilter, select_telemetry
from modeltrace_hub.archive.writer import build_archive
from modeltrace_hub.error_status import error_status
from modeltrace_hub.errors import MalformedError, PermanentError, TooLargeError
from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.web.rendering import Renderer
from modeltrace_hub.writer import Writer

MAX_UPLOAD_BYTES: Final = 64 * 2**20


class ArchiveRoutes:
    """Write archives of stored telemetry, and store that of files."""

    def __init__(self, renderer: Renderer, queries: Queries, writer: Writer, settings: HubSettings) -> None:
        self._renderer = renderer
        self._queries = queries
        self._import = partial(import_file, writer=writer, max_request_bytes=settings.max_request_bytes)

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/api/archive", self._download, response_class=Response)
        router.add_api_route("/api/archive", self._upload, methods=["POST"], response_class=Response)
        router.add_api_route("/open", self._page, include_in_schema=False, response_class=HTMLResponse)
        router.add_api_route(
            "/open", self._open, methods=["POST"], include_in_schema=False, response_class=HTMLResponse
        )
        return router

    def _download(self, filters: Annotated[ArchiveFilter, Query()]) -> Response:
        """Return an archive (zip) of traces (`trace_id`, may be repeated), or of a time range (`since`, `until`)."""
        with self._queries.open_reader() as reader:
            selection = select_telemetry(reader, filters)
        name = f"trace-{filters.trace_id[0].lower()}" if len(filters.trace_id) == 1 else "telemetry"
        headers = {"Content-Disposition": f'attachment; filename="{name}.zip"', "Cache-Control": "no-store"}
        return Response(build_archive(selection), headers=headers, media_type="application/zip")

    async def _upload(self, request: Request) -> Response:
        """Store the telemetry of a file, which is the body: an archive, OTLP/JSON lines, or JSON of Jaeger."""
        _check_length(request.headers)
        imported = await asyncio.to_thread(self._import, await request.body())
        answer = {
            "stored": imported.counts,
            "rejected": imported.rejected,
            "trace_ids": sorted(imported.trace_ids)[:1000],
        }
        return Response(orjson.dumps(answer), media_type="application/json")

    def _page(self, request: Request) -> Response:
        return self._renderer.render(request, "open.html", "/open", problem=None)

    async def _open(self, request: Request) -> Response:
        try:
            _check_length(request.headers)
            async with request.form(max_files=1, max_fields=1) as form:
                file = form.get("file")
                content = await file.read() if isinstance(file, UploadFile) else b""
            if not content:
                raise MalformedError("Choose a file that is not empty.")
            imported = await asyncio.to_thread(self._import, content)
        except PermanentError as error:
            return self._renderer.render(request, "open.html", "/open", error_status(error).http, problem=str(error))
        return RedirectResponse(page_of(imported), status_code=303)


def page_of(imported: ImportedFile) -> str:
    """Return the page that shows the telemetry of a file, relative to the overview."""
    if len(imported.trace_ids) == 1:
        return f"t/{next(iter(imported.trace_ids))}"
    return "traces" if imported.trace_ids else "logs" if imported.counts["logs"] else "."


def _check_length(headers: Mapping[str, str]) -> None:
    """Check the length of the body before it is read.

    Raises:
        TooLargeError: it is too long.
        MalformedError: it is not known.
    """
    length = headers.get("content-length", "")
    if not length.isdecimal():
        raise MalformedError("The request has no Content-Length.")
    if int(length) > MAX_UPLOAD_BYTES:
        raise TooLargeError(
            f"The file has more than {MAX_UPLOAD_BYTES // 2**20} MiB. Open it with modeltrace-hub open FILE."
        )
