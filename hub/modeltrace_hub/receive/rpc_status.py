"""Build the `google.rpc.Status` messages that OTLP responses carry on failure."""

from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

RETRY_AFTER_SECONDS: Final = 1


def rpc_status(code: grpc.StatusCode, message: str, *, retry: bool = False) -> Message:
    """Return a `google.rpc.Status`. With `retry`, it has a RetryInfo: the sender sends the request again."""
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
