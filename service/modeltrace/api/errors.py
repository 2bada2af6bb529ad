"""From error to status: one table."""

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from modeltrace.api.responses import Reply, describe_error, reply
from modeltrace.errors import (
    BusyError,
    ClientGoneError,
    ForeignRequestError,
    InferenceError,
    InvalidFeaturesError,
    InvalidLabelError,
    LabelConflictError,
    LabelsAwayError,
    MalformedRequestError,
    ModeltraceError,
    RequestTooLargeError,
    UnauthorizedError,
    UnknownPredictionError,
    UnsupportedCodingRequestError,
)
from modeltrace_http.content_coding import CODINGS

logger = logging.getLogger("modeltrace.api")

STATUS: dict[type[ModeltraceError], tuple[int, str]] = {
    MalformedRequestError: (400, "malformed_request"),
    ClientGoneError: (400, "client_gone"),  # nobody reads it
    UnauthorizedError: (401, "unauthorized"),
    ForeignRequestError: (403, "foreign_request"),
    RequestTooLargeError: (413, "request_too_large"),
    UnsupportedCodingRequestError: (415, "unsupported_coding"),
    InvalidFeaturesError: (422, "invalid_features"),
    UnknownPredictionError: (404, "unknown_prediction"),
    LabelConflictError: (409, "label_conflict"),
    InvalidLabelError: (422, "invalid_label"),
    InferenceError: (500, "inference_failed"),
    BusyError: (503, "busy"),
    LabelsAwayError: (503, "store_away"),
}
HEADERS: dict[type[ModeltraceError], dict[str, str]] = {
    BusyError: {"Retry-After": "1"},  # seconds after which it is worth trying again
    LabelsAwayError: {"Retry-After": "5"},
    UnsupportedCodingRequestError: {"Accept-Encoding": CODINGS},
    # A browser asks its user for a password, which is the key.
    UnauthorizedError: {"WWW-Authenticate": 'Bearer, Basic realm="modeltrace"'},
}


def describe(error: ModeltraceError) -> dict[str, object]:
    """An error as JSON. What the model itself said stays in the log: it may repeat private values."""
    _, kind = STATUS[type(error)]
    if isinstance(error, InvalidFeaturesError):
        violations = [{"feature": v.feature, "reason": v.reason, "message": v.message} for v in error.violations]
        return describe_error(kind, str(error), violations=violations)
    return describe_error(kind, str(error))


def refuse(error: ModeltraceError) -> Reply:
    """The answer to what Modeltrace raised on purpose; it is logged, too."""
    status, kind = STATUS[type(error)]
    if status == 500:
        logger.error("%s: %s", kind, error, exc_info=error)
    else:
        # The names of features that the model does not have are up to the client: the log does without.
        logger.warning("%s: %s", kind, error.of_the_model() if isinstance(error, InvalidFeaturesError) else error)
    return Reply(status, describe(error), HEADERS.get(type(error)))


def excuse(error: Exception) -> Reply:
    """The answer to what nobody foresaw, without its details; the log has them, under the same trace ID."""
    logger.error("unexpected %s", type(error).__name__, exc_info=error)
    message = "something went wrong inside the service; the trace ID leads to its log"
    return Reply(500, describe_error("internal_error", message))


async def on_refusal(_: Request, error: Exception) -> Response:
    """Answer what Modeltrace raised on purpose."""
    assert isinstance(error, ModeltraceError)  # noqa: S101  registered for that class alone
    status, payload, headers = refuse(error)
    return reply(payload, status=status, headers=headers)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown route or a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101  registered for that class alone
    messages = {
        404: f"there is nothing at {request.url.path}; the calls are listed at /docs",
        405: f"{request.url.path} does not take {request.method}",
    }
    kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    message = messages.get(error.status_code, error.detail)
    return reply(describe_error(kind, message), status=error.status_code, headers=error.headers)


async def on_bug(_: Request, error: Exception) -> Response:
    """Answer what nobody foresaw."""
    status, payload, _headers = excuse(error)
    return reply(payload, status=status)


def add_error_handlers(app: FastAPI) -> None:
    """Register the table."""
    handlers: dict[type[Exception], Any] = {
        ModeltraceError: on_refusal,
        HTTPException: on_http_error,
        Exception: on_bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
