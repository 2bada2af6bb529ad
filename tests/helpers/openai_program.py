"""Call a fake chat API with the client of OpenAI and its OpenTelemetry instrumentation, and export to a hub.

Usage: python -m tests.helpers.openai_program OTLP_URL. The environment selects the version of the conventions.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

MODEL = "gpt-test"
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How is the weather in <b>Paris</b>?"},
]
TOOL_RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "14 degrees, rain"}


class ChatApi(BaseHTTPRequestHandler):
    """A chat API that first calls a tool, and answers when it has the result."""

    def do_POST(self) -> None:
        """Answer a request."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if request["model"] != MODEL:
            self._send(404, {"error": {"message": "no such model"}})
            return
        is_answer = request["messages"][-1]["role"] == "tool"
        message = {"role": "assistant", "content": "It rains."} if is_answer else {"role": "assistant", "content": None}
        choice = {
            "index": 0,
            "message": message if is_answer else {**message, "tool_calls": [CALL]},
            "finish_reason": "stop" if is_answer else "tool_calls",
        }
        usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
        answer = {"id": "chat-1", "object": "chat.completion", "created": 1, "model": f"{MODEL}-1", "choices": [choice]}
        self._send(200, {**answer, "usage": usage})

    def log_message(self, *_: object) -> None:  # type: ignore[override]  the arguments are not used
        """Write no log."""

    def _send(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(otlp_url: str) -> None:
    """Make three calls in one trace: the call of a tool, the answer, and a failure."""
    resource = Resource.create({"service.name": "assistant"})
    tracers, loggers = TracerProvider(resource=resource), LoggerProvider(resource=resource)
    tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{otlp_url}/v1/traces")))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{otlp_url}/v1/logs")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{otlp_url}/v1/metrics"))
    meters = MeterProvider(metric_readers=[reader], resource=resource)
    OpenAIInstrumentor().instrument(tracer_provider=tracers, logger_provider=loggers, meter_provider=meters)
    server = ThreadingHTTPServer(("127.0.0.1", 0), ChatApi)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client: Any = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}", api_key="none", max_retries=0)
    with tracers.get_tracer("assistant").start_as_current_span("ask"):
        client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[TOOL])
        called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        client.chat.completions.create(model=MODEL, messages=[*MESSAGES, called, TOOL_RESULT], tools=[TOOL])
        try:
            client.chat.completions.create(model="unknown", messages=MESSAGES)
        except openai.NotFoundError:
            pass
        else:
            raise AssertionError("the call of an unknown model must fail")
    server.shutdown()
    for provider in (tracers, loggers, meters):
        provider.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
