"""OTLP/JSON to messages: protobuf's JSON mapping with OTLP's own exceptions.

From "JSON Protobuf Encoding" of the OTLP specification 1.x: trace and span IDs are hex, not base64; enums are numbers;
field names are lowerCamelCase; unknown fields are ignored. Bytes in attribute values stay base64.
"""

import base64
from typing import Any, Final, TypeVar

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message

from hub.errors import MalformedError

M = TypeVar("M", bound=Message)

# Where IDs stand: the lists to go through from the top, and there the fields that are IDs.
_IDS: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (("resourceSpans", "scopeSpans", "spans"), ("traceId", "spanId", "parentSpanId")),
    (("resourceSpans", "scopeSpans", "spans", "links"), ("traceId", "spanId")),
    (("resourceLogs", "scopeLogs", "logRecords"), ("traceId", "spanId")),
    *(
        (("resourceMetrics", "scopeMetrics", "metrics", type_, "dataPoints", "exemplars"), ("traceId", "spanId"))
        for type_ in ("gauge", "sum", "histogram", "exponentialHistogram")
    ),
)


def parse(body: bytes, message: type[M]) -> M:
    """Read one request.

    Raises:
        MalformedError: not JSON, not of the message's shape, nested too deeply, or an ID that is not hex.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"The body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedError("The body is JSON, but not an object")
    for path, names in _IDS:
        _unhex(document, path, names)
    try:
        return json_format.ParseDict(document, message(), ignore_unknown_fields=True)
    except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:
        raise MalformedError(f"The body is JSON, but not an OTLP request: {_first_line(error)}") from None


def _unhex(node: Any, path: tuple[str, ...], names: tuple[str, ...]) -> None:  # noqa: ANN401  JSON from outside
    """Rewrite the IDs below `node` from hex to what protobuf's JSON mapping reads."""
    if isinstance(node, list):
        for item in node:
            if isinstance(item, dict):
                _unhex(item, path, names)
    elif isinstance(node, dict):
        if path:
            _unhex(node.get(path[0]), path[1:], names)
            return
        for name in names:
            if isinstance(value := node.get(name), str):
                try:
                    node[name] = base64.b64encode(bytes.fromhex(value)).decode()
                except ValueError:
                    raise MalformedError(f"{name} is not hex") from None


def _first_line(error: Exception) -> str:
    """The parser's message, without what it quotes of a long body."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
