"""Log records read from the file of the service equal those sent over OTLP, without duplicates."""

import logging
import secrets
import signal
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pythonjsonlogger.orjson import OrjsonFormatter

from tests.helpers.collector import BASE, OTEL, Collector, Sink, running_collector, running_sink
from tests.helpers.load import LoadClients
from tests.helpers.processes import free_port, wait_until
from tests.helpers.services import running_service
from tests.helpers.toy import CONFIDENT, FAILING, LOW_CONFIDENCE, pack_toy, row

pytestmark = [pytest.mark.stack, pytest.mark.slow]

FILELOG = OTEL / "filelog.yaml"
FLUENT = OTEL.parent / "deploy" / "fluent-bit" / "collector.yaml"
# The options in the comment at the top of filelog.yaml: lines in progress during a crash are read again, not lost.
OPTIONS = ("--feature-gates=stanza.synchronousLogEmitter",)

# Lines read between two saves of the position, at the load of these tests.
A_POLL = 100

# Fields that are not in a line (docs/collector.md): the sender, the trace flags and the observed time.
NOT_IN_A_LINE = {
    "service.name", "service.instance.id", "service.version", "telemetry.sdk.language", "telemetry.sdk.name",
    "telemetry.sdk.version", "process.pid", "process.runtime.name", "process.runtime.version",
    "observedTimeUnixNano", "flags",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """One record as a backend receives it: time in nanoseconds, body, and all other fields by name."""

    at: int
    body: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, Any]:
        """Return the fields that must be the same in both ways."""
        return {"body": self.body} | {k: v for k, v in self.fields.items() if k not in NOT_IN_A_LINE}


def stored(sink: Sink) -> list[Stored]:
    """Return all records that arrived, grouped by body, without those of the loggers of OpenTelemetry."""
    apart = ("timeUnixNano", "body", "attributes", "resource")
    records = [
        Stored(
            int(item["timeUnixNano"]),
            item["body"]["stringValue"],
            {k: v for k, v in item.items() if k not in apart} | item["resource"] | item["attributes"],
        )
        for item in sink.items("logs")
        if not item["scope"].startswith("opentelemetry")
    ]
    return sorted(records, key=lambda record: (record.body, record.at))


def of_traces(records: list[Stored]) -> list[Stored]:
    """Return the records of requests."""
    return [record for record in records if record.fields.get("traceId")]


@dataclass(frozen=True)
class BothWays:
    """The same records over OTLP and from the file."""

    otlp: list[Stored]
    file: list[Stored]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Build the bundle and return the environment of its service."""
    return pack_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def both(toy: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> BothWays:
    """Run one service that sends its records over OTLP and writes them to a file, which a second Collector reads."""
    folder = tmp_path_factory.mktemp("both")
    bundle, needs = toy
    with ExitStack() as stack:
        direct, read = (stack.enter_context(running_sink(folder / name)) for name in ("direct", "read"))
        receiver = stack.enter_context(running_collector(BASE, data=folder / "receiver", **direct.backends))
        service = {
            **needs,
            "MODELTRACE_LOG_FILE": str(folder / "logs" / "service.log"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http,
            "OTEL_BLRP_SCHEDULE_DELAY": "100",
        }
        reader = {"MODELTRACE_LOG_FILE": service["MODELTRACE_LOG_FILE"], **read.backends}
        stack.enter_context(running_collector(BASE, FILELOG, data=folder / "reader", **reader))
        with serving(bundle, service) as url:
            for a in (CONFIDENT, LOW_CONFIDENCE, 3.5):
                httpx.post(f"{url}/predict", json={"features": row(a)}).raise_for_status()
            httpx.post(f"{url}/predict/batch", json={"rows": [row(1), row(99), {"a": "wide"}]}).raise_for_status()
            assert httpx.post(f"{url}/predict", json={"features": row(FAILING)}).status_code == 500
            assert httpx.post(f"{url}/predict", json={"features": {"a": "wide"}}).status_code == 422
            assert httpx.post(f"{url}/predict", content=b"not json").status_code == 400
            assert httpx.get(f"{url}/nothing?key=1").status_code == 404
        text = (folder / "logs" / "service.log").read_text()
        lines = [line for line in text.splitlines() if '"logger":"opentelemetry.' not in line]
        wait_until(lambda: len(stored(read)) >= len(lines), description=f"{len(lines)} lines")
        of_requests = sum(
            '"trace_id"' in line for line in lines
        )  # shutdown messages of the service may be in the file only
        wait_until(lambda: len(of_traces(stored(direct))) >= of_requests, description=f"{of_requests} records")
        return BothWays(stored(direct), stored(read))


@contextmanager
def serving(bundle: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a service. When the block ends, all of its records have been sent and written."""
    with running_service(bundle, **environment) as (process, url):
        yield url
        process.stop()


