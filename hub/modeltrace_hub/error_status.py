"""Map exceptions to HTTP status, gRPC status and error type, for OTLP, the API and the pages."""

from dataclasses import dataclass
from typing import Final

import grpc

from modeltrace_hub import errors

# When a sender may send a request again after a retryable error.
RETRY_AFTER_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """The status of a response to a failed request. `type` is the error type in JSON and in counts of failures."""

    http: int
    grpc: grpc.StatusCode
    type: str

    @property
    def headers(self) -> dict[str, str]:
        """The extra headers of the response."""
        return _HEADERS.get(self.http, {})


_STATUSES: Final[dict[type[BaseException], ErrorStatus]] = {
    errors.PermanentError: ErrorStatus(400, grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
    errors.MalformedError: ErrorStatus(400, grpc.StatusCode.INVALID_ARGUMENT, "malformed"),
    errors.UnstorableError: ErrorStatus(400, grpc.StatusCode.INVALID_ARGUMENT, "unstorable"),
    errors.InvalidQueryError: ErrorStatus(422, grpc.StatusCode.INVALID_ARGUMENT, "invalid_query"),
    errors.UnauthorizedError: ErrorStatus(401, grpc.StatusCode.UNAUTHENTICATED, "unauthorized"),
    errors.ForbiddenOriginError: ErrorStatus(403, grpc.StatusCode.PERMISSION_DENIED, "forbidden"),
    errors.TooLargeError: ErrorStatus(413, grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large"),
    errors.UnsupportedMediaTypeError: ErrorStatus(415, grpc.StatusCode.INVALID_ARGUMENT, "unsupported"),
    errors.RetryableError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "unavailable"),
    errors.BusyError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "busy"),
    errors.RequestTimeoutError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "request_timeout"),
    errors.QueueFullError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "queue_full"),
    errors.WriteFailedError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "write_failed"),
    errors.ShuttingDownError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "shutting_down"),
    errors.StoreError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "store_failed"),
    errors.QueryTimeoutError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "timeout"),
    errors.ReadersBusyError: ErrorStatus(503, grpc.StatusCode.UNAVAILABLE, "timeout"),
}
_HEADERS: Final[dict[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    503: {"Retry-After": str(RETRY_AFTER_SECONDS)},
}
_INTERNAL: Final = ErrorStatus(500, grpc.StatusCode.INTERNAL, "internal")


def error_status(error: BaseException) -> ErrorStatus:
    """Return the status of the most specific class of an exception; 500 / INTERNAL if no class has one."""
    return next((_STATUSES[cls] for cls in type(error).__mro__ if cls in _STATUSES), _INTERNAL)
