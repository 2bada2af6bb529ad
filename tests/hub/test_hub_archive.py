"""Archives: what is written is read again, other files are opened, and a command is recorded."""

import gzip
import io
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    EntityRef,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
    Summary,
    SummaryDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, span, trace_request
from tests.helpers.processes import run

TRACE_ID = "ab" * 16
SPAN_ID = "01" * 8
SECOND = 10**9
START = 1_700_000_000 * SECOND

ATTRIBUTES = [
    attribute("text", "<b>é\n"),
    KeyValue(key="int", value=AnyValue(int_value=2**62)),
    KeyValue(key="double", value=AnyValue(double_value=1.0)),
    KeyValue(key="bool", value=AnyValue(bool_value=False)),
    KeyValue(key="bytes", value=AnyValue(bytes_value=b"\x00\xff")),
    KeyValue(key="none", value=AnyValue()),
    KeyValue(key="list", value=AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue()]))),
    KeyValue(key="map", value=AnyValue(kvlist_value=KeyValueList(values=[attribute("k", "v")]))),
]
RESOURCE = Resource(
    attributes=[attribute("service.name", "shop"), *ATTRIBUTES],
    dropped_attributes_count=1,
    entity_refs=[EntityRef(schema_url="u", type="service", id_keys=["service.name"], description_keys=["text"])],
)
SCOPE = InstrumentationScope(name="scope", version="1", attributes=ATTRIBUTES, dropped_attributes_count=2)
IDS = {"trace_id": bytes.fromhex(TRACE_ID), "span_id": bytes.fromhex(SPAN_ID)}


def full_requests() -> dict[str, Any]:
    """Return a request of each signal with every field that OTLP has."""
    spans = [
        Span(
            **IDS,
            trace_state="a=b",
            flags=257,
            name="root",
            kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=START,
            end_time_unix_nano=START + SECOND,
            attributes=ATTRIBUTES,
            dropped_attributes_count=1,
            events=[Span.Event(time_unix_nano=START, name="event", attributes=ATTRIBUTES, dropped_attributes_count=3)],
            dropped_events_count=2,
            links=[Span.Link(**IDS, trace_state="c=d", attributes=ATTRIBUTES, dropped_attributes_count=4, flags=1)],
            dropped_links_count=5,
            status=Status(code=Status.STATUS_CODE_ERROR, message="it failed"),
        ),
        span(trace_id=IDS["trace_id"], parent_span_id=IDS["span_id"], start_time_unix_nano=START, kind=9),
    ]
    log = LogRecord(
        **IDS,
        time_unix_nano=START,
        observed_time_unix_nano=START + 1,
        severity_number=17,
        severity_text="ERROR",
        event_name="event",
        body=AnyValue(kvlist_value=KeyValueList(values=ATTRIBUTES)),
        attributes=ATTRIBUTES,
        dropped_attributes_count=1,
        flags=1,
    )
    times = {"start_time_unix_nano": START - SECOND, "time_unix_nano": START + 2 * SECOND, "flags": 0}
    exemplar = Exemplar(**IDS, time_unix_nano=START, as_double=0.5, filtered_attributes=ATTRIBUTES)
    point = {**times, "attributes": ATTRIBUTES, "exemplars": [exemplar]}
    buckets = ExponentialHistogramDataPoint.Buckets(offset=-3, bucket_counts=[1, 0, 2])
    metrics = [
        Metric(name="gauge", unit="s", gauge=Gauge(data_points=[NumberDataPoint(**point, as_double=float("inf"))])),
        Metric(
            name="sum",
            description="d",
            metadata=ATTRIBUTES,
            sum=Sum(aggregation_temporality=1, is_monotonic=True, data_points=[NumberDataPoint(**point, as_int=2**62)]),
        ),
        Metric(
            name="histogram",
            histogram=Histogram(
                aggregation_temporality=2,
                data_points=[
                    HistogramDataPoint(
                        **point, count=3, sum=1.5, min=0, max=1, bucket_counts=[1, 2], explicit_bounds=[0.5]
                    )
                ],
            ),
        ),
        Metric(
            name="exponential",
            exponential_histogram=ExponentialHistogram(
                aggregation_temporality=2,
                data_points=[
                    ExponentialHistogramDataPoint(
                        **point, count=7, scale=2, zero_count=1, zero_threshold=0.1, positive=buckets, negative=buckets
                    )
                ],
            ),
        ),
        Metric(
            name="summary",
            summary=Summary(
                data_points=[
                    SummaryDataPoint(
                        **times,
                        attributes=ATTRIBUTES,
                        count=2,
                        sum=3,
                        quantile_values=[SummaryDataPoint.ValueAtQuantile(quantile=0.5, value=1.5)],
                    )
                ]
            ),
        ),
    ]
    shared = {"resource": RESOURCE, "schema_url": "r"}
    scope = {"scope": SCOPE, "schema_url": "s"}
    return {
        "traces": ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(**shared, scope_spans=[ScopeSpans(**scope, spans=spans)])]
        ),
        "logs": ExportLogsServiceRequest(
            resource_logs=[ResourceLogs(**shared, scope_logs=[ScopeLogs(**scope, log_records=[log])])]
        ),
        "metrics": ExportMetricsServiceRequest(
            resource_metrics=[ResourceMetrics(**shared, scope_metrics=[ScopeMetrics(**scope, metrics=metrics)])]
        ),
    }


