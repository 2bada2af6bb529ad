"""The limits of a request, and that a large request does not delay others."""

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from modeltrace_hub.decode import metrics, wire
from modeltrace_hub.decode.batch import Batch, Problems
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.errors import BusyError, TooLargeError
from modeltrace_hub.receive.ingest import SMALL_REQUEST_BYTES, Ingester
from modeltrace_hub.receive.signals import LOGS, METRICS, SIGNALS, TRACES, Signal
from modeltrace_hub.writer import MAX_BYTES_PER_COMMIT, Writer
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, log_request, metric_request, span, trace_request

MIB = 2**20
# The two required fields of a span. Without them it is rejected before its other fields are read.
IDS = b"\x0a\x10" + bytes(range(16)) + b"\x12\x08" + bytes(range(8))
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def _post(hub: InProcessHub, body: bytes, path: str = TRACES.http_path, **headers: str) -> httpx.Response:
    packed = {"Content-Encoding": "gzip", **PROTOBUF, **headers}
    return hub.client.post(path, content=gzip.compress(body), headers=packed)


def _length(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _nested(*numbers: int, items: bytes) -> bytes:
    """Return a message nested in messages, each in the field of a number."""
    for number in reversed(numbers):
        items = bytes([number << 3 | 2]) + _length(len(items)) + items
    return items


@pytest.fixture(scope="module")
def small_hub() -> Iterator[InProcessHub]:
    """Yield a hub with requests of at most 1 MiB: 65,536 messages and 8 MiB of rows."""
    with in_process_hub(max_request_bytes=MIB) as hub:
        yield hub


def test_a_resource_that_expands_too_far_is_rejected(small_hub: InProcessHub) -> None:
    """A resource of 256 KiB with 2,500 spans would give 640 MB of rows: 413, which senders do not retry."""
    request = trace_request(*(span() for _ in range(2500)))
    request.resource_spans[0].resource.attributes.append(attribute("k", "r" * (MIB // 4)))
    response = _post(small_hub, request.SerializeToString())

    assert response.status_code == 413
    assert "resource and scope in each record" in Status.FromString(response.content).message
    assert not small_hub.rows("FROM resources WHERE resource_attributes LIKE '%rrrr%'")


@pytest.mark.parametrize(
    ("signal", "body"),
    [
        (TRACES, lambda count: b"\x0a\x00" * count),
        (TRACES, lambda count: _nested(1, items=b"\x12\x00" * count)),
        (TRACES, lambda count: _nested(1, 2, items=b"\x12\x00" * count)),
        (TRACES, lambda count: _nested(1, 2, 2, items=IDS + b"\x4a\x00" * count)),
        (TRACES, lambda count: _nested(1, 2, 2, items=IDS + b"\x5a\x00" * count)),
        (TRACES, lambda count: _nested(1, 2, 2, items=IDS + b"\x6a\x00" * count)),
        (TRACES, lambda count: _nested(1, 1, items=b"\x0a\x00" * count)),
        (LOGS, lambda count: _nested(1, 2, 2, 5, 5, items=b"\x0a\x00" * count)),
        (METRICS, lambda count: _nested(1, 2, items=b"\x12\x00" * count)),
        (METRICS, lambda count: _nested(1, 2, 2, 5, items=b"\x0a\x00" * count)),
    ],
    ids=[
        *("resources", "scopes", "spans", "attributes", "events", "links", "attributes of a resource"),
        *("items of a list", "metrics", "points"),
    ],
)
def test_messages_of_any_kind_are_limited(
    small_hub: InProcessHub, signal: Signal, body: Callable[[int], bytes]
) -> None:
    """Many empty messages of two bytes each are permanently rejected."""
    assert _post(small_hub, body(300_000), signal.http_path).status_code == 413


def test_objects_in_json_are_limited(small_hub: InProcessHub) -> None:
    """The same limit applies to JSON."""
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[{}' + b",{}" * 300_000 + b"]}]}]}]}"
    assert _post(small_hub, body, LOGS.http_path, **{"Content-Type": "application/json"}).status_code == 413


def test_events_are_limited() -> None:
    """The bytes of rows are counted while they are created."""
    with pytest.raises(TooLargeError, match="bytes"):
        TRACES.decode(trace_request(span(events=[Span.Event()] * 100)), 1, Budget(10, 1000, 5000), Problems())


def test_metric_columns_count_with_each_point() -> None:
    """The description of a metric is in the row of every point."""
    point = NumberDataPoint(time_unix_nano=1, as_int=1)
    metric = Metric(name="m", description="d" * 1000, gauge=Gauge(data_points=[point] * 10))
    with pytest.raises(TooLargeError, match="bytes"):
        metrics.decode(metric_request(metric), 1, Budget(100, 1000, 5000), Problems())


def test_resource_bytes_are_utf_8_bytes() -> None:
    """A Chinese character counts three bytes."""
    request = trace_request(*(span() for _ in range(10)))
    request.resource_spans[0].resource.attributes.append(attribute("k", "\u4e2d" * 1000))
    with pytest.raises(TooLargeError, match="bytes"):
        TRACES.decode(request, 1, Budget(10, 1000, 25_000), Problems())


@pytest.mark.parametrize("path", [(), (1,), (1, 2)], ids=["request", "resource spans", "scope spans"])
def test_fields_above_records_are_limited(path: tuple[int, ...]) -> None:
    """Unknown fields count like messages, because they take as long to read."""
    body = _nested(*path, items=b"\x78\x00" * 1000)
    with pytest.raises(TooLargeError, match="messages"):
        wire.count_records(body, TRACES.shape, Budget(10, 900, 0))
    with pytest.raises(TooLargeError, match="messages"):
        wire.repair(body, TRACES.shape, Budget(10, 900, 0), Problems())


def test_counts_on_the_wire_equal_counts_of_the_decoder() -> None:
    """Counting records before parsing gives the same result as decoding."""
    request = trace_request(*(span() for _ in range(10)))
    wire.count_records(request.SerializeToString(), TRACES.shape, Budget(10, 13, 0))
    with pytest.raises(TooLargeError, match="records"):
        wire.count_records(request.SerializeToString(), TRACES.shape, Budget(9, 13, 0))
    with pytest.raises(TooLargeError, match="messages"):
        wire.count_records(request.SerializeToString(), TRACES.shape, Budget(10, 12, 0))


@pytest.mark.slow
def test_an_ordinary_large_request_is_stored(hub: InProcessHub) -> None:
    """10,000 spans with eight attributes each are within all limits."""
    pairs = [attribute(f"bench.attribute.{number}", "a value") for number in range(8)]
    body = trace_request(*(span(name="many", attributes=pairs) for _ in range(10_000))).SerializeToString()
    assert len(body) > SMALL_REQUEST_BYTES

    response = _post(hub, body)

    assert ExportTraceServiceResponse.FromString(response.content) == ExportTraceServiceResponse()
    assert hub.rows("SELECT count(*) FROM spans WHERE name = 'many'") == [(10_000,)]


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_a_large_request_does_not_delay_small_ones(writer: Writer, signal: Signal) -> None:
    """Small requests are answered while a large one is decoded."""
    ingester = Ingester(writer, max_request_bytes=16 * MIB, max_in_flight_bytes=64 * MIB)
    released = threading.Event()
    ingester._large_decoder.submit(released.wait, 60)
    request = {"traces": trace_request, "metrics": metric_request, "logs": log_request}[signal.name]()

    async def send() -> object:
        with ingester.track_request(signal) as reservation:
            return await ingester.ingest(signal, request.SerializeToString(), "protobuf", "identity", reservation)

    try:
        assert asyncio.run(send()) == signal.response_type()
        assert not released.is_set()
    finally:
        released.set()
        ingester.close()


def test_decompressed_bytes_are_reserved(writer: Writer) -> None:
    """A compressed request reserves its decompressed size and releases it afterwards."""
    ingester = Ingester(writer, max_request_bytes=MIB, max_in_flight_bytes=MIB)
    packed = gzip.compress(log_request(LogRecord(body=AnyValue(string_value="x" * 10_000))).SerializeToString())

    async def send() -> object:
        with ingester.track_request(LOGS) as reservation:
            return await ingester.ingest(LOGS, packed, "protobuf", "gzip", reservation)

    with ingester.track_request(LOGS) as other:
        other.add(MIB - 5000)
        with pytest.raises(BusyError):
            asyncio.run(send())
    assert asyncio.run(send()) == LOGS.response_type()
    ingester.close()


def test_a_commit_is_bounded_by_bytes(writer: Writer) -> None:
    """Batches with many row bytes are not committed together."""
    large = [Batch("logs", {"logs": []}, row_bytes=MAX_BYTES_PER_COMMIT) for _ in range(2)]
    with writer._changed:
        for batch in large:
            writer.submit(batch)
        assert len(writer._next_group()) == 1
        writer._queue.clear()
