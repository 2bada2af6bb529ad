"""Files of telemetry that the hub opens: lines of the file exporter, JSON of Jaeger, and what it rejects."""

import gzip
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson
import pytest

from tests.helpers.archives import archive, tables, upload
from tests.helpers.full_telemetry import SPAN_ID, TRACE_ID
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub

SPAN = {"traceId": TRACE_ID, "spanId": SPAN_ID, "name": "n"}


def line_of(span: dict[str, Any]) -> bytes:
    """Return a line with a span."""
    return orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}) + b"\n"


@pytest.fixture(scope="module")
def hub() -> Iterator[InProcessHub]:
    """Yield a hub with one span."""
    with in_process_hub() as hub:
        upload(hub, line_of(SPAN)).raise_for_status()
        yield hub


def test_lines_of_the_file_exporter_are_opened() -> None:
    """A file has a request of any signal per line, as the file exporter of the Collector writes them."""
    lines = (
        '{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"scopeSpans":'
        '[{"scope":{},"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",'
        '"parentSpanId":"","name":"I","kind":2,"startTimeUnixNano":"1544712660000000000",'
        '"endTimeUnixNano":"1544712661000000000","status":{}}]}]}]}\n\n'
        '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","body":{"stringValue":"hello"}}]}]}]}\n'
    )
    with in_process_hub() as hub:
        assert upload(hub, lines.encode()).json()["stored"] == {"traces": 1, "logs": 1}
        assert hub.rows("SELECT name, kind, service_name FROM spans") == [("I", "SERVER", "a")]


JAEGER = {
    "data": [
        {
            "traceID": "1f",
            "processes": {
                "p1": {"serviceName": "shop", "tags": [{"key": "host", "type": "string", "value": "h"}]},
                "p2": {"serviceName": "bank"},
            },
            "spans": [
                {
                    "traceID": "1f",
                    "spanID": "a",
                    "operationName": "GET /",
                    "references": [],
                    "startTime": 1_700_000_000_000_000,
                    "duration": 1500,
                    "tags": [
                        {"key": "span.kind", "type": "string", "value": "server"},
                        {"key": "error", "type": "bool", "value": True},
                        {"key": "size", "type": "int64", "value": "12"},
                    ],
                    "logs": [
                        {
                            "timestamp": 1_700_000_000_000_001,
                            "fields": [{"key": "event", "type": "string", "value": "retry"}],
                        }
                    ],
                    "processID": "p1",
                },
                {
                    "traceID": "1f",
                    "spanID": "b",
                    "operationName": "pay",
                    "references": [
                        {"refType": "CHILD_OF", "traceID": "1f", "spanID": "a"},
                        {"refType": "FOLLOWS_FROM", "traceID": "2e", "spanID": "c"},
                    ],
                    "startTime": 1_700_000_000_000_100,
                    "duration": 5,
                    "processID": "p2",
                },
            ],
        }
    ]
}


def test_json_of_jaeger_is_opened() -> None:
    """Kinds, status, parents, links, events and processes have their fields in OTLP."""
    with in_process_hub() as hub:
        assert upload(hub, orjson.dumps(JAEGER)).json()["trace_ids"] == ["0" * 30 + "1f"]
        trace = httpx.get(f"{hub.page_url}/api/traces/{'0' * 30}1f").json()
    root, child = trace["spans"]
    assert (root["name"], root["kind"], root["status_code"], root["duration_ns"]) == (
        "GET /",
        "SERVER",
        "ERROR",
        1_500_000,
    )
    assert root["attributes"] == {"size": 12}
    assert root["resource_attributes"] == {"service.name": "shop", "host": "h"}
    assert [(event["name"], event["time_ns"]) for event in root["events"]] == [("retry", 1_700_000_000_000_001_000)]
    assert child["parent_span_id"] == root["span_id"]
    assert child["service_name"] == "bank"
    assert [link["trace_id"] for link in child["links"]] == ["0" * 30 + "2e"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no telemetry"),
        (b"notes", "Line 1 is not a JSON object"),
        (b"[]", "Line 1 is not a JSON object"),
        (b'{"a": 1}', "no telemetry"),
        (b'{"resourceSpans": 1}', "not a list"),
        (b'{"data": [{"spans": 1}]}', "not JSON of Jaeger"),
        (b"PK\x03\x04 broken", "archive cannot be read"),
    ],
)
def test_other_files_are_rejected(hub: InProcessHub, content: bytes, message: str) -> None:
    """The error says what is wrong and what can be opened; nothing is stored."""
    before = tables(hub)
    response = upload(hub, content)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
    assert tables(hub) == before


