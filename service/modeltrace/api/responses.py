"""How every answer looks: JSON by orjson, the trace ID in the body and in the header `X-Trace-Id`."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson
from fastapi import Response
from opentelemetry import trace

TRACE_HEADER: Final = "X-Trace-Id"
JSON_CONTENT_TYPE: Final = (b"content-type", b"application/json")


class ErrorResponse(NamedTuple):
    """An answer before it is written."""

    status: int
    payload: Mapping[str, Any]
    headers: Mapping[str, str] | None = None


def current_trace_id() -> str | None:
    """The ID of the request's trace; `None` when there is none (telemetry is off)."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def encode_body(payload: Mapping[str, Any], trace_id: str | None) -> bytes:
    """A payload as it goes out."""
    return orjson.dumps({**payload, "trace_id": trace_id})


def encoded_response(
    body: bytes, trace_id: str | None, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with what is encoded."""
    traced = {TRACE_HEADER: trace_id} if trace_id else {}
    return Response(body, status, headers={**traced, **(headers or {})}, media_type="application/json")


def json_response(
    payload: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with JSON."""
    trace_id = current_trace_id()
    return encoded_response(encode_body(payload, trace_id), trace_id, status=status, headers=headers)


def error_payload(kind: str, message: str, **more: object) -> dict[str, object]:
    """What is wrong, as the API says it everywhere."""
    return {"error": {"type": kind, "message": message, **more}}
