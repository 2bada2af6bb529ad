"""The Collector does not lose log records on their way to Loki (a receiver in its place) or to a file."""

import gzip
import resource
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from modeltrace.doctor.backends.backend import LogRecordRef
from modeltrace.doctor.backends.log_file import LogFile
from tests.helpers.collector import BASE, OTEL, Collector, Sink, running_collector, running_sink
from tests.helpers.log_stores import FileLogs
from tests.helpers.processes import free_port, wait_until
from tests.helpers.receivers import OtlpEndpoint, Response, otlp_http

pytestmark = pytest.mark.stack

LOG_FILE = OTEL / "log-file.yaml"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    """Run a receiver in place of the other backends."""
    with running_sink(tmp_path_factory.mktemp("sink")) as sink:
        yield sink


def records(numbers: Iterable[int], padding: str = "") -> dict[str, Any]:
    """Build a request with one record per number."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "numbered"}}]}
    logs = [
        {
            "timeUnixNano": str(10**18 + number),
            "severityText": "INFO",
            "body": {"stringValue": f"{number}{padding}"},
            "traceId": TRACE,
            "spanId": "00f067aa0ba902b7",
            "eventName": "a.number",
            "attributes": [
                {"key": "number", "value": {"intValue": str(number)}},
                {"key": "map", "value": {"kvlistValue": {"values": [{"key": "a", "value": {"doubleValue": 1.5}}]}}},
                {"key": "password", "value": {"stringValue": "secret"}},
            ],
        }
        for number in numbers
    ]
    return {
        "resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": {"name": "a.logger"}, "logRecords": logs}]}]
    }


def send(collector: Collector, *numbers: int, padding: str = "") -> int:
    """Send records in one request and return the status of the response."""
    return httpx.post(f"{collector.http}/v1/logs", json=records(numbers, padding), timeout=30).status_code


def in_file(collector: Collector) -> FileLogs:
    """Return what the Collector has written."""
    return FileLogs(collector.data / "storage" / "logs" / "records.jsonl")


def numbers_in(file: FileLogs) -> Counter[int]:
    """Count each number in the file."""
    return Counter(record["attributes"]["number"] for record in file.records(TRACE))


def numbers_at(endpoint: OtlpEndpoint) -> Counter[int]:
    """Count each number that an endpoint received."""
    requests = [ExportLogsServiceRequest.FromString(gzip.decompress(body)) for body in endpoint.accepted]
    return Counter(
        int(log.body.string_value)
        for request in requests
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for log in scope.log_records
    )


def test_records_wait_on_disk_while_loki_is_unavailable(sink: Sink, tmp_path: Path) -> None:
    """Loki is unreachable, the Collector is killed, and Loki is not ready: each record arrives exactly once."""
    port, everything = free_port(), range(200)
    environment = {**sink.backends, "LOKI_OTLP_ENDPOINT": f"http://127.0.0.1:{port}/otlp"}
    with running_collector(BASE, data=tmp_path, **environment) as collector:
        assert {send(collector, number) for number in everything[:100]} == {200}
        collector.stop(signum=signal.SIGKILL)
        collector.start()
        assert {send(collector, number) for number in everything[100:]} == {200}
        waiting = {"exporter": "otlp_http/loki", "data_type": "logs"}
        assert collector.metric("otelcol_exporter_queue_size", **waiting) > 0
        with otlp_http(port) as loki:
            loki.respond = lambda _: Response(503 if len(loki.requests) < 3 else 200)
            wait_until(lambda: numbers_at(loki).total() >= len(everything), description="every record")
            wait_until(
                lambda: collector.metric("otelcol_exporter_queue_size", **waiting) == 0, description="an empty queue"
            )

    assert numbers_at(loki) == Counter(everything)
    assert {sent.path for sent in loki.requests} == {"/otlp/v1/logs"}


def test_the_file_contains_the_records_without_secrets(sink: Sink, tmp_path: Path) -> None:
    """Times, IDs, names and types are kept, secrets are removed, and only the user can read the file."""
    with running_collector(BASE, LOG_FILE, data=tmp_path, **sink.backends) as collector:
        assert send(collector, 7) == 200
        file = in_file(collector)
        (record,) = file.records(TRACE)

    assert record | {"attributes": {}} == {
        "scope_name": "a.logger",
        "trace_id": TRACE,
        "span_id": "00f067aa0ba902b7",
        "severity_text": "INFO",
        "event_name": "a.number",
        "body": "7",
        "attributes": {},
    }
    expected = {"service.name": "numbered", "number": 7, "map": {"a": 1.5}, "event.name": "a.number"}
    assert record["attributes"].items() >= expected.items()
    assert "secret" not in file.path.read_text()
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


def test_acknowledged_records_survive_a_kill_of_the_collector(sink: Sink, tmp_path: Path) -> None:
    """After three SIGKILLs under load each acknowledged record is in the file once."""
    acknowledged: list[int] = []
    over = Event()

    def keep_sending(collector: Collector) -> None:
        number = 0
        while not over.is_set():
            try:
                if send(collector, number, padding="x" * 100_000) == 200:
                    acknowledged.append(number)
            except httpx.HTTPError:
                pass
            number += 1

    with running_collector(BASE, LOG_FILE, data=tmp_path, **sink.backends) as collector:
        thread = Thread(target=keep_sending, args=(collector,))
        thread.start()
        try:
            for _ in range(3):
                before = len(acknowledged)
                wait_until(lambda before=before: len(acknowledged) >= before + 50, description="50 records")  # type: ignore[misc]
                collector.stop(signum=signal.SIGKILL)
                collector.start()
        finally:
            over.set()
            thread.join()
        stored = numbers_in(in_file(collector))

    assert len(acknowledged) > 150
    assert {number: stored[number] for number in acknowledged if stored[number] != 1} == {}


def test_records_that_cannot_be_written_are_rejected(sink: Sink, tmp_path: Path) -> None:
    """The sender is told to retry, the failure is counted, and the record is accepted once there is space."""
    with running_collector(BASE, LOG_FILE, data=tmp_path, **sink.backends) as collector:
        assert collector.process is not None
        assert send(collector, 0) == 200
        file, pid = in_file(collector), collector.process.popen.pid
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (file.path.stat().st_size + 100, most))
        refused = send(collector, 1)
        failed = collector.metric("otelcol_exporter_send_failed_log_records(?:_total)?", exporter="file/logs")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))

        assert refused == 503
        assert failed == 1
        assert send(collector, 1) == 200
        assert numbers_in(file) == {0: 1, 1: 1}
        assert len(LogFile(file.path)._read_records(TRACE)) == 2  # there is an incomplete line before the second record


def test_rotated_files_are_searched(sink: Sink, tmp_path: Path) -> None:
    """With files of 1 MB, each record is found in whichever file it is."""
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump({"exporters": {"file/logs": {"rotation": {"max_megabytes": 1}}}}))
    with running_collector(BASE, LOG_FILE, small, data=tmp_path / "data", **sink.backends) as collector:
        assert {send(collector, number, padding="x" * 100_000) for number in range(35)} == {200}
        file = in_file(collector)

        assert len(list(file.path.parent.iterdir())) == 4
        assert numbers_in(file) == Counter(range(35))
        seen = LogFile(file.path)._read_records(TRACE)
        assert seen == [LogRecordRef("a.logger", "a.number")] * 35


def test_and_local_restores_the_file_next_to_a_vendor(sink: Sink, tmp_path: Path) -> None:
    """otel/vendors/and-local.yaml restores the file, as it restores Loki."""
    with otlp_http() as vendor:
        configs = (LOG_FILE, OTEL / "vendors" / "otlp.yaml", OTEL / "vendors" / "and-local.yaml")
        environment = {
            **sink.backends,
            "VENDOR_OTLP_ENDPOINT": vendor.url,
            "VENDOR_OTLP_KEY": "key",
            "OTELCOL_LOG_EXPORTER": "file/logs",
        }
        with running_collector(BASE, *configs, data=tmp_path, **environment) as collector:
            assert send(collector, 1, 2) == 200
            assert numbers_in(in_file(collector)) == {1: 1, 2: 1}
            wait_until(
                lambda: b"a.number" in b"".join(map(unpacked, vendor.accepted)), description="the records at the vendor"
            )


def unpacked(body: bytes) -> bytes:
    """Return the bytes of a request, decompressed if necessary."""
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