def test_records_equal_those_over_otlp(both: BothWays) -> None:
    """Time, body, severity, scope, trace, span and every attribute are the same."""
    otlp, file = of_traces(both.otlp), of_traces(both.file)

    assert len(otlp) > 15
    assert [record.body for record in file] == [record.body for record in otlp]
    pairs = [(sent.known, read.known) for sent, read in zip(otlp, file, strict=True)]
    assert [
        (sent["body"], name, sent.get(name), read.get(name))
        for sent, read in pairs
        for name in sent | read
        if sent.get(name) != read.get(name)
    ] == []
    assert all(abs(sent.at - read.at) < 2000 for sent, read in zip(otlp, file, strict=True))  # rounded to microseconds


def test_the_prediction_log_record_keeps_its_map_and_its_event_name(both: BothWays) -> None:
    """Features arrive as a map with their values."""
    records = [r.fields for r in both.file if r.fields.get("eventName") == "ml.prediction"]

    assert len(records) == 5
    inputs = [a["ml.prediction.inputs"] for a in records]
    assert {(of["a"], of["b"]) for of in inputs} >= {(50.5, LOW_CONFIDENCE / 7), (99, 99 / 7)}
    assert {a["scope"] for a in records} == {"modeltrace.prediction"}


def test_an_exception_is_parsed_into_attributes(both: BothWays) -> None:
    """Type, multi-line message and stack trace have the names of the semantic conventions."""
    (failed,) = [r.fields for r in both.file if "exception.type" in r.fields]

    assert failed["severityText"] == "ERROR"
    assert failed["exception.type"] == "InferenceError"
    assert failed["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert "BrokenError: thirteen: of all numbers\nthis one" in failed["exception.stacktrace"]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    """Run a receiver in place of the backends."""
    with running_sink(tmp_path / "sink") as sink:
        yield sink


def collector_of(sink: Sink, file: Path, data: Path) -> Collector:
    """Return a Collector that reads the file and sends to the receiver. It is not started."""
    return Collector([BASE, FILELOG], data, {**sink.backends, "MODELTRACE_LOG_FILE": str(file)}, OPTIONS)


def predictions(sink: Sink) -> list[tuple[str, str]]:
    """Return each prediction log record that arrived: the prediction ID and the time at which its line was read."""
    return [
        (item["attributes"]["ml.prediction.id"], item["observedTimeUnixNano"])
        for item in sink.items("logs")
        if item.get("eventName") == "ml.prediction"
    ]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_restarts_and_rotation_lose_nothing(
    end: signal.Signals, toy: tuple[Path, dict[str, str]], sink: Sink, tmp_path: Path
) -> None:
    """Under load and with constant rotation, the Collector is stopped and started again three times.

    Every answered prediction has its record. After an orderly stop no line is read again. After a crash, the lines
    after the last saved position are read again. A batch in flight is sent again unchanged; Loki deduplicates it.
    """
    bundle, needs = toy
    file = tmp_path / "logs" / "service.log"
    environment = {
        **needs,
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "MODELTRACE_LOG_FILE": str(file),
        "MODELTRACE_LOG_FILE_MAX_BYTES": "100000",
        "MODELTRACE_LOG_FILE_BACKUP_COUNT": "100",
    }
    collector = collector_of(sink, file, tmp_path / "collector")
    collector.start()
    with (
        serving(bundle, environment) as url,
        LoadClients(url, [row(CONFIDENT), row(LOW_CONFIDENCE)], clients=2, pause=0.01) as load,
    ):
        for _ in range(3):
            load.wait_for_answers(100)
            collector.stop(signum=end)
            load.wait_for_answers(100)
            collector.start()
        load.wait_for_answers(100)
    answered = set(load.prediction_ids)
    wait_until(
        lambda: answered <= {prediction for prediction, _ in predictions(sink)}, description=f"{len(answered)} records"
    )
    time.sleep(1)  # time for duplicates to arrive
    arrived = predictions(sink)
    collector.stop()

    rotated = len(list(file.parent.glob("service.log.*")))
    read_again = len(set(arrived)) - len(answered)
    sent_again = len(arrived) - len(set(arrived))
    print(f"{len(answered)} predictions, {rotated} rotated files, {read_again} read again, {sent_again} sent again")  # noqa: T201
    assert rotated > 3
    assert {prediction for prediction, _ in arrived} == answered
    assert read_again <= (0 if end == signal.SIGTERM else 3 * A_POLL)


def test_lines_written_before_the_first_start_are_read(sink: Sink, tmp_path: Path) -> None:
    """A file that is older than the Collector is read from its beginning, together with its rotated files."""
    file = tmp_path / "service.log"
    line = '{{"level":"INFO","logger":"a","message":"{}","timestamp":"2026-11-24T15:31:54.315916+00:00"}}\n'
    file.write_text(line.format("new"))
    file.with_name("service.log.1").write_text(line.format("old"))
    collector = collector_of(sink, file, tmp_path / "collector")
    collector.start()

    wait_until(lambda: len(sink.items("logs")) == 2, description="both lines")
    collector.stop()

    assert {item["body"]["stringValue"] for item in sink.items("logs")} == {"old", "new"}


def test_a_line_that_is_not_json_is_the_body_of_a_record(sink: Sink, tmp_path: Path) -> None:
    """Other lines become records with the line as body; an incomplete line waits for its end."""
    file = tmp_path / "service.log"
    file.write_text('not json\n{"level":"INFO","logger":"a","mess')
    collector = collector_of(sink, file, tmp_path / "collector")
    collector.start()
    wait_until(lambda: sink.items("logs"), description="the line")
    time.sleep(1)
    with file.open("a") as more:
        more.write('age":"whole","timestamp":"2026-11-24T15:31:54+00:00"}\n')

    wait_until(lambda: len(sink.items("logs")) == 2, description="the other line")
    collector.stop()

    assert [item["body"]["stringValue"] for item in sink.items("logs")] == ["not json", "whole"]


def test_logs_over_otlp_are_rejected(sink: Sink, tmp_path: Path) -> None:
    """A service that still sends its logs over OTLP gets an error, so no record arrives twice."""
    collector = collector_of(sink, tmp_path / "service.log", tmp_path / "collector")
    collector.start()

    answer = httpx.post(f"{collector.http}/v1/logs", content=b"", headers={"Content-Type": "application/x-protobuf"})
    traces = httpx.post(f"{collector.http}/v1/traces", content=b"", headers={"Content-Type": "application/x-protobuf"})
    collector.stop()

    assert (answer.status_code, traces.status_code) == (404, 200)


def forward(port: int, lines: list[str]) -> bytes:
    """Send lines as Fluent Bit does: one acknowledged message of the Forward protocol. Return the response.

    Source: Fluentd's Forward Protocol Specification v1, "Forward Mode"; MessagePack encoded by hand.
    """

    def text(value: str) -> bytes:
        raw = value.encode()
        return b"\xdb" + struct.pack(">I", len(raw)) + raw

    entries = b"".join(
        b"\x92\xce" + struct.pack(">I", int(time.time())) + b"\x81" + text("log") + text(line) for line in lines
    )
    message = b"\x93" + text("modeltrace") + b"\xdd" + struct.pack(">I", len(lines)) + entries
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(message + b"\x81" + text("chunk") + text("a-chunk"))
        return connection.recv(1000)


def test_records_from_fluent_bit_equal_those_from_the_file(sink: Sink, tmp_path: Path) -> None:
    """They differ only in the scope, which is an attribute."""
    log = logging.Logger("a.logger")  # noqa: LOG001  a separate logger, so that no other is changed
    file = tmp_path / "service.log"
    handler = logging.FileHandler(file)
    handler.setFormatter(
        OrjsonFormatter(
            ["levelname", "name", "message"], rename_fields={"levelname": "level", "name": "logger"}, timestamp=True
        )
    )
    log.addHandler(handler)
    inputs = {"a": 1.5, "plan": "basic", "missing": None, "vip": True}
    ids = {"trace_id": secrets.token_hex(16), "span_id": secrets.token_hex(8)}
    log.info("predicted", extra={"otel.event.name": "ml.prediction", "ml.prediction.inputs": inputs, **ids})
    log.warning("refused", extra=ids)
    log.critical("ended")
    try:
        raise ValueError("of: two\nlines")
    except ValueError:
        log.exception("failed", extra=ids)
    handler.close()
    lines = file.read_text().splitlines()
    port = free_port()
    environment = {**sink.backends, "OTELCOL_FORWARD_PORT": str(port), "MODELTRACE_LOG_FILE": str(file)}

    with running_collector(BASE, FLUENT, data=tmp_path / "fluent", **environment):
        assert b"a-chunk" in forward(port, [*lines, "not json"])
        wait_until(lambda: len(sink.items("logs")) == len(lines) + 1, description="the lines")
    *fluent, plain = sink.items("logs")
    with running_collector(BASE, FILELOG, data=tmp_path / "file", **environment):
        wait_until(lambda: len(sink.items("logs")) == 2 * len(lines) + 1, description="the lines of the file")
    read = sink.items("logs")[len(lines) + 1 :]

    assert plain["body"] == {"stringValue": "not json"}
    assert {record["attributes"].pop("logger") for record in fluent} == {record["scope"] for record in read}
    ignored = ("observedTimeUnixNano", "scope")
    assert [{k: v for k, v in record.items() if k not in ignored} for record in fluent] == [
        {k: v for k, v in record.items() if k not in ignored} for record in read
    ]
