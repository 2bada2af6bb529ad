"""Build the `google.rpc.Status` messages that OTLP responses carry on failure."""

from typing import Any

import grpc
from google.protobuf.any import pack
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from modeltrace_hub.error_status import RETRY_AFTER_SECONDS


def rpc_status(code: grpc.StatusCode, message: str, *, retry: bool = False) -> Message:
    """Return a `google.rpc.Status`. With `retry`, it has a RetryInfo: the sender sends the request again."""
    details = [pack(RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER_SECONDS)))] if retry else []
    number: Any = code.value[0]
    result: Message = Status(code=number, message=message, details=details)
    return result
