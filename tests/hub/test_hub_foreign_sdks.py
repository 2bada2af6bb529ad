"""The OpenTelemetry SDKs for Go, Java and Node.js send all signals, and the hub shows what they have sent.

The programs are in tests/senders. Each prints the records that it has sent, with the names of the hub's API.
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
# The first request of each connection of this one has the header "Upgrade: h2c".
JDK = (f"{SENDER_PROPERTY}.jdk.internal.JdkHttpSenderProvider", "Sender")


class Case(NamedTuple):
    """A way to send."""

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
    """What a sender has sent, and the hub that it has sent it to."""

    sent: Sent
    hub: InProcessHub
    service: str
    temporality: str

    @property
    def trace_id(self) -> str:
        """The only trace of the sender."""
        (trace_id,) = {span["trace_id"] for span in self.sent.of_kind("span")}
        return str(trace_id)

    def get(self, path: str, **parameters: str | int) -> httpx.Response:
        """What the hub answers; a failure fails the test."""
        return httpx.get(f"{self.hub.page}{path}", params=parameters, timeout=30).raise_for_status()

    def trace(self) -> Any:
        """All that the hub has of the trace."""
        return self.get(f"/api/traces/{self.trace_id}", limit=10_000).json()


def deliver(hub: InProcessHub, service: str, case: Case, *options: str) -> Delivery:
    """Run a sender to its end."""
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
    """A run of each sender with each protocol."""
    return deliver(hub, f"sender {request.param}", CASES[request.param])


def test_the_sdk_has_no_complaint(delivery: Delivery) -> None:
    """No export fails, and no answer is a partial success: the SDK would have logged it."""
    assert delivery.sent.complaints == ""


def test_every_span_is_stored_as_it_was_sent(delivery: Delivery) -> None:
    """Each field of each span, its events and its links, and no span beside them."""
    spans = delivery.trace()["spans"]
    stored = {span["span_id"]: span for span in spans}
    sent = {span["span_id"]: span for span in delivery.sent.of_kind("span")}

    assert sorted(span["span_id"] for span in spans) == sorted(sent)
    assert {span["kind"] for span in sent.values()} == {"INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"}
    assert [line for key, span in sent.items() for line in differences(span, stored[key])] == []
    assert_origin(delivery, spans)


def test_every_log_record_is_stored_as_it_was_sent(delivery: Delivery) -> None:
    """Each field of each record, inside and outside of the span, and no record beside them."""
    records = logs(delivery)
    stored = {record["time_ns"]: decoded(record) for record in records}
    sent = {record["time_ns"]: record for record in delivery.sent.of_kind("log")}

    assert sorted(record["time_ns"] for record in records) == sorted(sent)
    assert [line for key, record in sent.items() for line in differences(record, stored[key])] == []
    assert_origin(delivery, records)


def test_the_log_records_of_the_span_are_those_of_its_trace(delivery: Delivery) -> None:
    """The trace has the records that were written inside, in their order."""
    inside = [record["time_ns"] for record in delivery.sent.of_kind("log") if record["trace_id"]]

    assert [record["time_ns"] for record in delivery.trace()["logs"]] == sorted(inside)
    assert inside


def test_every_data_point_is_stored_as_it_was_sent(delivery: Delivery) -> None:
    """Each field of each point of each instrument, and no point beside them."""
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
    """Each measurement inside the span is an exemplar of the trace, where the SDK sends exemplars."""
    stored = sorted(delivery.trace()["exemplars"], key=measured)
    sent = sorted(delivery.sent.of_kind("exemplar"), key=measured)

    assert [measured(exemplar) for exemplar in stored] == [measured(exemplar) for exemplar in sent]
    for one, other in zip(sent, stored, strict=True):
        assert list(differences(one, other)) == []


def test_the_pages_show_it(delivery: Delivery) -> None:
    """The page of the trace shows all attributes of each span, integers to the last digit; every other page renders."""
    for span in delivery.sent.of_kind("span"):
        text = delivery.get(f"/t/{delivery.trace_id}", span=span["span_id"]).text
        page = html.unescape(text.replace("<wbr>", ""))
        for key, value in span["attributes"].items():
            assert key in page
            assert not isinstance(value, int) or str(value).lower() in page
    assert delivery.trace_id in delivery.get("/traces", service=delivery.service).text
    assert delivery.service in delivery.get("/").text
    for path in ("/models", "/predictions"):
        delivery.get(path)


def test_an_integer_out_of_range_costs_that_value_alone(hub: InProcessHub) -> None:
    """The SDK for Node.js writes 1.5e300 as an integer. The hub stores the rest, and tells the SDK."""
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
    """The log records of the sender."""
    records: list[dict[str, Any]] = delivery.get("/api/logs", service=delivery.service, limit=1000).json()["logs"]
    return records


def decoded(record: dict[str, Any]) -> dict[str, Any]:
    """A log record with its body as a value rather than as JSON."""
    return {**record, "body": json.loads(record["body"])} if record["body_structured"] else record


def series(point: Mapping[str, Any]) -> tuple[str, str]:
    """What tells the points of a sender from each other."""
    return point["name"], exact(point["attributes"])


def measured(exemplar: Mapping[str, Any]) -> tuple[str, float]:
    """What tells the exemplars of a sender from each other."""
    return exemplar["metric_name"], exemplar["value"] if exemplar.get("value_int") is None else exemplar["value_int"]


def differences(sent: Mapping[str, Any], stored: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """The fields that were sent and are stored differently. Attributes and bodies must have the same types, too."""
    for name, value in sent.items():
        if name in {"events", "links"}:
            for index, (one, other) in enumerate(zip(value, stored[name], strict=True)):
                yield from differences(one, other, f"{where}{name}[{index}].")
            continue
        expected = float(value) if name in DOUBLES and isinstance(value, int) else value
        if exact(expected) != exact(stored[name]):
            yield f"{where}{name}: sent {value!r}, stored {stored[name]!r}"


def exact(value: Any) -> str:
    """A value as text: 1, 1.0 and true are different texts."""
    return json.dumps(value, sort_keys=True)


def assert_origin(delivery: Delivery, records: list[dict[str, Any]]) -> None:
    """All records have the resource of the environment variables."""
    assert {record["service_name"] for record in records} == {delivery.service}
    assert {record["resource_attributes"]["of.the.variable"] for record in records} == {"ß"}


def assert_in_buckets(recorded: list[float], point: Mapping[str, Any]) -> None:
    """The buckets of an exponential histogram are those of the values that were recorded."""
    first, counts = point["positive_offset"], point["positive_counts"]
    buckets = {first + place: count for place, count in enumerate(counts) if count}

    expected: dict[int, int] = {}
    for value in filter(None, recorded):
        index = math.ceil(math.log2(value) * 2.0 ** point["scale"]) - 1
        expected[index] = expected.get(index, 0) + 1
    assert buckets == expected
    assert sum(point["negative_counts"]) == 0
