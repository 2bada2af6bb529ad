"""OTLP over HTTP with a running hub: encodings, responses and limits."""

import gzip
import select
import socket
import sys
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import httpx
import orjson
import pytest
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Histogram, HistogramDataPoint, Metric

from modeltrace_hub.receive.signals import SIGNALS, TRACES, Signal
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.otlp_json import to_otlp_json
from tests.helpers.otlp_messages import log_request, metric_request, span, trace_request
from tests.helpers.processes import wait_until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


def _raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate without header": _raw_deflate,
    "zstd": zstd.compress,
}
REQUESTS = {"traces": trace_request, "metrics": metric_request, "logs": log_request}

StartHub = Callable[..., AbstractContextManager[InProcessHub]]


def _post(hub: InProcessHub, body: bytes, path: str = TRACES.http_path, **headers: str) -> httpx.Response:
    return hub.client.post(path, content=body, headers={**PROTOBUF, **headers})


def _status(response: httpx.Response) -> Status:
    return Status.FromString(response.content)


def _sample(name: str) -> Message:
    return REQUESTS[name]()


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_protobuf_is_stored(hub: InProcessHub, signal: Signal) -> None:
    """A protobuf request gets 200 with an empty protobuf response, and is then stored."""
    before = hub.writer.stats.snapshot()[signal.name].stored
    response = _post(hub, _sample(signal.name).SerializeToString(), signal.http_path)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-protobuf")
    assert signal.response_type.FromString(response.content) == signal.response_type()
    assert hub.writer.stats.snapshot()[signal.name].stored == before + 1


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_json_is_stored(hub: InProcessHub, signal: Signal) -> None:
    """A JSON request gets 200 with an empty object, and is then stored."""
    before = hub.writer.stats.snapshot()[signal.name].stored
    body = orjson.dumps(to_otlp_json(_sample(signal.name)))
    response = hub.client.post(
        signal.http_path, content=body, headers={"Content-Type": "application/json; charset=utf-8"}
    )
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == {}
    assert hub.writer.stats.snapshot()[signal.name].stored == before + 1


def test_json_ids_are_hex(hub: InProcessHub) -> None:
    """IDs in OTLP/JSON are hex in either case, and unknown fields are ignored."""
    body = (
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"ABCDEF798038103D269B633813FC60C0",'
        b'"spanId":"eee19b7ec3c1b174","name":"from json","kind":2,"whatever":{"x":1}}]}]}]}'
    )
    assert hub.client.post("/v1/traces", content=body, headers=JSON).json() == {}
    assert hub.rows("SELECT trace_id, span_id, kind FROM spans WHERE name = 'from json'") == [
        ("abcdef798038103d269b633813fc60c0", "eee19b7ec3c1b174", "SERVER")
    ]


@pytest.mark.parametrize("encoding", PACKERS)
def test_compressed_bodies_are_accepted(hub: InProcessHub, encoding: str) -> None:
    """A compressed request is decompressed; deflate may lack the zlib header."""
    body = trace_request(span(name=f"packed by {encoding}")).SerializeToString()
    packed = PACKERS[encoding](body)
    assert _post(hub, packed, **{"Content-Encoding": encoding.split(maxsplit=1)[0]}).status_code == 200
    assert len(hub.rows("FROM spans WHERE name = ?", f"packed by {encoding}")) == 1


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_bodies_of_several_members_are_accepted(hub: InProcessHub, encoding: str) -> None:
    """A gzip body may have several members, a zstd body several frames."""
    body = trace_request(span(name=f"members of {encoding}")).SerializeToString()
    packed = PACKERS[encoding](body[:20]) + PACKERS[encoding](body[20:])
    assert _post(hub, packed, **{"Content-Encoding": encoding}).status_code == 200
    assert len(hub.rows("FROM spans WHERE name = ?", f"members of {encoding}")) == 1


def test_an_empty_request_is_accepted(hub: InProcessHub) -> None:
    """A request without spans gets 200."""
    assert _post(hub, b"").status_code == 200


def test_invalid_spans_are_counted_and_the_others_stored(hub: InProcessHub) -> None:
    """A partial success has the number of rejected spans and the reason."""
    request = trace_request(span(name="good one"), span(trace_id=b"short"), span(span_id=bytes(8)))
    response = ExportTraceServiceResponse.FromString(_post(hub, request.SerializeToString()).content)
    assert response.partial_success.rejected_spans == 2
    assert "trace_id is not 16 bytes" in response.partial_success.error_message
    assert len(hub.rows("FROM spans WHERE name = 'good one'")) == 1


def test_a_partial_success_in_json(hub: InProcessHub) -> None:
    """In JSON the count is a string, like all 64-bit integers of protobuf's JSON mapping."""
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"abcd"}]}]}]}'
    response = hub.client.post("/v1/traces", content=body, headers=JSON).json()
    assert response["partialSuccess"]["rejectedSpans"] == "1"


