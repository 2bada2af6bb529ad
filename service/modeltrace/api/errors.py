"""Map errors to HTTP responses: one table, searched along the class hierarchy of the error."""

import logging
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from modeltrace.api.protocol_errors import ErrorResponse, protocol_response
from modeltrace.api.request_target import route_path
from modeltrace.api.responses import error_payload, json_response
from modeltrace.errors import (
    AmbiguousIdError,
    BusyError,
    ClientDisconnectedError,
    ForbiddenError,
    InferenceError,
    InvalidFeaturesError,
    InvalidLabelError,
    InvalidRowError,
    LabelConflictError,
    LabelStoreUnavailableError,
    MalformedRequestError,
    ModeltraceError,
    RateLimitedError,
    RequestError,
    RequestTooLargeError,
    UnauthorizedError,
    UnknownModelError,
    UnknownPredictionError,
    UnsupportedContentEncodingError,
    UnsupportedContentTypeError,
)
from modeltrace_http.content_coding import SUPPORTED_ENCODINGS

logger = logging.getLogger("modeltrace.api")

T = TypeVar("T")


class ErrorSpec(NamedTuple):
    """How the API reports a class of errors."""

    status: int
    error_type: str
    headers: Mapping[str, str] = {}


ERROR_SPECS: Final[Mapping[type[BaseException], ErrorSpec]] = {
    RequestError: ErrorSpec(400, "invalid_request"),
    MalformedRequestError: ErrorSpec(400, "malformed_request"),
    ClientDisconnectedError: ErrorSpec(400, "client_disconnected"),  # no client reads it
    # `Basic`: a browser asks the user for a password; the password is the API key.
    UnauthorizedError: ErrorSpec(401, "unauthorized", {"WWW-Authenticate": 'Bearer, Basic realm="modeltrace"'}),
    ForbiddenError: ErrorSpec(403, "forbidden"),
    UnknownModelError: ErrorSpec(404, "unknown_model"),
    UnknownPredictionError: ErrorSpec(404, "unknown_prediction"),
    LabelConflictError: ErrorSpec(409, "label_conflict"),
    AmbiguousIdError: ErrorSpec(409, "ambiguous_id"),
    RequestTooLargeError: ErrorSpec(413, "request_too_large"),
    UnsupportedContentEncodingError: ErrorSpec(415, "unsupported_encoding", {"Accept-Encoding": SUPPORTED_ENCODINGS}),
    UnsupportedContentTypeError: ErrorSpec(415, "unsupported_content_type"),
    InvalidFeaturesError: ErrorSpec(422, "invalid_features"),
    InvalidRowError: ErrorSpec(422, "invalid_features"),
    InvalidLabelError: ErrorSpec(422, "invalid_label"),
    RateLimitedError: ErrorSpec(429, "rate_limited"),
    InferenceError: ErrorSpec(500, "inference_failed"),
    BusyError: ErrorSpec(503, "busy", {"Retry-After": "1"}),  # seconds
    LabelStoreUnavailableError: ErrorSpec(503, "store_unavailable", {"Retry-After": "5"}),
}
UNEXPECTED: Final = ErrorSpec(500, "internal_error")


def find_by_class(table: Mapping[type[BaseException], T], error: BaseException, default: T) -> T:
    """Return the entry of the closest class in the error's class hierarchy that the table lists."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), default)


def error_body(error: Exception) -> dict[str, object]:
    """Describe an error as JSON.

    The body omits the model's own error message and the details of unexpected errors, since both may contain private
    values. The log has them.
    """
    spec = find_by_class(ERROR_SPECS, error, UNEXPECTED)
    if spec is UNEXPECTED:
        return error_payload(spec.error_type, "something went wrong inside the service; the trace ID leads to its log")
    if isinstance(error, InvalidFeaturesError):
        violations = [{"feature": v.feature, "reason": v.reason, "message": v.message} for v in error.violations]
        return error_payload(spec.error_type, str(error), violations=violations)
    return error_payload(spec.error_type, str(error))


def error_response(error: Exception, path: str = "") -> ErrorResponse:
    """Log an error and return its response, in the form of the protocol to which the path belongs."""
    spec = find_by_class(ERROR_SPECS, error, UNEXPECTED)
    if spec is UNEXPECTED:
        logger.error("unexpected %s", type(error).__name__, exc_info=error)
    elif isinstance(error, RateLimitedError):  # not logged, because there may be any number; a metric counts them
        spec = spec._replace(headers={"Retry-After": str(error.retry_after)})
    elif spec.status == 500:
        logger.error("%s: %s", spec.error_type, error, exc_info=error)
    else:
        # The client chooses the names of unknown features, so the log omits them.
        known = error.message_without_unknown_names() if isinstance(error, InvalidFeaturesError) else error
        logger.warning("%s: %s", spec.error_type, known)
    return protocol_response(ErrorResponse(spec.status, error_body(error), spec.headers), path)


async def handle_error(request: Request, error: Exception) -> Response:
    """Answer any exception that a route raises."""
    status, payload, headers = error_response(error, route_path(request.scope))
    return json_response(payload, status=status, headers=headers)


async def handle_http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown path or an unsupported method."""
    assert isinstance(error, HTTPException)  # noqa: S101  registered for that class alone
    messages = {
        404: f"there is nothing at {request.url.path}; the calls are listed at /docs",
        405: f"{request.url.path} does not take {request.method}",
    }
    kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    message = messages.get(error.status_code, error.detail)
    response = ErrorResponse(error.status_code, error_payload(kind, message), error.headers or {})
    status, payload, headers = protocol_response(response, route_path(request.scope))
    return json_response(payload, status=status, headers=headers)


def add_error_handlers(app: FastAPI) -> None:
    """Register the handlers.

    Starlette raises an error again after the handler of `Exception`, so the server logs it too.
    """
    app.add_exception_handler(ModeltraceError, handle_error)
    app.add_exception_handler(HTTPException, handle_http_error)
    app.add_exception_handler(Exception, handle_error)
