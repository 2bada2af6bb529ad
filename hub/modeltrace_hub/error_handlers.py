"""Answer failed requests of the page port: with JSON in the API, with a page elsewhere."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from modeltrace_hub.error_status import error_status
from modeltrace_hub.errors import HubError
from modeltrace_hub.json_responses import json_response
from modeltrace_hub.queries.parameters import describe_invalid_parameter
from modeltrace_hub.web.rendering import Renderer

logger = logging.getLogger(__name__)


def add_error_handlers(app: FastAPI, renderer: Renderer) -> None:
    """Add the handlers of all exceptions."""

    def respond(request: Request, status: int, type_: str, message: str, **details: str) -> Response:
        if request.url.path.startswith("/api/") or request.url.path == "/healthz":
            return json_response({"error": {"type": type_, "message": message, **details}}, status)
        return renderer.error(request, status, message)

    @app.exception_handler(Exception)
    async def on_internal_error(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return respond(request, 500, "internal", "Internal error. The log of the hub has the details.")

    @app.exception_handler(RequestValidationError)
    async def on_invalid_parameter(request: Request, error: RequestValidationError) -> Response:
        parameter, message = describe_invalid_parameter(error.errors()[0])
        return respond(request, 422, "invalid_parameter", message, **({"parameter": parameter} if parameter else {}))

    @app.exception_handler(StarletteHTTPException)
    async def on_http_error(request: Request, error: StarletteHTTPException) -> Response:
        types = {404: "not_found", 405: "method_not_allowed"}
        response = respond(request, error.status_code, types.get(error.status_code, "error"), str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(HubError)
    async def on_hub_error(request: Request, error: HubError) -> Response:
        status = error_status(error)
        if status.http == 500:
            return await on_internal_error(request, error)
        response = respond(request, status.http, status.type, str(error))
        response.headers.update(status.headers)
        return response