def test_a_log_record_with_an_invalid_id_is_stored(hub: InProcessHub) -> None:
    """The record is stored outside a trace, with a warning."""
    request = log_request(LogRecord(time_unix_nano=5, trace_id=b"short", severity_text="odd"))
    response = ExportLogsServiceResponse.FromString(_post(hub, request.SerializeToString(), "/v1/logs").content)
    assert response.partial_success.rejected_log_records == 0
    assert "without trace or span ID" in response.partial_success.error_message
    assert hub.rows("SELECT trace_id FROM logs WHERE severity_text = 'odd'") == [(None,)]


def test_buckets_that_do_not_match_are_rejected(hub: InProcessHub) -> None:
    """A histogram whose counts do not match its bounds is rejected."""
    point = HistogramDataPoint(time_unix_nano=5, bucket_counts=[1, 2], explicit_bounds=[1.0, 2.0])
    request = metric_request(Metric(name="odd", histogram=Histogram(data_points=[point])))
    assert b"bucket_counts" in _post(hub, request.SerializeToString(), "/v1/metrics").content
    assert hub.rows("FROM metric_points WHERE name = 'odd'") == []


def test_a_time_beyond_64_bits_is_rejected(hub: InProcessHub) -> None:
    """A start time over 63 bits rejects only its span."""
    response = _post(hub, trace_request(span(start_time_unix_nano=2**63)).SerializeToString())
    assert ExportTraceServiceResponse.FromString(response.content).partial_success.rejected_spans == 1


@pytest.mark.parametrize(
    "body",
    [b"\xff" * 20, b"\x0a\x05", trace_request().SerializeToString()[:-3]],
    ids=["no field", "no length", "cut off"],
)
def test_invalid_protobuf_is_400(hub: InProcessHub, body: bytes) -> None:
    """A body that protobuf cannot parse gets 400 and a Status in protobuf."""
    response = _post(hub, body)
    assert response.status_code == 400
    assert _status(response).code == 3
    assert _status(response).message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"resourceSpans": 3}',
        b'{"resourceSpans": [[[]]]}',
        b'{"resourceLogs": [{}]}',
        b'{"resourceSpans": [{}], "cut',
        b"[" * 100_000,
        b'{"resourceSpans":' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_invalid_json_is_400(hub: InProcessHub, body: bytes) -> None:
    """A body that is not OTLP/JSON, or of another signal, gets 400 and a Status in JSON."""
    response = hub.client.post("/v1/traces", content=body, headers=JSON)
    assert response.status_code == 400
    assert response.json()["code"] == 3


def test_an_unknown_content_type_is_415(hub: InProcessHub) -> None:
    """The error names the supported types."""
    response = hub.client.post("/v1/traces", content=b"x", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415
    assert "application/x-protobuf" in response.json()["message"]
    assert "accept-encoding" not in response.headers  # this header would mean that the coding is not supported


def test_an_unknown_content_encoding_is_415(hub: InProcessHub) -> None:
    """The error names the supported encodings."""
    response = _post(hub, b"x", **{"Content-Encoding": "br"})
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "gzip, deflate, zstd, identity")


def test_a_body_that_does_not_arrive_in_time_may_be_sent_again(start_hub: StartHub) -> None:
    """A slow network is temporary, so the status is retryable."""
    with start_hub(body_timeout=0.2) as hub:
        address = ("127.0.0.1", hub.settings.http_port)
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            connection.sendall(b"Content-Length: 100\r\n\r\n{")
            response = connection.recv(1000)
        assert response.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in response
        assert hub.writer.stats.snapshot()["traces"].failed_requests == {"request_timeout": 1}


def test_an_unknown_path_is_404(hub: InProcessHub) -> None:
    """The response has the encoding of the request."""
    response = _post(hub, b"", path="/v1/nothing")
    assert response.status_code == 404
    assert _status(response).code == 5


def test_other_methods_are_405(hub: InProcessHub) -> None:
    """The response names the allowed method."""
    response = hub.client.get("/v1/traces")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("damage", [lambda _: b"not packed", lambda body: body[:-5], lambda body: body + b"tail"])
@pytest.mark.parametrize("encoding", PACKERS)
def test_invalid_compressed_bodies_are_400(hub: InProcessHub, encoding: str, damage: Callable[[bytes], bytes]) -> None:
    """A body that is not in its content encoding, truncated, or has trailing bytes gets 400."""
    body = damage(PACKERS[encoding](bytes(range(100))))
    assert _post(hub, body, **{"Content-Encoding": encoding.split(maxsplit=1)[0]}).status_code == 400