def tables(hub: InProcessHub) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows without their time of arrival."""
    columns = {
        **dict.fromkeys(("spans", "logs", "metric_points", "exemplars"), "* EXCLUDE (received_ns)"),
        **dict.fromkeys(("resources", "scopes"), "*"),
    }
    return {
        table: hub.rows(f"SELECT {selected} FROM {table} ORDER BY ALL")  # noqa: S608  fixed names
        for table, selected in columns.items()
    }


@pytest.fixture(scope="module")
def hub() -> Iterator[InProcessHub]:
    """Yield a hub with a request of each signal, and a span of another trace."""
    with in_process_hub() as hub:
        headers = {"Content-Type": "application/x-protobuf"}
        for path, request in full_requests().items():
            hub.client.post(f"/v1/{path}", content=request.SerializeToString(), headers=headers).raise_for_status()
        yield hub


def archive(hub: InProcessHub, **parameters: Any) -> bytes:
    """Return an archive."""
    response = httpx.get(f"{hub.page_url}/api/archive", params=parameters, timeout=60)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/zip"
    return response.content


def upload(hub: InProcessHub, content: bytes) -> httpx.Response:
    """Store a file by the API."""
    return httpx.post(f"{hub.page_url}/api/archive", content=content, timeout=60)


def test_another_hub_stores_the_same_rows(hub: InProcessHub) -> None:
    """Every column of every table survives."""
    content = archive(hub, since="0")
    with in_process_hub() as other:
        answer = upload(other, content).json()
        assert answer == {"stored": {"traces": 2, "logs": 1, "metrics": 5}, "rejected": 0, "trace_ids": [TRACE_ID]}
        assert tables(other) == tables(hub)


def test_an_archive_of_a_trace_has_its_spans_log_records_and_points(hub: InProcessHub) -> None:
    """A summary is not in it, because no attribute or exemplar shows that the trace contributed to it."""
    content = archive(hub, trace_id=TRACE_ID.upper())
    with in_process_hub() as other:
        upload(other, content).raise_for_status()
        expected = tables(hub)
        names = [name for (name,) in hub.rows("SELECT name FROM metric_points") if name != "summary"]
        assert sorted(names) == sorted(name for (name,) in other.rows("SELECT name FROM metric_points"))
        assert {**tables(other), "metric_points": []} == {**expected, "metric_points": []}


def test_the_page_of_an_archive_needs_nothing_else(hub: InProcessHub) -> None:
    """It has no scripts and no addresses, escapes telemetry, and shows spans and log records."""
    files = zipfile.ZipFile(io.BytesIO(archive(hub, trace_id=TRACE_ID)))
    page = files.read("index.html").decode()
    assert not re.search(r"<script|https?://|src=|href=", page)
    assert "&lt;b&gt;é" in page
    assert "it failed" in page
    assert "<b>é" not in page
    assert orjson.loads(files.read("manifest.json"))["spans"] == 2
    assert [*orjson.loads(files.read("traces.jsonl"))] == ["resourceSpans"]


@pytest.mark.slow
def test_a_large_trace_has_a_page_of_at_most_1_mb() -> None:
    """The page lists fewer spans; the JSON has all."""
    with in_process_hub() as hub:
        spans = [
            span(trace_id=IDS["trace_id"], name=f"span {number}", attributes=[attribute("text", "x" * 1500)])
            for number in range(3000)
        ]
        body = trace_request(*spans).SerializeToString()
        hub.client.post("/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"})
        files = zipfile.ZipFile(io.BytesIO(archive(hub, trace_id=TRACE_ID)))
    assert 100_000 < files.getinfo("index.html").file_size <= 10**6
    assert "more\u202f" in files.read("index.html").decode() or "more span" in files.read("index.html").decode()
    lines = files.read("traces.jsonl").splitlines()
    groups = [orjson.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"] for line in lines]
    assert sum(map(len, groups)) == 3000
    assert max(map(len, lines)) <= 4 * 2**20


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


SPAN = {"traceId": TRACE_ID, "spanId": SPAN_ID, "name": "n"}


def line_of(span: dict[str, Any]) -> bytes:
    """Return a line with a span."""
    return orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}) + b"\n"


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


@pytest.mark.parametrize(
    "parameters", [{}, {"trace_id": TRACE_ID, "since": "1h"}, {"trace_id": "xyz"}, {"since": "never"}]
)
def test_invalid_selections_are_rejected(hub: InProcessHub, parameters: dict[str, str]) -> None:
    """An archive needs trace IDs or a time range."""
    assert httpx.get(f"{hub.page_url}/api/archive", params=parameters).status_code == 422


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


PROGRAM = """
import os, sys, urllib.request
body = sys.argv[1].encode()
request = urllib.request.Request(os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/traces", body)
request.add_header("Content-Type", "application/json")
urllib.request.urlopen(request)
print(os.environ["OTEL_SERVICE_NAME"], os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
sys.exit(3)
"""


@pytest.mark.slow
def test_a_command_is_recorded(tmp_path: Path) -> None:
    """The archive has what the command sent, and the exit code is that of the command."""
    body = orjson.dumps(
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": TRACE_ID, "spanId": SPAN_ID, "name": "n"}]}]}]}
    )
    output = tmp_path / "run.zip"
    arguments = ["--output", str(output), "--", sys.executable, "-c", PROGRAM, body.decode()]
    environ = {
        "MODELTRACE_HUB_KEY": "a-key-of-twenty-characters",
        "OTEL_SERVICE_NAME": "job",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9",
    }

    ended = run(["modeltrace_hub", "record", *arguments], env=environ)

    assert (ended.returncode, ended.stdout) == (3, "job None\n"), ended.stderr
    assert f"1\u202fspan, 0\u202flog records, 0\u202fdata points in {output}" in ended.stderr
    assert TRACE_ID in zipfile.ZipFile(output).read("traces.jsonl").decode()
    assert run(["modeltrace_hub", "record", "--output", str(output), "--", "/no/such/command"]).returncode == 127
