"""The OpenTelemetry SDKs for Go, Java and Node.js send all signals, and the hub stores what they sent.

The programs are in tests/senders. Each prints the records that it sent, with the field names of the hub's API.
"""

import html
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import pytest

from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.senders import Sent, run_sender

pytestmark = [pytest.mark.extended, pytest.mark.slow]

SENDER_PROPERTY = "-Dio.opentelemetry.sdk.common.export.HttpSenderProvider=io.opentelemetry.exporter.sender"
OKHTTP = (f"{SENDER_PROPERTY}.okhttp.internal.OkHttpHttpSenderProvider", "Sender")
# This HTTP client sends the header "Upgrade: h2c" with the first request of each connection.
JDK = (f"{SENDER_PROPERTY}.jdk.internal.JdkHttpSenderProvider", "Sender")


class Case(NamedTuple):
    """An SDK and a protocol."""

    language: str
    protocol: str
    options: tuple[str, ...] = ()
    compression: str = "none"
    temporality: str = "cumulative"


CASES = {
    "go-protobuf": Case("go", "http/protobuf"),
    "go-grpc": Case("go", "grpc", compression="gzip", temporality="delta"),
    "java-protobuf": Case("java", "http/protobuf", OKHTTP, compression="gzip"),
    "java-jdk-protobuf": Case("java", "http/protobuf", JDK),
    "java-grpc": Case("java", "grpc", OKHTTP, temporality="delta"),
    "node-protobuf": Case("node", "http/protobuf", temporality="delta"),
    "node-json": Case("node", "http/json", compression="gzip"),
    "node-grpc": Case("node", "grpc"),
}
# Columns that hold a double even where a sender has measured an integer.
DOUBLES = {"value", "sum", "min", "max"}


@dataclass(frozen=True)
class Delivery:
    """The records that a sender sent, and the hub that received them."""

    sent: Sent
    hub: InProcessHub
    service: str
    temporality: str

    @property
    def trace_id(self) -> str:
        """The only trace ID of the sender."""
        (trace_id,) = {span["trace_id"] for span in self.sent.of_kind("span")}
        return str(trace_id)

    def get(self, path: str, **parameters: str | int) -> httpx.Response:
        """Return the JSON of an API call; an error fails the test."""
        return httpx.get(f"{self.hub.page_url}{path}", params=parameters, timeout=30).raise_for_status()

    def trace(self) -> Any:
        """Return the stored trace."""
        return self.get(f"/api/traces/{self.trace_id}", limit=10_000).json()


def deliver(hub: InProcessHub, service: str, case: Case, *options: str) -> Delivery:
    """Run a sender until it ends."""
    port = hub.settings.grpc_port if case.protocol == "grpc" else hub.settings.http_port
    environment = {
        "OTEL_EXPORTER_OTLP_COMPRESSION": case.compression,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": case.protocol,
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": case.temporality,
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_RESOURCE_ATTRIBUTES": "of.the.variable=%C3%9F",
        "OTEL_SERVICE_NAME": service,
        "OTEL_TRACES_EXPORTER": "otlp",
    }
    sent = run_sender(case.language, [*case.options, *options], environment)
    return Delivery(sent, hub, service, case.temporality)


@pytest.fixture(scope="module", params=CASES)
def delivery(request: pytest.FixtureRequest, hub: InProcessHub) -> Delivery:
    """Run each sender with each protocol."""
    return deliver(hub, f"sender {request.param}", CASES[request.param])


def test_the_sdk_logs_no_error(delivery: Delivery) -> None:
    """No export fails, and no response is a partial success: the SDK would log it."""
    assert delivery.sent.complaints == ""


def test_every_span_is_stored_as_it_was_sent(delivery: Delivery) -> None:
    """All fields, events and links of all spans are stored, and no other spans."""
    spans = delivery.trace()["spans"]
    stored = {span["span_id"]: span for span in spans}
    sent = {span["span_id"]: span for span in delivery.sent.of_kind("span")}

    assert sorted(span["span_id"] for span in spans) == sorted(sent)
    assert {span["kind"] for span in sent.values()} == {"INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"}
    assert [line for key, span in sent.items() for line in differences(span, stored[key])] == []
    assert_origin(delivery, spans)


def test_every_log_record_is_stored_as_it_was_sent(delivery: Delivery) -> None:
    """All fields of all records, inside and outside the span, are stored, and no other records."""
    records = logs(delivery)
    stored = {record["time_ns"]: decoded(record) for record in records}
    sent = {record["time_ns"]: record for record in delivery.sent.of_kind("log")}

    assert sorted(record["time_ns"] for record in records) == sorted(sent)
    assert [line for key, record in sent.items() for line in differences(record, stored[key])] == []
    assert_origin(delivery, records)


def test_the_log_records_of_the_span_are_those_of_its_trace(delivery: Delivery) -> None:
    """The trace has the records that were written inside the span, in their order."""
    inside = [record["time_ns"] for record in delivery.sent.of_kind("log") if record["trace_id"]]

    assert [record["time_ns"] for record in delivery.trace()["logs"]] == sorted(inside)
    assert inside


