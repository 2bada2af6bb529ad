"""Convert OTLP values to JSON.

| AnyValue | JSON |
|---|---|
| string, bool | the same |
| int | an integer with 64 bits (readers that have only doubles lose precision above 2**53) |
| double | a number with a fraction or exponent; non-finite ones are "NaN", "Infinity", "-Infinity" |
| bytes | {"bytes": "<base64>"} |
| array | an array |
| key-value list | an object; OTLP forbids duplicate keys, and the last one wins |
| not set | null |

`string_value_strindex` and `key_strindex` belong to the profiles signal. By the specification, receivers of other
signals treat them as not set.
"""

import base64
import math
from collections.abc import Sequence
from typing import Final

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from modeltrace_hub.decode.budget import Budget

KeyValues = Sequence[KeyValue]
Json = str | bool | int | float | list["Json"] | dict[str, "Json"] | None

EMPTY_OBJECT: Final = "{}"
EMPTY_LIST: Final = "[]"


def to_json(value: AnyValue, budget: Budget) -> Json:
    """Convert an AnyValue to JSON. The parsers accept at most 100 nested messages, which bounds the recursion."""
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
            budget.count_messages(len(value.array_value.values))
            return [to_json(item, budget) for item in value.array_value.values]
        case "kvlist_value":
            return attributes_to_json(value.kvlist_value.values, budget)
        case "bytes_value":
            return {"bytes": base64.b64encode(value.bytes_value).decode()}
        case _:
            return None


def attributes_to_json(pairs: KeyValues, budget: Budget) -> dict[str, Json]:
    """Convert attributes to one JSON object."""
    budget.count_messages(len(pairs))
    return {pair.key: to_json(pair.value, budget) for pair in pairs}


def attributes_text(pairs: KeyValues, budget: Budget) -> str:
    """Convert attributes to the text of one JSON object, in the order of the request."""
    return orjson.dumps(attributes_to_json(pairs, budget)).decode() if pairs else EMPTY_OBJECT


def sorted_attributes_text(pairs: KeyValues, budget: Budget) -> str:
    """Convert attributes to the text of one JSON object with sorted keys, so that equal sets give equal text."""
    if not pairs:
        return EMPTY_OBJECT
    return orjson.dumps(attributes_to_json(pairs, budget), option=orjson.OPT_SORT_KEYS).decode()


def dump_json(value: Json) -> str:
    """Serialize JSON."""
    return orjson.dumps(value).decode()


def json_double(value: float) -> Json:
    """Return a finite number unchanged, and "NaN", "Infinity" or "-Infinity" for others."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
