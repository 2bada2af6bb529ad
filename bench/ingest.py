"""How fast the hub ingests telemetry, and how soon the telemetry is visible.

Spans and log records are encoded beforehand and sent over OTLP/HTTP by four senders to a real hub with its database on
disk. The hub answers after it has committed. `ratio` compares the ingested spans/s with the rate at which one core
only parses the same bytes, so it shows the cost of storage. `visibility_latency_ms` is the time from the last byte
sent until the JSON API returns the trace.
"""

import os
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from rich.console import Console

from bench.command import make_parser, print_as
from bench.hub import run_hub

ITEMS_PER_REQUEST = 512
SENDERS = 4


def make_attributes(count: int) -> list[KeyValue]:
    """Make short string attributes, like those of the spans of a prediction."""
    return [KeyValue(key=f"bench.attribute.{i}", value=AnyValue(string_value=f"value {i}")) for i in range(count)]


def encode_spans(number: int) -> tuple[bytes, str]:
    """Encode a request of `ITEMS_PER_REQUEST` spans in one trace. Return it with the trace ID."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="bench")))
    scope = group.scope_spans.add()
    trace_id = os.urandom(16)
    now = time.time_ns()
    for index in range(ITEMS_PER_REQUEST):
        span = scope.spans.add(
            trace_id=trace_id, span_id=os.urandom(8), name=f"span {index % 4}", kind=2,
            start_time_unix_nano=now, end_time_unix_nano=now + 1_000_000 + number,
        )  # fmt: skip
        span.attributes.extend(make_attributes(8))
    return request.SerializeToString(), trace_id.hex()


def encode_log_records(_: int) -> tuple[bytes, str]:
    """Encode a request of `ITEMS_PER_REQUEST` log records in one trace. Return it with the trace ID."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="bench")))
    scope = group.scope_logs.add()
    trace_id = os.urandom(16)
    for _ in range(ITEMS_PER_REQUEST):
        record = scope.log_records.add(
            trace_id=trace_id, span_id=os.urandom(8), time_unix_nano=time.time_ns(), severity_number=9,
            body=AnyValue(string_value="a line of the usual length of an access log"),
        )  # fmt: skip
        record.attributes.extend(make_attributes(8))
    return request.SerializeToString(), trace_id.hex()


def send_requests(url: str, bodies: Sequence[bytes]) -> float:
    """Send all bodies over several connections and return the seconds. Raise if the hub rejects one of them."""
    with httpx.Client() as client, ThreadPoolExecutor(SENDERS) as pool:
        start = time.perf_counter()
        responses = pool.map(
            lambda body: client.post(url, content=body, headers={"Content-Type": "application/x-protobuf"}, timeout=60),
            bodies,
        )
        for response in responses:
            response.raise_for_status()
        return time.perf_counter() - start


def measure_visibility_latency(hub: str, otlp: str) -> float:
    """Return the seconds from the last byte of a request until the JSON API returns its trace."""
    body, trace_id = encode_spans(0)
    httpx.post(f"{otlp}/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"}).raise_for_status()
    start = time.perf_counter()
    while True:
        try:
            with urllib.request.urlopen(f"{hub}/api/traces/{trace_id}"):  # noqa: S310  loopback
                return time.perf_counter() - start
        except urllib.error.HTTPError:
            time.sleep(0.001)


def measure_parse_rate(bodies: Sequence[bytes]) -> float:
    """Return the spans per second that one core only parses."""
    start = time.perf_counter()
    for body in bodies:
        ExportTraceServiceRequest.FromString(body)
    return len(bodies) * ITEMS_PER_REQUEST / (time.perf_counter() - start)


def run(batches: int) -> dict[str, Any]:
    """Send both signals to a new hub."""
    trace_bodies = [encode_spans(i)[0] for i in range(batches)]
    log_bodies = [encode_log_records(i)[0] for i in range(batches)]
    with tempfile.TemporaryDirectory() as folder, run_hub(Path(folder)) as urls:
        span_rate = batches * ITEMS_PER_REQUEST / send_requests(f"{urls.http}/v1/traces", trace_bodies)
        log_rate = batches * ITEMS_PER_REQUEST / send_requests(f"{urls.http}/v1/logs", log_bodies)
        latency = median(measure_visibility_latency(urls.api, urls.http) for _ in range(20))
    return {
        "ratio": round(span_rate / measure_parse_rate(trace_bodies), 4),
        "spans_per_second": round(span_rate),
        "log_records_per_second": round(log_rate),
        "visibility_latency_ms": round(1000 * latency, 2),
        "items_per_signal": batches * ITEMS_PER_REQUEST,
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result, one value per line."""
    console = Console()
    for name, value in result.items():
        console.print(f"{name.replace('_', ' '):>24}  {value}")


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--batches", type=int, default=200, help=f"requests of {ITEMS_PER_REQUEST} items each (default: 200)"
    )
    arguments = parser.parse_args()
    result = run(arguments.batches)
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