def test_every_data_point_is_stored_as_it_was_sent(delivery: Delivery) -> None:
    """All fields of all points of all instruments are stored, and no other points."""
    sent = {series(point): point for point in delivery.sent.of_kind("point")}
    points = [
        point
        for name in {name for name, _ in sent}
        for point in delivery.get("/api/metrics", name=name, service=delivery.service).json()["points"]
    ]
    stored = {series(point): point for point in points}

    assert sorted(map(series, points)) == sorted(sent)
    for key, point in sent.items():
        if recorded := point.pop("recorded", None):
            assert_in_buckets(recorded, stored[key])
        if point["temporality"] and point["is_monotonic"] is not False:  # up-down counters are always cumulative
            point["temporality"] = delivery.temporality.upper()
        assert list(differences(point, stored[key])) == []
    assert_origin(delivery, points)


def test_every_exemplar_is_stored_as_it_was_sent(delivery: Delivery) -> None:
    """Each measurement inside the span is an exemplar of the trace, if the SDK sends exemplars."""
    stored = sorted(delivery.trace()["exemplars"], key=measured)
    sent = sorted(delivery.sent.of_kind("exemplar"), key=measured)

    assert [measured(exemplar) for exemplar in stored] == [measured(exemplar) for exemplar in sent]
    for sent_exemplar, stored_exemplar in zip(sent, stored, strict=True):
        assert list(differences(sent_exemplar, stored_exemplar)) == []


def test_the_pages_show_the_telemetry(delivery: Delivery) -> None:
    """The trace page shows all attributes of each span, with exact integers; all other pages render."""
    for span in delivery.sent.of_kind("span"):
        text = delivery.get(f"/t/{delivery.trace_id}", span=span["span_id"]).text
        page = html.unescape(text.replace("<wbr>", ""))
        for key, value in span["attributes"].items():
            assert key in page
            assert not isinstance(value, int) or str(value).lower() in page
    assert delivery.trace_id in delivery.get("/traces", filter=f'service = "{delivery.service}"').text
    assert delivery.service in delivery.get("/").text
    for path in ("/models", "/predictions"):
        delivery.get(path)


def test_an_integer_out_of_range_omits_only_that_value(hub: InProcessHub) -> None:
    """The SDK for Node.js writes 1.5e300 as an integer. The hub stores the rest and warns the SDK."""
    delivery = deliver(hub, "sender huge", CASES["node-json"], "huge")
    spans = delivery.trace()["spans"]
    (root,) = [span for span in spans if span["kind"] == "SERVER"]
    (sent,) = [span for span in delivery.sent.of_kind("span") if span["kind"] == "SERVER"]

    assert len(spans) == len(delivery.sent.of_kind("span"))
    assert len(logs(delivery)) == len(delivery.sent.of_kind("log"))
    assert sent["attributes"]["double.huge"] == 1.5e300
    assert list(differences(sent | {"attributes": sent["attributes"] | {"double.huge": None}}, root)) == []
    assert "Partial Success" in delivery.sent.complaints


def logs(delivery: Delivery) -> list[dict[str, Any]]:
    """Return the log records of the sender."""
    records: list[dict[str, Any]] = delivery.get("/api/logs", service=delivery.service, limit=1000).json()["logs"]
    return records


def decoded(record: dict[str, Any]) -> dict[str, Any]:
    """Return a log record with its body decoded from JSON."""
    return {**record, "body": json.loads(record["body"])} if record["body_structured"] else record


def series(point: Mapping[str, Any]) -> tuple[str, str]:
    """Return the identity of a point of the sender."""
    return point["name"], exact(point["attributes"])


def measured(exemplar: Mapping[str, Any]) -> tuple[str, float]:
    """Return the identity of an exemplar of the sender."""
    return exemplar["metric_name"], exemplar["value"] if exemplar.get("value_int") is None else exemplar["value_int"]


def differences(sent: Mapping[str, Any], stored: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Return the fields that are stored differently. The types of attributes and bodies must be equal, too."""
    for name, value in sent.items():
        if name in {"events", "links"}:
            for index, (sent_item, stored_item) in enumerate(zip(value, stored[name], strict=True)):
                yield from differences(sent_item, stored_item, f"{where}{name}[{index}].")
            continue
        expected = float(value) if name in DOUBLES and isinstance(value, int) else value
        if exact(expected) != exact(stored[name]):
            yield f"{where}{name}: sent {value!r}, stored {stored[name]!r}"


def exact(value: Any) -> str:
    """Return a value as text: 1, 1.0 and true give different texts."""
    return json.dumps(value, sort_keys=True)


def assert_origin(delivery: Delivery, records: list[dict[str, Any]]) -> None:
    """Assert that all records have the resource of the environment variables."""
    assert {record["service_name"] for record in records} == {delivery.service}
    assert {record["resource_attributes"]["of.the.variable"] for record in records} == {"ß"}


def assert_in_buckets(recorded: list[float], point: Mapping[str, Any]) -> None:
    """Assert that the buckets of an exponential histogram contain the recorded values."""
    first, counts = point["positive_offset"], point["positive_counts"]
    buckets = {first + place: count for place, count in enumerate(counts) if count}

    expected: dict[int, int] = {}
    for value in filter(None, recorded):
        index = math.ceil(math.log2(value) * 2.0 ** point["scale"]) - 1
        expected[index] = expected.get(index, 0) + 1
    assert buckets == expected
    assert sum(point["negative_counts"]) == 0
