"""Something is away for a while, under load: what was answered is stored afterwards.

Each test prints its figures; docs/reliability.md has those of a minute's outage: ./dev test --stack --outage 60 -s …
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

# Seconds: between two requests of a client, and that a backend may take to catch up.
PAUSE = 0.02
CATCH_UP = 180.0
SPANS_A_REQUEST = 4


@dataclass(frozen=True)
class Outage:
    """A running stack, a service that sends to it, and how long something is away."""

    stack: StackUnderTest
    ask: RealStack
    name: str
    process: Process
    url: str
    seconds: float
    whole: set[str] = field(default_factory=set)

    def has_all_traces(self, load: LoadClients) -> bool:
        """Return whether Jaeger has every trace whole. A trace that was whole once is not read again."""
        self.whole.update(
            answer.trace_id
            for answer in load.answers
            if answer.trace_id not in self.whole and len(self.ask.spans(answer.trace_id)) == SPANS_A_REQUEST
        )
        return len(self.whole) == len(load.answers)

    def traces(self, load: LoadClients) -> Counter[int]:
        """How many spans Jaeger has of each answered request: number of spans → number of requests."""
        return Counter(len(self.ask.spans(answer.trace_id)) for answer in load.answers)

    def audited(self) -> Counter[str]:
        """How often each prediction of the service has an audit record."""
        return self.ask.log_store.audited(self.name)

    def counted(self) -> int:
        """How many predictions Prometheus has counted."""
        series = self.ask.query(f'sum(ml_predictions_total{{job="{self.name}"}})')
        return int(float(series[0]["value"][1])) if series else 0

    def said(self, what: str, **figures: Any) -> None:
        """Print figures, one line a test."""
        print(f"\n{what}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))  # noqa: T201  for docs/reliability.md


@contextmanager
def service_of(stack: StackUnderTest, bundle: Path, name: str, seconds: float, **env: str) -> Iterator[Outage]:
    """A service of that name, sending to the stack."""
    with httpx.Client(timeout=30) as client:
        ask = real_stack_of(stack, client)
        with running_service(bundle, ask.otlp_url, OTEL_SERVICE_NAME=name, **env) as (process, url):
            yield Outage(stack, ask, name, process, url, seconds)


@pytest.fixture(scope="module")
def stack() -> Iterator[StackUnderTest]:
    """One stack for all that restarts."""
    with running_stack() as stack:
        yield stack


@pytest.fixture
def outage(stack: StackUnderTest, bundle: Path, request: pytest.FixtureRequest) -> Iterator[Outage]:
    """A service of its own for each test."""
    name = f"outage-{secrets.token_hex(4)}"
    with service_of(stack, bundle, name, request.config.getoption("--outage")) as found:
        yield found


def p99(load: LoadClients, since: int) -> float:
    """The 99th percentile of the answers' milliseconds, from one answer on."""
    return round(1000 * statistics.quantiles([a.seconds for a in load.answers[since:]], n=100)[98], 1)


@pytest.mark.parametrize("part", ["jaeger", pytest.param("loki", marks=pytest.mark.loki), "prometheus"])
def test_a_backend_that_is_away_loses_nothing(outage: Outage, rows: Rows, part: str) -> None:
    """The Collector keeps on disk what a backend cannot take, and delivers it once the backend is back."""
    with LoadClients(outage.url, rows, pause=PAUSE) as load:
        load.wait_for_answers(50)
        outage.stack.stop(part)
        before = len(load.answers)
        time.sleep(outage.seconds)
        during = p99(load, before)
        outage.stack.up()
        back = time.monotonic()
        load.wait_for_answers(50)
    outage.process.stop(signal.SIGTERM)
    sent = len(load.answers)
    wait_until(lambda: outage.has_all_traces(load), seconds=CATCH_UP, description="every trace, whole")
    wait_until(lambda: len(outage.audited()) == sent, seconds=CATCH_UP, description="every audit record")
    wait_until(lambda: outage.counted() == sent, seconds=CATCH_UP, description="every count")
    caught_up = round(time.monotonic() - back, 1)

    audited = outage.audited()
    outage.said(
        f"{part} away for {outage.seconds:g} s",
        sent=sent,
        traces=outage.traces(load)[SPANS_A_REQUEST],
        audit_records=len(audited),
        duplicates=audited.total() - len(audited),
        counted=outage.counted(),
        refused=len(load.rejected_statuses),
        p99_ms=during,
        caught_up_after_s=caught_up,
    )
    assert load.rejected_statuses == []
    assert set(audited) == set(load.prediction_ids)
    assert audited.total() == sent


def test_a_collector_that_is_killed_loses_nothing_it_has_taken(outage: Outage, rows: Rows) -> None:
    """SIGKILL with a full queue on disk: after the restart all of it arrives, and what the service kept meanwhile."""
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
    wait_until(lambda: outage.has_all_traces(load), seconds=CATCH_UP, description="every trace, whole")
    wait_until(lambda: len(outage.audited()) == sent, seconds=CATCH_UP, description="every audit record")
    outage.process.stop(signal.SIGTERM)
    wait_until(lambda: outage.counted() == sent, seconds=CATCH_UP, description="every count")

    audited, traces = outage.audited(), outage.traces(load)
    outage.said(
        "Collector killed, Jaeger away",
        sent=sent,
        whole_traces=traces[SPANS_A_REQUEST],
        audit_records=len(audited),
        duplicates=audited.total() - len(audited),
        lost_and_counted_by_the_service=lost_by_the_service(outage),
        refused=len(load.rejected_statuses),
    )
    assert load.rejected_statuses == []
    assert set(audited) == set(load.prediction_ids)
    assert lost_by_the_service(outage) == {}