def test_a_body_over_the_limit_is_413(start_hub: StartHub) -> None:
    """A body over the limit is rejected, with or without Content-Length, and the connection stays open."""
    with start_hub(max_request_bytes=2000) as hub:
        assert _post(hub, b"x" * 2001).status_code == 413
        chunked = hub.client.post("/v1/traces", content=iter([b"x" * 900] * 3), headers=PROTOBUF)
        assert chunked.status_code == 413
        assert _post(hub, trace_request().SerializeToString()).status_code == 200
        assert hub.writer.stats.snapshot()["traces"].failed_requests == {"too_large": 2}


@pytest.mark.parametrize("encoding", PACKERS)
def test_a_decompression_bomb_is_413(start_hub: StartHub, encoding: str) -> None:
    """A small body that decompresses to more than the limit is rejected."""
    with start_hub(max_request_bytes=2**20) as hub:
        bomb = PACKERS[encoding](bytes(50 * 2**20))
        assert len(bomb) < 2**20
        assert _post(hub, bomb, **{"Content-Encoding": encoding.split(maxsplit=1)[0]}).status_code == 413


def test_zstd_with_a_large_window_is_400(hub: InProcessHub) -> None:
    """A window over the limit of HTTP is rejected before its memory is allocated."""
    large = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.enable_long_distance_matching: 1}
    packer = zstd.ZstdCompressor(options=large)
    body = packer.compress(trace_request().SerializeToString()) + packer.flush()
    assert _post(hub, body, **{"Content-Encoding": "zstd"}).status_code == 400


def test_more_rows_than_fit_the_queue_are_413(start_hub: StartHub) -> None:
    """A request with more rows than the queue is permanently rejected."""
    with start_hub(max_queue_rows=3) as hub:
        assert _post(hub, trace_request(*(span() for _ in range(4))).SerializeToString()).status_code == 413


def test_a_full_queue_is_503_and_a_retry_succeeds(start_hub: StartHub) -> None:
    """While the queue is full, the response is 503 with Retry-After; the same request succeeds afterwards."""
    body = trace_request(span(name="later")).SerializeToString()
    with start_hub() as hub:
        hub.writer._queued_rows += hub.writer.max_rows
        response = _post(hub, body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert _status(response).code == 14
        hub.writer._queued_rows -= hub.writer.max_rows
        assert _post(hub, body).status_code == 200
        assert len(hub.rows("FROM spans WHERE name = 'later'")) == 1
        assert hub.writer.stats.snapshot()["traces"].refused == {"queue_full": 1}


def test_received_bytes_are_bounded(start_hub: StartHub) -> None:
    """If all requests together exceed the limit, the response is 503."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3001\r\n"
    head += b"Content-Type: application/x-protobuf\r\n\r\n"
    with start_hub(max_request_bytes=5000, max_queue_bytes=5000) as hub, ExitStack() as stack:

        def send_part() -> socket.socket:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", hub.settings.http_port)))
            connection.sendall(head + b"\xff" * 3000)
            return connection

        first = send_part()

        def refused() -> bool:
            nonlocal first
            if select.select([first], [], [], 0)[0]:  # it was refused because of the request below
                first = send_part()
            return _post(hub, b"\xff" * 3000).status_code == 503

        wait_until(refused, description="the limit to be reached")
        first.sendall(b"\xff")
        assert first.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_failed_write_is_503(start_hub: StartHub) -> None:
    """If the database fails to write, the sender is told to retry."""
    with start_hub() as hub:
        with hub.store.write() as connection:
            connection.execute("ALTER TABLE spans RENAME TO hidden")
        assert _post(hub, trace_request().SerializeToString()).status_code == 503
        with hub.store.write() as connection:
            connection.execute("ALTER TABLE hidden RENAME TO spans")
        assert _post(hub, trace_request().SerializeToString()).status_code == 200


@pytest.mark.slow
@given(body=st.binary(max_size=300), kind=st.sampled_from([*SIGNALS]), json=st.booleans(), packed=st.booleans())
@settings(max_examples=80, deadline=None)
def test_random_bytes_are_handled(hub: InProcessHub, body: bytes, kind: Signal, *, json: bool, packed: bool) -> None:
    """Any bytes get 200 or 400."""
    headers = {**(JSON if json else PROTOBUF), **({"Content-Encoding": "gzip"} if packed else {})}
    response = hub.client.post(kind.http_path, content=gzip.compress(body) if packed else body, headers=headers)
    assert response.status_code in {200, 400}


@pytest.mark.slow
@given(data=st.data(), kind=st.sampled_from([*SIGNALS]))
@settings(max_examples=80, deadline=None)
def test_damaged_requests_are_handled(hub: InProcessHub, data: st.DataObject, kind: Signal) -> None:
    """A request with a changed byte or a truncated end gets 200 or 400."""
    body = bytearray(_sample(kind.name).SerializeToString())
    place = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        body[place] = data.draw(st.integers(0, 255))
    else:
        del body[place:]
    assert _post(hub, bytes(body), kind.http_path).status_code in {200, 400}
