"""From error to status: one table."""

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from modeltrace.api.responses import ErrorResponse, error_payload, json_response
from modeltrace.errors import (
    BusyError,
    ClientDisconnectedError,
    ForbiddenError,
    InferenceError,
    InvalidFeaturesError,
    InvalidLabelError,
    LabelConflictError,
    LabelStoreUnavailableError,
    MalformedRequestError,
    ModeltraceError,
    RequestTooLargeError,
    UnauthorizedError,
    UnknownPredictionError,
    UnsupportedContentEncodingError,
)
from modeltrace_http.content_coding import SUPPORTED_ENCODINGS

logger = logging.getLogger("modeltrace.api")

STATUS: dict[type[ModeltraceError], tuple[int, str]] = {
    MalformedRequestError: (400, "malformed_request"),
    ClientDisconnectedError: (400, "client_gone"),  # nobody reads it
    UnauthorizedError: (401, "unauthorized"),
    ForbiddenError: (403, "foreign_request"),
    RequestTooLargeError: (413, "request_too_large"),
    UnsupportedContentEncodingError: (415, "unsupported_coding"),
    InvalidFeaturesError: (422, "invalid_features"),
    UnknownPredictionError: (404, "unknown_prediction"),
    LabelConflictError: (409, "label_conflict"),
    InvalidLabelError: (422, "invalid_label"),
    InferenceError: (500, "inference_failed"),
    BusyError: (503, "busy"),
    LabelStoreUnavailableError: (503, "store_unavailable"),
}
HEADERS: dict[type[ModeltraceError], dict[str, str]] = {
    BusyError: {"Retry-After": "1"},  # seconds after which it is worth trying again
    LabelStoreUnavailableError: {"Retry-After": "5"},
    UnsupportedContentEncodingError: {"Accept-Encoding": SUPPORTED_ENCODINGS},
    # A browser asks its user for a password, which is the key.
    UnauthorizedError: {"WWW-Authenticate": 'Bearer, Basic realm="modeltrace"'},
}


def error_body(error: ModeltraceError) -> dict[str, object]:
    """An error as JSON. What the model itself said stays in the log: it may repeat private values."""
    _, kind = STATUS[type(error)]
    if isinstance(error, InvalidFeaturesError):
        violations = [{"feature": v.feature, "reason": v.reason, "message": v.message} for v in error.violations]
        return error_payload(kind, str(error), violations=violations)
    return error_payload(kind, str(error))


def error_response(error: ModeltraceError) -> ErrorResponse:
    """The answer to what Modeltrace raised on purpose; it is logged, too."""
    status, kind = STATUS[type(error)]
    if status == 500:
        logger.error("%s: %s", kind, error, exc_info=error)
    else:
        # The names of features that the model does not have are up to the client: the log does without.
        logger.warning(
            "%s: %s", kind, error.message_without_unknown_names() if isinstance(error, InvalidFeaturesError) else error
        )
    return ErrorResponse(status, error_body(error), HEADERS.get(type(error)))


def internal_error_response(error: Exception) -> ErrorResponse:
    """The answer to what nobody foresaw, without its details; the log has them, under the same trace ID."""
    logger.error("unexpected %s", type(error).__name__, exc_info=error)
    message = "something went wrong inside the service; the trace ID leads to its log"
    return ErrorResponse(500, error_payload("internal_error", message))


async def handle_modeltrace_error(_: Request, error: Exception) -> Response:
    """Answer what Modeltrace raised on purpose."""
    assert isinstance(error, ModeltraceError)  # noqa: S101  registered for that class alone
    status, payload, headers = error_response(error)
    return json_response(payload, status=status, headers=headers)


async def handle_http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown route or a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101  registered for that class alone
    messages = {
        404: f"there is nothing at {request.url.path}; the calls are listed at /docs",
        405: f"{request.url.path} does not take {request.method}",
    }
    kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    message = messages.get(error.status_code, error.detail)
    return json_response(error_payload(kind, message), status=error.status_code, headers=error.headers)


async def handle_unexpected_error(_: Request, error: Exception) -> Response:
    """Answer what nobody foresaw."""
    status, payload, _headers = internal_error_response(error)
    return json_response(payload, status=status)


def add_error_handlers(app: FastAPI) -> None:
    """Register the table."""
    handlers: dict[type[Exception], Any] = {
        ModeltraceError: handle_modeltrace_error,
        HTTPException: handle_http_error,
        Exception: handle_unexpected_error,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