def test_without_a_collector_nothing_is_lost(outage: Outage, rows: Rows) -> None:
    """No Collector at all: predictions go on, the service keeps on disk what it has to tell, and tells it later."""
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
    # All of it while the service runs: after a pause, which is no longer than the outage was, all goes out at once.
    wait_until(lambda: outage.has_all_traces(load), seconds=CATCH_UP, description="every trace, whole")
    wait_until(lambda: len(outage.audited()) == sent, seconds=CATCH_UP, description="every audit record")
    caught_up = round(time.monotonic() - back, 1)
    outage.process.stop(signal.SIGTERM)
    wait_until(lambda: outage.counted() == sent, seconds=CATCH_UP, description="every count")
    audited = outage.audited()
    outage.said(
        f"no Collector for {outage.seconds:g} s",
        sent=sent,
        traces=outage.traces(load)[SPANS_A_REQUEST],
        audit_records=len(audited),
        duplicates=audited.total() - len(audited),
        lost_and_counted_by_the_service=lost_by_the_service(outage),
        p99_ms_with=with_collector,
        p99_ms_without=without,
        refused=len(load.rejected_statuses),
        caught_up_after_s=caught_up,
    )
    assert load.rejected_statuses == []
    assert set(audited) == set(load.prediction_ids)
    assert lost_by_the_service(outage) == {}


def test_the_stock_way_loses_and_counts(
    stack: StackUnderTest, bundle: Path, rows: Rows, request: pytest.FixtureRequest
) -> None:
    """No Collector, and the SDK's own way out: predictions go on; what is lost is no more than the service says."""
    name, seconds = f"stock-{secrets.token_hex(4)}", request.config.getoption("--outage")
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
            lambda: len(outage.audited()) >= sent - lost["prediction log records"],
            seconds=CATCH_UP,
            description="what was not lost",
        )
        wait_until(lambda: outage.counted() == sent, seconds=CATCH_UP, description="every count")
        audited = outage.audited()
        spans = sum(n * requests for n, requests in outage.traces(load).items())
        outage.said(
            f"no Collector for {outage.seconds:g} s, stock",
            sent=sent,
            spans_lost=SPANS_A_REQUEST * sent - spans,
            audit_records_lost=sent - len(audited),
            lost_and_counted_by_the_service=lost,
            refused=len(load.rejected_statuses),
        )
    assert load.rejected_statuses == []
    assert 0 < SPANS_A_REQUEST * sent - spans <= lost["spans"]
    assert sent - len(audited) <= lost["prediction log records"]


def test_a_full_queue_refuses_and_the_service_keeps(bundle: Path, rows: Rows, request: pytest.FixtureRequest) -> None:
    """Jaeger is away and the Collector's queue is full: it refuses, an alert fires, and the service repeats."""
    small = {"OTELCOL_QUEUE_ITEMS": "2048"}
    seconds = request.config.getoption("--outage")
    with running_stack(environment=small) as stack, service_of(stack, bundle, "full", seconds) as outage:
        stack.stop("jaeger")
        with LoadClients(outage.url, rows, pause=PAUSE) as load:
            refused = wait_until(lambda: enqueue_failures(stack), description="the Collector to count what it refused")
        alert = 'ALERTS{alertname="CollectorDroppingTelemetry", alertstate="firing"}'
        wait_until(lambda: outage.ask.query(alert), seconds=180, description="the alert on what was refused")
        stack.up()
        with LoadClients(outage.url, rows, pause=PAUSE) as after:
            after.wait_for_answers(200)
        load.answers += after.answers
        load.rejected_statuses += after.rejected_statuses
        sent = len(load.answers)
        wait_until(lambda: outage.has_all_traces(load), seconds=CATCH_UP, description="every trace, whole")
        wait_until(lambda: len(outage.audited()) == sent, seconds=CATCH_UP, description="every audit record")
        outage.process.stop(signal.SIGTERM)
        audited, traces = outage.audited(), outage.traces(load)
        outage.said(
            f"queue of 2,048 spans full, Jaeger away for {outage.seconds:g} s",
            sent=sent,
            traces=traces[SPANS_A_REQUEST],
            lost_and_counted_by_the_service=lost_by_the_service(outage),
            refused_and_counted_by_the_collector=refused,
            audit_records=len(audited),
        )
        assert traces == {SPANS_A_REQUEST: sent}  # what was sent again is stored once
        assert lost_by_the_service(outage) == {}
    assert load.rejected_statuses == []
    assert set(audited) == set(load.prediction_ids)


def lost_by_the_service(outage: Outage) -> Counter[str]:
    """What the service said at its stop that it could not deliver: kind → number."""
    lost: Counter[str] = Counter()
    for line in outage.process.log.splitlines():
        if "telemetry not delivered since the start: " in line:
            figures = line.split("since the start: ")[1].split('"')[0]
            for figure in figures.split(", "):
                number, _, what = figure.partition(" ")
                lost[what] += int(number)
    return lost


def enqueue_failures(stack: StackUnderTest) -> int:
    """Spans that the Collector refused because a queue was full, by its own count."""
    metrics = httpx.get(f"http://{stack.layout.address('otelcol', 'metrics')}/metrics").text
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in metrics.splitlines()
        if line.startswith("otelcol_exporter_enqueue_failed_spans")
    )
