"""Decode OTLP requests as the hub does, without limits, and invert the conversion of values."""

import base64
import math
import sys

from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from modeltrace_hub.decode.batch import Batch, Problems
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.values import Json
from modeltrace_hub.receive.signals import SIGNALS
from tests.helpers.otlp_values import any_value

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def unlimited() -> Budget:
    """Return a budget without limits."""
    return Budget(sys.maxsize, sys.maxsize, sys.maxsize)


def decode(request: Message, received_ns: int, size: int = 0, problems: Problems | None = None) -> Batch:
    """Decode a request of any signal into rows."""
    (signal,) = (signal for signal in SIGNALS if isinstance(request, signal.request_type))
    problems = problems or Problems()
    return Batch(signal.name, signal.decode(request, received_ns, unlimited(), problems), size, problems=problems)


def from_json(value: Json) -> AnyValue:
    """Invert `to_json`, except for strings and objects that look like a non-finite double or bytes."""
    match value:
        case str() if value in _NON_FINITE:
            return any_value(_NON_FINITE[value])
        case None | bool() | int() | float() | str():
            return any_value(value)
        case {"bytes": str() as text, **rest} if not rest:
            return AnyValue(bytes_value=base64.b64decode(text))
        case dict():
            result = AnyValue()
            result.kvlist_value.values.extend(KeyValue(key=key, value=from_json(item)) for key, item in value.items())
            result.kvlist_value.SetInParent()
            return result
        case list():
            result = AnyValue()
            result.array_value.values.extend(from_json(item) for item in value)
            result.array_value.SetInParent()
            return result
