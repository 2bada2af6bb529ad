"""JSON responses: encoded with orjson, with the trace ID in the body and in the header `X-Trace-Id`."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson
from fastapi import Response
from opentelemetry import trace

TRACE_HEADER: Final = "X-Trace-Id"
JSON_CONTENT_TYPE: Final = (b"content-type", b"application/json")


class TypedBody(NamedTuple):
    """A response body with its own headers, as ASGI sends them; they replace the content type of JSON."""

    content: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def current_trace_id() -> str | None:
    """Return the trace ID of the current request; `None` if telemetry is disabled."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def encode_body(payload: Mapping[str, Any], trace_id: str | None) -> bytes:
    """Encode a payload with the trace ID as JSON."""
    return orjson.dumps({**payload, "trace_id": trace_id})


def encoded_response(
    body: bytes, trace_id: str | None, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with an encoded body."""
    trace_header = {TRACE_HEADER: trace_id} if trace_id else {}
    return Response(body, status, headers={**trace_header, **(headers or {})}, media_type="application/json")


def typed_response(body: TypedBody, trace_id: str | None) -> Response:
    """Return a response with a body that has its own headers."""
    own = {name.decode(): value.decode() for name, value in body.headers}
    return Response(body.content, headers={**own, **({TRACE_HEADER: trace_id} if trace_id else {})})


def json_response(
    payload: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response with the current trace ID."""
    trace_id = current_trace_id()
    return encoded_response(encode_body(payload, trace_id), trace_id, status=status, headers=headers)


def error_payload(error_type: str, message: str, **details: object) -> dict[str, object]:
    """Return the body of an error response, without the trace ID."""
    return {"error": {"type": error_type, "message": message, **details}}
