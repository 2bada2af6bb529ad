"""What senders are told of an error: one table, and the messages of `google.rpc` that OTLP answers with."""

from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from modeltrace_hub.errors import (
    ForeignRequestError,
    HubError,
    MalformedError,
    RetryableError,
    TooLargeError,
    UnauthorizedError,
    UnstorableError,
    UnsupportedError,
)

RETRY_AFTER_SECONDS: Final = 1

# HTTP status and gRPC code of each error; the first that fits.
_TABLE: Final[tuple[tuple[type[HubError], int, grpc.StatusCode], ...]] = (
    (MalformedError, 400, grpc.StatusCode.INVALID_ARGUMENT),
    (UnstorableError, 400, grpc.StatusCode.INVALID_ARGUMENT),
    (UnauthorizedError, 401, grpc.StatusCode.UNAUTHENTICATED),
    (ForeignRequestError, 403, grpc.StatusCode.PERMISSION_DENIED),
    (TooLargeError, 413, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnsupportedError, 415, grpc.StatusCode.INVALID_ARGUMENT),
    (RetryableError, 503, grpc.StatusCode.UNAVAILABLE),
)


def codes(error: HubError) -> tuple[int, grpc.StatusCode]:
    """The HTTP status and the gRPC code of an error."""
    return next((http, code) for type_, http, code in _TABLE if isinstance(error, type_))


def status(code: grpc.StatusCode, message: str, *, retry: bool = False) -> Message:
    """A `google.rpc.Status`; with a RetryInfo when the same may be sent again."""
    details = []
    if retry:
        info = RetryInfo()
        info.retry_delay.seconds = RETRY_AFTER_SECONDS
        detail = AnyMessage()
        detail.Pack(info)
        details.append(detail)
    number: Any = code.value[0]
    result: Message = Status(code=number, message=message, details=details)
    return result
