"""Map exceptions to HTTP status, gRPC status and error type, for OTLP, the API and the pages."""

from dataclasses import dataclass
from typing import Final

import grpc

from modeltrace_hub.errors import (
    BusyError,
    ForbiddenOriginError,
    MalformedError,
    PermanentError,
    QueryTimeoutError,
    QueueFullError,
    ReadersBusyError,
    RequestTimeoutError,
    RetryableError,
    ShuttingDownError,
    StoreError,
    TooLargeError,
    UnauthorizedError,
    UnstorableError,
    UnsupportedMediaTypeError,
    WriteFailedError,
)


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """How a response reports an exception. `type` is the error type in JSON and in counts of failed requests."""

    http: int
    grpc: grpc.StatusCode
    type: str


_STATUSES: Final[dict[type[BaseException], ErrorStatus]] = {
    PermanentError: ErrorStatus(400, grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
    MalformedError: ErrorStatus(400, grpc.StatusCode.INVALID_ARGUMENT, "malformed"),
    UnstorableError: ErrorStatus(400, grpc.StatusCode.INVALID_ARGUMENT, "unstorable"),
    UnauthorizedError: ErrorStatus(401, grpc.StatusCode.UNAUTHENTICATED, "unauthorized"),
    ForbiddenOriginError: ErrorStatus(403, grpc.StatusCode.PERMISSION_DENIED, "forbidden"),
    TooLargeError: ErrorStatus(413, grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large"),
    UnsupportedMediaTypeError: ErrorStatus(415, grpc.StatusCode.INVALID_ARGUMENT, "unsupported"),
    RetryableError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "unavailable"),
    BusyError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "busy"),
    RequestTimeoutError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "request_timeout"),
    QueueFullError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "queue_full"),
    WriteFailedError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "write_failed"),
    ShuttingDownError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "shutting_down"),
    StoreError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "store_failed"),
    QueryTimeoutError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "timeout"),
    ReadersBusyError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "timeout"),
}
_INTERNAL: Final = ErrorStatus(500, grpc.StatusCode.INTERNAL, "internal")


def error_status(error: BaseException) -> ErrorStatus:
    """Return the status of the most specific class of an exception; 500 / INTERNAL if no class has one."""
    return next((_STATUSES[cls] for cls in type(error).__mro__ if cls in _STATUSES), _INTERNAL)
