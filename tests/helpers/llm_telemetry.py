"""Spans of an LLM application: a question, the call of a tool, its result and a long answer."""

import time
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.helpers.otlp_sender import span
from tests.helpers.otlp_values import MS

LONG = "The forecast for the next days, hour by hour. " * 60
QUESTION = {"role": "user", "parts": [{"type": "text", "content": "How is the weather in <b>Paris</b>?"}]}
CALL = {
    "role": "assistant",
    "parts": [{"type": "tool_call", "id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}}],
}
RESULT = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": LONG}]}
SYSTEM = [{"type": "text", "content": "Be brief."}]


def llm_trace(trace_id: bytes) -> list[Span]:
    """Return the spans: the request, an LLM call, the execution of a tool, and an LLM call that fails."""
    start = time.time_ns() - 3000 * MS
    chat: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.system_instructions": SYSTEM,
        "gen_ai.tool.definitions": [{"type": "function", "name": "get_weather"}],
        "gen_ai.usage.input_tokens": 1250,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.input.messages": [QUESTION, CALL, RESULT],
        "gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "text", "content": "It rains."}]}],
    }
    root = span(trace_id, "POST /ask", start, 2500, kind=Span.SPAN_KIND_SERVER)
    call = span(trace_id, "chat gpt-4o", start + MS, 900, parent=root, kind=Span.SPAN_KIND_CLIENT, attributes=chat)
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_weather", "gen_ai.tool.call.result": LONG}
    execution = span(trace_id, "execute_tool get_weather", start + 950 * MS, 30, parent=root, attributes=tool)
    failed = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "error.type": "RateLimitError"}
    failure = span(
        trace_id,
        "chat gpt-4o-mini",
        start + 1000 * MS,
        400,
        parent=root,
        kind=Span.SPAN_KIND_CLIENT,
        attributes=failed,
        error="too many requests",
    )
    return [root, call, execution, failure]
