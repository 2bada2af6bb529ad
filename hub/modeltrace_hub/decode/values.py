"""How OTLP values are written as JSON.

| AnyValue | JSON |
|---|---|
| string, bool | the same |
| int | an integer, all 64 bits (readers that have only doubles lose some beyond 2**53) |
| double | a number with a fraction or exponent; what JSON lacks is "NaN", "Infinity", "-Infinity" |
| bytes | {"bytes": "<base64>"} |
| array | an array |
| key-value list | an object; of equal keys, which OTLP forbids, the last stays |
| not set | null |

`string_value_strindex` and `key_strindex` belong to the profiles signal; in the others the protocol has receivers treat
them as not set, and so does this.
"""

import base64
import math
from collections.abc import Sequence
from typing import Final

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from modeltrace_hub.decode.budget import Budget

Pairs = Sequence[KeyValue]
Json = str | bool | int | float | list["Json"] | dict[str, "Json"] | None

_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
EMPTY_OBJECT: Final = "{}"
EMPTY_LIST: Final = "[]"


def to_json(value: AnyValue, budget: Budget) -> Json:
    """An AnyValue as JSON. The nesting is bounded by the parsers' limit of 100 messages."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "int_value":
            return value.int_value
        case "double_value":
            return json_double(value.double_value)
        case "bool_value":
            return value.bool_value
        case "array_value":
            budget.messages(len(value.array_value.values))
            return [to_json(item, budget) for item in value.array_value.values]
        case "kvlist_value":
            return attributes(value.kvlist_value.values, budget)
        case "bytes_value":
            return {"bytes": base64.b64encode(value.bytes_value).decode()}
        case _:
            return None


def from_json(value: Json) -> AnyValue:
    """The inverse of `to_json`, but for strings and objects that look like a special double or bytes."""
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(double_value=_SPECIAL[value]) if value in _SPECIAL else AnyValue(string_value=value)
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


def attributes(pairs: Pairs, budget: Budget) -> dict[str, Json]:
    """Attributes as one object."""
    budget.messages(len(pairs))
    return {pair.key: to_json(pair.value, budget) for pair in pairs}


def attributes_text(pairs: Pairs, budget: Budget) -> str:
    """Attributes as the text of one object, keys in the order in which they came."""
    return orjson.dumps(attributes(pairs, budget)).decode() if pairs else EMPTY_OBJECT


def sorted_attributes_text(pairs: Pairs, budget: Budget) -> str:
    """Attributes as the text of one object, keys sorted: equal sets are equal text."""
    return orjson.dumps(attributes(pairs, budget), option=orjson.OPT_SORT_KEYS).decode() if pairs else EMPTY_OBJECT


def text(value: Json) -> str:
    """JSON as text."""
    return orjson.dumps(value).decode()


def json_double(value: float) -> Json:
    """A number, or the word for one that JSON lacks."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
