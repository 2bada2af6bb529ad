"""What one request may expand to, and that it keeps no other request waiting."""

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
from modeltrace_hub.receive.ingest import SMALL_BYTES, Intake
from modeltrace_hub.receive.signals import LOGS, METRICS, SIGNALS, TRACES, Signal
from modeltrace_hub.writer import BYTES_A_COMMIT, Writer
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, log_request, metric_request, span, trace_request

MIB = 2**20
# The two fields without which a span is rejected before anything else in it is read.
IDS = b"\x0a\x10" + bytes(range(16)) + b"\x12\x08" + bytes(range(8))
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def _post(hub: InProcessHub, body: bytes, path: str = TRACES.path, **headers: str) -> httpx.Response:
    packed = {"Content-Encoding": "gzip", **PROTOBUF, **headers}
    return hub.client.post(path, content=gzip.compress(body), headers=packed)


def _length(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _nested(*numbers: int, items: bytes) -> bytes:
    """A message inside of messages, each in the field of its number."""
    for number in reversed(numbers):
        items = bytes([number << 3 | 2]) + _length(len(items)) + items
    return items


@pytest.fixture(scope="module")
def small() -> Iterator[InProcessHub]:
    """A hub that takes requests of 1 MiB, so 65,536 messages and 8 MiB of rows."""
    with in_process_hub(max_request_bytes=MIB) as hub:
        yield hub


def test_a_resource_that_expands_too_far_is_refused_for_good(small: InProcessHub) -> None:
    """A resource of 256 KiB with 2,500 spans would be 640 MB of rows: 413, which senders do not send again."""
    request = trace_request(*(span() for _ in range(2500)))
    request.resource_spans[0].resource.attributes.append(attribute("k", "r" * (MIB // 4)))
    response = _post(small, request.SerializeToString())

    assert response.status_code == 413
    assert "resource and scope counted with every record" in Status.FromString(response.content).message
    assert not small.rows("FROM spans WHERE resource_attributes LIKE '%rrrr%'")


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
def test_messages_of_any_kind_are_limited(small: InProcessHub, signal: Signal, body: Callable[[int], bytes]) -> None:
    """Many empty messages, which take two bytes each, are refused for good."""
    assert _post(small, body(300_000), signal.path).status_code == 413


def test_objects_in_json_are_limited(small: InProcessHub) -> None:
    """The same in JSON."""
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[{}' + b",{}" * 300_000 + b"]}]}]}]}"
    assert _post(small, body, LOGS.path, **{"Content-Type": "application/json"}).status_code == 413


def test_an_event_expands_no_further_than_a_request_may() -> None:
    """What the rows of a request take is counted while they are made."""
    with pytest.raises(TooLargeError, match="bytes"):
        TRACES.decode(trace_request(span(events=[Span.Event()] * 100)), 1, 0, Budget(10, 1000, 5000), Problems())


def test_what_a_metric_says_counts_with_each_point() -> None:
    """Its description stands in the row of every point."""
    point = NumberDataPoint(time_unix_nano=1, as_int=1)
    metric = Metric(name="m", description="d" * 1000, gauge=Gauge(data_points=[point] * 10))
    with pytest.raises(TooLargeError, match="bytes"):
        metrics.decode(metric_request(metric), 1, 0, Budget(100, 1000, 5000))


def test_bytes_of_a_resource_are_those_of_utf_8() -> None:
    """A text of Chinese characters takes three bytes for each."""
    request = trace_request(*(span() for _ in range(10)))
    request.resource_spans[0].resource.attributes.append(attribute("k", "\u4e2d" * 1000))
    with pytest.raises(TooLargeError, match="bytes"):
        TRACES.decode(request, 1, 0, Budget(10, 1000, 25_000), Problems())


@pytest.mark.parametrize("path", [(), (1,), (1, 2)], ids=["request", "resource spans", "scope spans"])
def test_fields_above_records_are_limited(path: tuple[int, ...]) -> None:
    """Fields that nobody reads are looked at as those of messages are, and take as long."""
    body = _nested(*path, items=b"\x78\x00" * 1000)
    with pytest.raises(TooLargeError, match="messages"):
        wire.count_records(body, TRACES.shape, Budget(10, 900, 0))
    with pytest.raises(TooLargeError, match="messages"):
        wire.repair(body, TRACES.shape, Budget(10, 900, 0), Problems())


def test_counting_before_parsing_finds_what_decoding_counts() -> None:
    """Records are counted on the wire as they are in the messages."""
    request = trace_request(*(span() for _ in range(10)))
    wire.count_records(request.SerializeToString(), TRACES.shape, Budget(10, 13, 0))
    with pytest.raises(TooLargeError, match="records"):
        wire.count_records(request.SerializeToString(), TRACES.shape, Budget(9, 13, 0))
    with pytest.raises(TooLargeError, match="messages"):
        wire.count_records(request.SerializeToString(), TRACES.shape, Budget(10, 12, 0))


def test_an_ordinary_large_request_is_stored(hub: InProcessHub) -> None:
    """10,000 spans with eight attributes each are far from any limit."""
    pairs = [attribute(f"bench.attribute.{number}", "a value") for number in range(8)]
    body = trace_request(*(span(name="many", attributes=pairs) for _ in range(10_000))).SerializeToString()
    assert len(body) > SMALL_BYTES

    response = _post(hub, body)

    assert ExportTraceServiceResponse.FromString(response.content) == ExportTraceServiceResponse()
    assert hub.rows("SELECT count(*) FROM spans WHERE name = 'many'") == [(10_000,)]


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_a_large_request_keeps_no_small_one_waiting(writer: Writer, signal: Signal) -> None:
    """While a large request is being decoded, small ones are answered."""
    intake = Intake(writer, max_request_bytes=16 * MIB, max_waiting_bytes=64 * MIB)
    released = threading.Event()
    intake._large.submit(released.wait, 60)
    request = {"traces": trace_request, "metrics": metric_request, "logs": log_request}[signal.name]()

    async def send() -> object:
        with intake.request(signal) as reservation:
            return await intake.take(signal, request.SerializeToString(), "protobuf", "identity", reservation)

    try:
        assert asyncio.run(send()) == signal.response()
        assert not released.is_set()
    finally:
        released.set()
        intake.close()


def test_bytes_are_accounted_for_as_they_uncompress(writer: Writer) -> None:
    """A packed request takes the room of what it uncompresses to, and gives it back."""
    intake = Intake(writer, max_request_bytes=MIB, max_waiting_bytes=MIB)
    packed = gzip.compress(log_request(LogRecord(body=AnyValue(string_value="x" * 10_000))).SerializeToString())

    async def send() -> object:
        with intake.request(LOGS) as reservation:
            return await intake.take(LOGS, packed, "protobuf", "gzip", reservation)

    with intake.request(LOGS) as other:
        other.add(MIB - 5000)
        with pytest.raises(BusyError):
            asyncio.run(send())
    assert asyncio.run(send()) == LOGS.response()
    intake.close()


def test_a_commit_is_bounded_by_bytes(writer: Writer) -> None:
    """Batches that expand far are not put into one transaction."""
    large = [Batch("logs", {"logs": []}, 0, expanded=BYTES_A_COMMIT) for _ in range(2)]
    with writer._changed:
        for batch in large:
            writer.submit(batch)
        assert len(writer._take()) == 1
        writer._queue.clear()