def test_a_file_that_expands_too_much_is_rejected(hub: InProcessHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit applies to the expanded files, whatever the archive says about their sizes."""
    monkeypatch.setattr("modeltrace_hub.archive.unpack.MAX_FILE_BYTES", 10_000)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("traces.jsonl", b" " * 20_000)
    assert upload(hub, target.getvalue()).status_code == 413


def zipped(content: bytes) -> bytes:
    """Return an archive with a file of traces."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("traces.jsonl", content)
    return target.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("pack", [zipped, gzip.compress, bytes], ids=["zip", "gzip", "plain"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n" * 200_000, "more than 100,000 lines"),
        (b'{"resourceSpans":[]}\n' * 100_001, "more than 100,000 lines"),
        (b'{"resourceSpans":[' + b"{}," * 400_000 + b"{}]}", "JSON objects and lists|more than 1,048,576 bytes"),
        (b'{"resourceSpans":[' + b"{}," * 200_000 + b"{}]}", "131,072 JSON objects and lists"),
    ],
    ids=["blank", "empty", "long", "dense"],
)
def test_a_small_file_that_is_many_objects_is_rejected_before_it_is_parsed(
    content: bytes, message: str, pack: Callable[[bytes], bytes]
) -> None:
    """Lines, the bytes of a line, and JSON objects are limited; memory is bounded, however well the file packs."""
    with in_process_hub(max_request_bytes=2**20) as hub:
        response = upload(hub, pack(content))
    assert response.status_code == 413
    assert re.search(message, response.json()["error"]["message"])


@pytest.mark.slow
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines_may_be_compressed_and_begin_with_a_byte_order_mark(pack: Callable[[bytes], bytes]) -> None:
    """Also one document of several lines."""
    document = orjson.dumps(orjson.loads(line_of(SPAN)), option=orjson.OPT_INDENT_2)
    with in_process_hub() as hub:
        for content in (line_of(SPAN) * 2, document, orjson.dumps(JAEGER)):
            response = upload(hub, pack(b"\xef\xbb\xbf\n" + content))
            assert response.json()["stored"] == {"traces": 1 if content == document else 2}, response.text


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"notes\n", "Line 3 is not a JSON object"),
        (b'{"a": 1}\n', "Line 3 has JSON that is no telemetry"),
        (b'{"resourceSpans": 1}\n', "Line 3: The body is JSON, but"),
    ],
)
def test_a_failed_import_says_what_was_stored(bad: bytes, message: str) -> None:
    """The message has the line, and the number of records of the lines before."""
    with in_process_hub() as hub:
        response = upload(hub, line_of(SPAN) + b"\n" + bad)
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith(message)
        assert response.json()["error"]["message"].endswith(" 1 records before it were stored.")
        assert hub.rows("SELECT count(*) FROM spans") == [(1,)]


def test_records_that_are_rejected_are_counted_with_their_reasons() -> None:
    """A file whose records are all rejected is an error, and spans of Jaeger without a process are rejected."""
    jaeger = orjson.loads(orjson.dumps(JAEGER))
    del jaeger["data"][0]["processes"]["p2"]
    with in_process_hub() as hub:
        response = upload(hub, line_of({**SPAN, "traceId": "x"}))
        assert response.status_code == 400
        assert "1 rejected: trace_id is not 16 bytes" in response.json()["error"]["message"]
        answer = upload(hub, orjson.dumps(jaeger)).json()
        assert (answer["stored"], answer["rejected"]) == ({"traces": 1}, 1)
        jaeger["data"][0]["processes"] = {}
        response = upload(hub, orjson.dumps(jaeger))
        assert "2 rejected: processID is not in the processes" in response.json()["error"]["message"]


def test_large_uploads_are_rejected_before_they_are_read(hub: InProcessHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload needs a Content-Length, which is compared with the limit."""
    monkeypatch.setattr("modeltrace_hub.archive.routes.MAX_UPLOAD_BYTES", 10)
    assert upload(hub, b"x" * 11).status_code == 413
    assert httpx.post(f"{hub.page_url}/open", files={"file": b"x" * 11}).status_code == 413
    assert httpx.post(f"{hub.page_url}/api/archive", content=iter([b"x"])).status_code == 400


def test_the_page_opens_a_file(hub: InProcessHub) -> None:
    """A form without scripts uploads the file, and leads to its trace; errors are shown on the page."""
    with in_process_hub() as other:
        assert 'type="file"' in httpx.get(f"{other.page_url}/open").text
        response = httpx.post(f"{other.page_url}/open", files={"file": archive(hub, trace_id=TRACE_ID)})
        assert (response.status_code, response.headers["Location"]) == (303, f"t/{TRACE_ID}")
        wrong = httpx.post(f"{other.page_url}/open", files={"file": b"notes"})
        assert wrong.status_code == 400
        assert "Line 1 is not a JSON object" in wrong.text
        foreign = {"Origin": "https://evil.example"}
        assert httpx.post(f"{other.page_url}/open", files={"file": b"x"}, headers=foreign).status_code == 403
