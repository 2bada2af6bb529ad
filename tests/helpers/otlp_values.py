"""Convert Python values to attributes of OTLP."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

MS = 10**6

Value = str | bool | int | float | None | Mapping[str, Any] | list[Any]


def key_values(values: Mapping[str, Value]) -> list[KeyValue]:
    """Return attributes as `KeyValue` messages."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def any_value(value: Value) -> AnyValue:
    """Return a value as an `AnyValue` message."""
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case None:
            return AnyValue()
        case list():
            result = AnyValue()
            result.array_value.SetInParent()
            result.array_value.values.extend(any_value(item) for item in value)
            return result
        case _:
            result = AnyValue()
            result.kvlist_value.values.extend(key_values(value))
            return result
