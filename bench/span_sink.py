"""A backend of traces that records which spans arrived from which gateway, and when."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

MAX_MESSAGE_BYTES = 64 * 2**20


@dataclass
class SpanSink:
    """The spans that one gateway forwarded.

    Attributes:
        grpc_endpoint: ``HOST:PORT`` of OTLP over gRPC.
        spans: the times at which each span arrived, in seconds, by trace ID and span ID.
    """

    grpc_endpoint: str = ""
    spans: dict[bytes, dict[bytes, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    received: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, request: ExportTraceServiceRequest) -> None:
        """Record the spans of a request."""
        now = time.monotonic()
        with self.lock:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self.received += len(scope.spans)
                    for span in scope.spans:
                        self.spans[span.trace_id][span.span_id].append(now)


class _Servicer(TraceServiceServicer):
    def __init__(self, sink: SpanSink) -> None:
        self._sink = sink

    def Export(self, request: ExportTraceServiceRequest, _: Any) -> ExportTraceServiceResponse:  # noqa: N802, ANN401  generated names, a gRPC context
        self._sink.record(request)
        return ExportTraceServiceResponse()


class _Discard(BaseHTTPRequestHandler):
    """Answers 200 to each request."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def run_sinks(number: int) -> Iterator[tuple[list[SpanSink], str]]:
    """Run a sink for each gateway. Yield them, and the URL of a receiver that discards metrics and log records."""
    with ExitStack() as stack:
        sinks = []
        for _ in range(number):
            sink = SpanSink()
            server = grpc.server(
                ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
            )
            add_TraceServiceServicer_to_server(_Servicer(sink), server)  # type: ignore[no-untyped-call]  # generated code
            sink.grpc_endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            server.start()
            stack.callback(server.stop, None)
            sinks.append(sink)
        discard = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _Discard))
        threading.Thread(target=discard.serve_forever, daemon=True).start()
        stack.callback(discard.shutdown)
        yield sinks, f"http://127.0.0.1:{discard.server_address[1]}"
