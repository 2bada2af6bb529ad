"""After an outage of a backend or the Collector under load, the telemetry of every answered request is stored.

Each test prints its results. docs/reliability.md has those of outages of a minute: ./dev test --stack --outage 60 -s …
"""

import secrets
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.backends import RealStack, real_stack_of
from tests.helpers.load import LoadClients, Rows
from tests.helpers.processes import Process, wait_until
from tests.helpers.services import running_service
from tests.helpers.stack import StackUnderTest, running_stack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

# In seconds: the pause between two requests of a client, and the maximum time until a backend has stored everything.
PAUSE = 0.02
CATCH_UP = 180.0
SPANS_A_REQUEST = 4


@dataclass(frozen=True)
class Outage:
    """A running stack, a service that exports to it, and the duration of an outage in seconds."""

    stack: StackUnderTest
    backend: RealStack
    name: str
    process: Process
    url: str
    seconds: float
    complete: set[str] = field(default_factory=set)

    def has_all_traces(self, load: LoadClients) -> bool:
        """Return whether Jaeger has all spans of every trace. Traces that were complete before are not read again."""
        self.complete.update(
            answer.trace_id
            for answer in load.answers
            if answer.trace_id not in self.complete and len(self.backend.spans(answer.trace_id)) == SPANS_A_REQUEST
        )
        return len(self.complete) == len(load.answers)

    def traces(self, load: LoadClients) -> Counter[int]:
        """Return the number of answered requests by the number of their spans in Jaeger."""
        return Counter(len(self.backend.spans(answer.trace_id)) for answer in load.answers)

    def record_counts(self) -> Counter[str]:
        """Count the prediction log records of the service by prediction ID."""
        return self.backend.log_store.record_counts(self.name)

    def prediction_count(self) -> int:
        """Return the number of predictions that the metrics in Prometheus count."""
        series = self.backend.query(f'sum(ml_predictions_total{{job="{self.name}"}})')
        return int(float(series[0]["value"][1])) if series else 0

    def print_results(self, title: str, **figures: Any) -> None:
        """Print the results of a test in one line."""
        print(f"\n{title}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))  # noqa: T201  for docs/reliability.md


@contextmanager
def service_of(stack: StackUnderTest, bundle: Path, name: str, seconds: float, **env: str) -> Iterator[Outage]:
    """Run a service with this name that exports to the stack."""
    with httpx.Client(timeout=30) as client:
        backend = real_stack_of(stack, client)
        with running_service(bundle, backend.otlp_url, OTEL_SERVICE_NAME=name, **env) as (process, url):
            yield Outage(stack, backend, name, process, url, seconds)


@pytest.fixture(scope="module")
def stack() -> Iterator[StackUnderTest]:
    """A stack for all tests of the module, which restart its components."""
    with running_stack() as stack:
        yield stack


@pytest.fixture
def outage(stack: StackUnderTest, bundle: Path, request: pytest.FixtureRequest) -> Iterator[Outage]:
    """A service for one test, with its own name."""
    name = f"outage-{secrets.token_hex(4)}"
    with service_of(stack, bundle, name, request.config.getoption("--outage")) as outage:
        yield outage


def p99(load: LoadClients, since: int) -> float:
    """Return the 99th percentile of the durations of the answers from index `since`, in milliseconds."""
    return round(1000 * statistics.quantiles([a.seconds for a in load.answers[since:]], n=100)[98], 1)


@pytest.mark.parametrize("component", ["jaeger", pytest.param("loki", marks=pytest.mark.loki), "prometheus"])
def test_an_unavailable_backend_loses_no_telemetry(outage: Outage, rows: Rows, component: str) -> None:
    """The Collector stores telemetry for an unavailable backend on disk and delivers it when the backend is back."""
    with LoadClients(outage.url, rows, pause=PAUSE) as load:
        load.wait_for_answers(50)
        outage.stack.stop(component)
        before = len(load.answers)
        time.sleep(outage.seconds)
        during = p99(load, before)
        outage.stack.up()
        back = time.monotonic()
        load.wait_for_answers(50)
    sent = len(load.answers)
    wait_until(lambda: outage.has_all_traces(load), seconds=CATCH_UP, description="all spans of every trace")
    wait_until(lambda: len(outage.record_counts()) == sent, seconds=CATCH_UP, description="every prediction log record")
    outage.process.stop(signal.SIGTERM)  # it exports the newest metrics
    wait_until(lambda: outage.prediction_count() == sent, seconds=CATCH_UP, description="all predictions to be counted")
    caught_up = round(time.monotonic() - back, 1)

    records = outage.record_counts()
    outage.print_results(
        f"{component} unavailable for {outage.seconds:g} s",
        sent=sent,
        traces=outage.traces(load)[SPANS_A_REQUEST],
        prediction_records=len(records),
        duplicates=records.total() - len(records),
        counted=outage.prediction_count(),
        refused=len(load.rejected_statuses),
        p99_ms=during,
        caught_up_after_s=caught_up,
    )
    assert load.rejected_statuses == []
    assert set(records) == set(load.prediction_ids)
    assert records.total() == sent


def test_a_killed_collector_loses_no_accepted_telemetry(outage: Outage, rows: Rows) -> None:
    """After SIGKILL the Collector delivers its queue on disk, and the service delivers its spool."""
    with LoadClients(outage.url, rows, pause=PAUSE) as load:
        load.wait_for_answers(50)
        outage.stack.stop("jaeger")
        time.sleep(outage.seconds / 2)
        outage.stack.kill("otelcol")
        load.wait_for_answers(50)
        wait_until(lambda: outage.stack.status("otelcol").healthy, description="the Collector to be back")
        time.sleep(outage.seconds / 2)
        outage.stack.up()
        load.wait_for_answers(50)
    sent = len(load.answers)
    wait_until(lambda: outage.has_all_traces(load), seconds=CATCH_UP, description="all spans of every trace")
    wait_until(lambda: len(outage.record_counts()) == sent, seconds=CATCH_UP, description="every prediction log record")
    outage.process.stop(signal.SIGTERM)
    wait_until(lambda: outage.prediction_count() == sent, seconds=CATCH_UP, description="all predictions to be counted")

    records, traces = outage.record_counts(), outage.traces(load)
    outage.print_results(
        "Collector killed, Jaeger unavailable",
        sent=sent,
        whole_traces=traces[SPANS_A_REQUEST],
        prediction_records=len(records),
        duplicates=records.total() - len(records),
        lost_and_counted_by_the_service=lost_by_the_service(outage),
        refused=len(load.rejected_statuses),
    )
    assert load.rejected_statuses == []
    assert set(records) == set(load.prediction_ids)
    assert lost_by_the_service(outage) == {}


def test_without_a_collector_no_telemetry_is_lost(outage: Outage, rows: Rows) -> None:
    """While the Collector is stopped, predictions succeed, and the service spools telemetry and delivers it later."""
    with LoadClients(outage.url, rows, pause=PAUSE) as load:
        load.wait_for_answers(200)
        with_collector = p99(load, 0)
        outage.stack.stop("otelcol")
        before = len(load.answers)
        time.sleep(outage.seconds)
        without = p99(load, before)
        outage.stack.up()
        back = time.monotonic()
        load.wait_for_answers(200)
    sent = len(load.answers)
    # The running service delivers everything: its next attempt is at most the duration of the outage away.
    wait_until(lambda: outage.has_all_traces(load), seconds=CATCH_UP, description="all spans of every trace")
    wait_until(lambda: len(outage.record_counts()) == sent, seconds=CATCH_UP, description="every prediction log record")
    caught_up = round(time.monotonic() - back, 1)
    outage.process.stop(signal.SIGTERM)
    wait_until(lambda: outage.prediction_count() == sent, seconds=CATCH_UP, description="all predictions to be counted")
    records = outage.record_counts()
    outage.print_results(
        f"no Collector for {outage.seconds:g} s",
        sent=sent,
        traces=outage.traces(load)[SPANS_A_REQUEST],
        prediction_records=len(records),
        duplicates=records.total() - len(records),
        lost_and_counted_by_the_service=lost_by_the_service(outage),
        p99_ms_with=with_collector,
        p99_ms_without=without,
        refused=len(load.rejected_statuses),
        caught_up_after_s=caught_up,
    )
    assert load.rejected_statuses == []
    assert set(records) == set(load.prediction_ids)
    assert lost_by_the_service(outage) == {}


def test_the_sdk_path_counts_what_it_loses(
    stack: StackUnderTest, bundle: Path, rows: Rows, request: pytest.FixtureRequest
) -> None:
    """With the SDK path and no Collector, predictions succeed, and the log reports at least what was lost."""
    name, seconds = f"sdk-{secrets.token_hex(4)}", request.config.getoption("--outage")
    with service_of(stack, bundle, name, seconds, MODELTRACE_INSTRUMENTATION="sdk") as outage:
        with LoadClients(outage.url, rows, pause=PAUSE) as load:
            load.wait_for_answers(100)
            stack.stop("otelcol")
            time.sleep(outage.seconds)
            stack.up()
            load.wait_for_answers(200)
        outage.process.stop(signal.SIGTERM)
        lost = lost_by_the_service(outage)
        sent = len(load.answers)
        wait_until(
            lambda: len(outage.record_counts()) >= sent - lost["prediction log records"],
            seconds=CATCH_UP,
            description="the records that were not lost",
        )
        wait_until(
            lambda: outage.prediction_count() == sent, seconds=CATCH_UP, description="all predictions to be counted"
        )
        records = outage.record_counts()
        spans = sum(n * requests for n, requests in outage.traces(load).items())
        outage.print_results(
            f"no Collector for {outage.seconds:g} s, SDK path",
            sent=sent,
            spans_lost=SPANS_A_REQUEST * sent - spans,
            prediction_records_lost=sent - len(records),
            lost_and_counted_by_the_service=lost,
            refused=len(load.rejected_statuses),
        )
    assert load.rejected_statuses == []
    assert 0 < SPANS_A_REQUEST * sent - spans <= lost["spans"]
    assert sent - len(records) <= lost["prediction log records"]


def test_the_service_retries_what_a_full_queue_rejects(
    bundle: Path, rows: Rows, request: pytest.FixtureRequest
) -> None:
    """If Jaeger is unavailable and the queue is full, the Collector rejects spans and the service sends them again."""
    small = {"OTELCOL_QUEUE_ITEMS": "2048"}
    seconds = request.config.getoption("--outage")
    with running_stack(environment=small) as stack, service_of(stack, bundle, "full", seconds) as outage:
        stack.stop("jaeger")
        with LoadClients(outage.url, rows, pause=PAUSE) as load:
            refused = wait_until(lambda: enqueue_failures(stack), description="the Collector to count rejected spans")
        alert = 'ALERTS{alertname="CollectorDroppingTelemetry", alertstate="firing"}'
        wait_until(lambda: outage.backend.query(alert), seconds=180, description="the alert on rejected spans")
        stack.up()
        with LoadClients(outage.url, rows, pause=PAUSE) as after:
            after.wait_for_answers(200)
        load.answers += after.answers
        load.rejected_statuses += after.rejected_statuses
        sent = len(load.answers)
        wait_until(lambda: outage.has_all_traces(load), seconds=CATCH_UP, description="all spans of every trace")
        wait_until(
            lambda: len(outage.record_counts()) == sent, seconds=CATCH_UP, description="every prediction log record"
        )
        outage.process.stop(signal.SIGTERM)
        records, traces = outage.record_counts(), outage.traces(load)
        outage.print_results(
            f"queue of 2,048 spans full, Jaeger unavailable for {outage.seconds:g} s",
            sent=sent,
            traces=traces[SPANS_A_REQUEST],
            lost_and_counted_by_the_service=lost_by_the_service(outage),
            refused_and_counted_by_the_collector=refused,
            prediction_records=len(records),
        )
        assert traces == {SPANS_A_REQUEST: sent}  # spans that were sent twice are stored once
        assert lost_by_the_service(outage) == {}
    assert load.rejected_statuses == []
    assert set(records) == set(load.prediction_ids)


def lost_by_the_service(outage: Outage) -> Counter[str]:
    """Return the number of undelivered items that the service reports at its shutdown, by kind."""
    lost: Counter[str] = Counter()
    for line in outage.process.log.splitlines():
        if "telemetry not delivered since the start: " in line:
            figures = line.split("since the start: ")[1].split('"')[0]
            for figure in figures.split(", "):
                number, _, kind = figure.partition(" ")
                lost[kind] += int(number)
    return lost


def enqueue_failures(stack: StackUnderTest) -> int:
    """Return the number of spans that the Collector has rejected because a queue was full."""
    metrics = httpx.get(f"http://{stack.layout.address('otelcol', 'metrics')}/metrics").text
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in metrics.splitlines()
        if line.startswith("otelcol_exporter_enqueue_failed_spans")
    )
