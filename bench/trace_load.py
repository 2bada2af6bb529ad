"""Simulated services that send spans over OTLP/HTTP, and a record of what they sent."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TRACES_PER_REQUEST = 25
# The caller's span, and the model's server span with two stages.
SPANS_PER_TRACE = 4
# Each of this many traces has an error, in the model's server span.
TRACES_PER_ERROR = 10
RETRY_SECONDS = 0.2


@dataclass
class Sent:
    """The traces that were acknowledged: the time at which the last part was, and whether there was an error."""

    traces: dict[bytes, tuple[float, bool]] = field(default_factory=dict)
    refused: int = 0  # requests that had to be sent again
    lock: threading.Lock = field(default_factory=threading.Lock)


class Service:
    """One service: a client whose spans one agent gets, and a model whose spans another agent gets."""

    def __init__(self, number: int, agents: Sequence[str], sent: Sent) -> None:
        self._caller = agents[number % len(agents)]
        self._model = agents[(number + 1) % len(agents)]
        self._number = number
        self._sent = sent

    def run(self, until: float, traces_per_second: float | None) -> None:
        """Send requests until a time of the monotonic clock: as fast as they are acknowledged, or at a rate."""
        due = time.monotonic()
        with httpx.Client(timeout=30) as client:
            while time.monotonic() < until:
                traces = [os.urandom(16) for _ in range(TRACES_PER_REQUEST)]
                failed = set(traces[::TRACES_PER_ERROR])
                self._post(client, self._caller, encode_caller(self._number, traces))
                self._post(client, self._model, encode_model(self._number, traces, failed))
                now = time.monotonic()
                with self._sent.lock:
                    self._sent.traces.update({trace: (now, trace in failed) for trace in traces})
                if traces_per_second:
                    due += TRACES_PER_REQUEST / traces_per_second
                    time.sleep(max(0.0, due - time.monotonic()))

    def _post(self, client: httpx.Client, agent: str, body: bytes) -> None:
        """Send a request until it is acknowledged, as the sidecar of a service does."""
        while True:
            try:
                headers = {"content-type": "application/x-protobuf"}
                if client.post(f"{agent}/v1/traces", content=body, headers=headers).is_success:
                    return
            except httpx.HTTPError:
                pass
            with self._sent.lock:
                self._sent.refused += 1
            time.sleep(RETRY_SECONDS)


def send_traces(services: int, agents: Sequence[str], seconds: float, traces_per_second: float | None = None) -> Sent:
    """Run services at the same time. Return what they sent.

    Args:
        services: the number of services.
        agents: the URLs of OTLP/HTTP.
        seconds: the duration.
        traces_per_second: the rate of each service; `None`: as fast as the agents acknowledge.
    """
    sent = Sent()
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=Service(number, agents, sent).run, args=(until, traces_per_second))
        for number in range(services)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent


def encode_caller(service: int, traces: Sequence[bytes]) -> bytes:
    """Encode the client span of each trace. Its span ID is the first half of the trace ID."""
    return _encode(f"caller-{service}", [_span(t, t[:8], b"", "POST", Span.SPAN_KIND_CLIENT) for t in traces])


def encode_model(service: int, traces: Sequence[bytes], failed: set[bytes]) -> bytes:
    """Encode the server span and two stages of each trace. The server span of a failed trace has an error."""
    spans = []
    for trace in traces:
        server = _span(trace, trace[8:], trace[:8], "POST /predict", Span.SPAN_KIND_SERVER)
        server.attributes.append(KeyValue(key="http.route", value=AnyValue(string_value="/predict")))
        if trace in failed:
            server.status.code = Status.STATUS_CODE_ERROR
        spans.append(server)
        for index, stage in enumerate(("validate", "inference"), 1):
            identity = bytes([trace[8] ^ index]) + trace[9:]
            spans.append(_span(trace, identity, trace[8:], stage, Span.SPAN_KIND_INTERNAL))
    return _encode(f"model-{service}", spans)


def _encode(service: str, spans: Sequence[Span]) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=service)))
    scope = resource.scope_spans.add()
    scope.scope.name = "bench"
    scope.spans.extend(spans)
    return request.SerializeToString()


def _span(trace: bytes, identity: bytes, parent: bytes, name: str, kind: Span.SpanKind.ValueType) -> Span:
    now = time.time_ns()
    span = Span(trace_id=trace, span_id=identity, parent_span_id=parent, name=name, kind=kind)
    span.start_time_unix_nano, span.end_time_unix_nano = now - 2_000_000, now
    attributes = {f"bench.attribute.{number}": f"value {number}" for number in range(4)}
    span.attributes.extend(KeyValue(key=k, value=AnyValue(string_value=v)) for k, v in attributes.items())
    return span
