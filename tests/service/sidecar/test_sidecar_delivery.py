"""Delivery to endpoints that listen, refuse, are silent, go and come back: what is put arrives, or is counted."""

import marshal
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from modeltrace.otlp.client import SIGNALS, Outcome, Signal, Success, otlp_client
from modeltrace.sidecar.delivery import Backoff, Deliveries, Delivery, DeliveryEvent, open_spool
from modeltrace.sidecar.spool import Spool
from tests.helpers.processes import free_port, wait_until
from tests.helpers.receivers import OtlpEndpoint, ReceivedRequest, Response, otlp_grpc, otlp_http

Protocol = Literal["http/protobuf", "grpc"]
UNLIMITED = 2**30
SHORT_BACKOFF = Backoff(initial=0.01, maximum=0.02, max_retry_after=0.02)
LONG_BACKOFF = Backoff(initial=600, maximum=600)
REQUESTS = [b"%03d" % number for number in range(50)]


class EventLog:
    """The events that were reported."""

    def __init__(self) -> None:
        self.events: list[DeliveryEvent] = []

    def __call__(self, event: DeliveryEvent) -> None:
        """Keep one."""
        self.events.append(event)

    def items(self, kind: str, error_type: str | None = None) -> int:
        """How many items had such an event."""
        return sum(
            event.items
            for event in tuple(self.events)
            if event.kind == kind and (error_type is None or event.error_type == error_type)
        )

    def settled(self, items: int) -> bool:
        """Whether so many items have been delivered or lost."""
        return self.items("exported") + self.items("lost") == items


@dataclass
class DeliveryFactory:
    """Builds deliveries that report to `log`, and ends them with the test."""

    log: EventLog
    folder: Path
    stack: ExitStack

    def spool(self, limit: int = UNLIMITED) -> Spool:
        """A spool in the test's folder."""
        spool = open_spool(self.folder, limit, self.log)
        self.stack.callback(spool.close)
        return spool

    def delivery(
        self,
        url: str,
        spool: Spool | None = None,
        *,
        kind: Signal = "logs",
        protocol: Protocol = "http/protobuf",
        limit: int = UNLIMITED,
        seconds: float = 10,
        pauses: Backoff = SHORT_BACKOFF,
    ) -> Delivery:
        """A delivery to an endpoint, already started."""
        with pytest.MonkeyPatch.context() as environment:
            for name in [name for name in os.environ if name.startswith("OTEL_") or name.lower().endswith("_proxy")]:
                environment.delenv(name)
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            client = otlp_client(kind, protocol=protocol, timeout_seconds=seconds)
        delivery = Delivery(kind, client, on_event=self.log, max_bytes=limit, spool=spool, backoff=pauses)
        delivery.start()
        self.stack.callback(lambda: delivery.close(time.monotonic()))
        return delivery


@pytest.fixture
def log() -> EventLog:
    """Nothing yet."""
    return EventLog()


@pytest.fixture
def factory(log: EventLog, tmp_path: Path) -> Iterator[DeliveryFactory]:
    """A factory with a folder of its own."""
    with ExitStack() as stack:
        yield DeliveryFactory(log, tmp_path / "spool", stack)


@pytest.fixture
def endpoint() -> Iterator[OtlpEndpoint]:
    """An endpoint of OTLP/HTTP."""
    with otlp_http() as listening:
        yield listening


@pytest.fixture
def gate(endpoint: OtlpEndpoint) -> Iterator[threading.Event]:
    """The endpoint takes requests and answers them when this is set, at the end of the test at the latest."""
    opened = threading.Event()

    def wait(_: ReceivedRequest) -> Response:
        opened.wait(60)
        return Response()

    endpoint.respond = wait
    yield opened
    opened.set()


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def in_ten_seconds() -> float:
    """A deadline that is far enough for whatever answers."""
    return time.monotonic() + 10


def stuck(delivery: Delivery) -> bool:
    """Whether its thread still waits for an answer."""
    return delivery._thread.is_alive()


# How long to wait.


def test_pauses_double_up_to_the_longest() -> None:
    """1 s, 2 s, 4 s … 30 s, and no number of failures is too many."""
    pauses = [Backoff().delay(failures, None, lambda: 0.5) for failures in (1, 2, 3, 4, 5, 6, 7, 10_000)]

    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


@given(failures=st.integers(1, 10**6), draw=st.floats(0, 1))
def test_pauses_differ_by_a_fifth(failures: int, draw: float) -> None:
    """Those who failed together do not come back together; nobody waits longer than the longest."""
    pause = Backoff().delay(failures, None, lambda: draw)
    middle = min(2.0 ** min(failures - 1, 20), 1e6)

    assert min(30, 0.8 * middle) <= pause <= min(30, 1.2 * middle) + 1e-9


@pytest.mark.parametrize(("asked", "pause"), [(0.0, 1.0), (7.0, 7.0), (60.0, 60.0), (1e9, 300.0)])
def test_an_endpoint_that_asks_for_a_pause_gets_it(asked: float, pause: float) -> None:
    """Whatever the number of failures; within reason on both sides."""
    assert [Backoff().delay(failures, asked) for failures in (1, 9)] == [pause, pause]


# Memory to wire.


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("kind", SIGNALS)
def test_requests_arrive_in_order_and_once(
    factory: DeliveryFactory, log: EventLog, protocol: Protocol, kind: Signal
) -> None:
    """Each one is reported with its items and how long it took; disk is not touched."""
    with (otlp_grpc if protocol == "grpc" else otlp_http)() as endpoint:
        delivery = factory.delivery(endpoint.url, factory.spool(), kind=kind, protocol=protocol)
        for request in REQUESTS:
            delivery.enqueue(request, 3)
        delivery.close(in_ten_seconds())

    assert endpoint.accepted == REQUESTS
    assert {(event.kind, event.signal, event.items, event.error_type) for event in log.events} == {
        ("exported", kind, 3, "")
    }
    assert all(event.seconds > 0 for event in log.events)
    assert (delivery.queued_items, delivery.queued_bytes, delivery.spooled_items) == (0, 0, 0)


def test_events_are_plain_values() -> None:
    """They cross a pipe as marshal writes them."""
    event = DeliveryEvent("lost", "logs", 3, 0.5, "queue_full")

    assert DeliveryEvent(*marshal.loads(marshal.dumps(tuple(event)))) == event  # noqa: S302  written on the same line


def test_what_is_refused_is_lost_and_the_next_one_goes(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint
) -> None:
    """400 is tried once, counted with its reason, and holds up nothing."""
    endpoint.respond = lambda sent: Response(400 if sent.body == b"bad" else 200)
    delivery = factory.delivery(endpoint.url, factory.spool())
    for request in (b"good", b"bad", b"better"):
        delivery.enqueue(request, 2)
    delivery.close(in_ten_seconds())

    assert [sent.body for sent in endpoint.requests] == [b"good", b"bad", b"better"]
    assert (log.items("exported"), log.items("failed", "400"), log.items("lost", "400")) == (4, 2, 2)


@pytest.mark.parametrize(("rejected", "lost"), [(2, 2), (5, 5), (99, 5)])
def test_what_is_rejected_of_a_request_is_lost(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint, rejected: int, lost: int
) -> None:
    """A partial success is not sent again; more than was sent cannot be rejected."""
    partial = ExportLogsServiceResponse(partial_success={"rejected_log_records": rejected, "error_message": "no"})
    protobuf = {"Content-Type": "application/x-protobuf"}
    endpoint.respond = lambda _: Response(200, protobuf, partial.SerializeToString())
    delivery = factory.delivery(endpoint.url)
    delivery.enqueue(b"five", 5)
    delivery.close(in_ten_seconds())

    assert len(endpoint.requests) == 1
    assert (log.items("exported"), log.items("lost", "partial_success")) == (5 - lost, lost)


def test_memory_is_bounded(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint, gate: threading.Event
) -> None:
    """Without a disk the oldest that wait go, counted; the one in flight and the youngest stay."""
    delivery = factory.delivery(endpoint.url, limit=9)
    delivery.enqueue(REQUESTS[0], 2)
    wait_until(lambda: endpoint.requests, description="the first request to be in flight")
    for request in REQUESTS[1:6]:
        delivery.enqueue(request, 2)
    assert (delivery.queued_items, delivery.queued_bytes) == (8, 12)
    gate.set()
    delivery.close(in_ten_seconds())

    assert endpoint.accepted == [REQUESTS[0], *REQUESTS[3:6]]
    assert (log.items("exported"), log.items("lost", "queue_full")) == (8, 4)


def test_a_request_larger_than_memory_is_lost(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """Counted like any other."""
    delivery = factory.delivery(endpoint.url, limit=9)
    delivery.enqueue(b"larger than nine", 4)
    delivery.close(in_ten_seconds())

    assert (endpoint.requests, log.items("lost", "queue_full")) == ([], 4)


def test_an_endpoint_that_is_slow_but_answers_loses_nothing(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint, gate: threading.Event
) -> None:
    """Memory that is half full makes room on disk."""
    delivery = factory.delivery(endpoint.url, factory.spool(), limit=15)
    delivery.enqueue(REQUESTS[0], 1)
    wait_until(lambda: endpoint.requests, description="the first request to be in flight")
    for request in REQUESTS[1:5]:
        delivery.enqueue(request, 1)
    gate.set()
    wait_until(lambda: log.settled(5), description="all of it to arrive")

    assert endpoint.accepted == REQUESTS[:5]
    assert (log.items("spooled"), log.items("lost")) == (4, 0)


def test_a_client_that_fails_in_a_way_nobody_foresaw_ends_nothing(log: EventLog) -> None:
    """The request is lost, by the exception's name; the next one goes."""

    class Surprising:
        def send(self, request: bytes) -> Outcome:
            if request == b"strange":
                raise LookupError
            return Success()

        def close(self) -> None:
            pass

    delivery = Delivery("logs", Surprising(), on_event=log, max_bytes=UNLIMITED)
    delivery.start()
    delivery.enqueue(b"strange", 2)
    delivery.enqueue(b"plain", 3)
    delivery.close(in_ten_seconds())

    assert (log.items("exported"), log.items("lost", "LookupError")) == (3, 2)


# Away, and back.


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("disk", [True, False])
def test_an_endpoint_that_comes_back_gets_everything_oldest_first(
    factory: DeliveryFactory, log: EventLog, protocol: Protocol, disk: bool
) -> None:
    """Nobody there for a while: what waits is on disk when there is one, and arrives once, in order."""
    port = free_port()
    spool = factory.spool() if disk else None
    delivery = factory.delivery(f"http://127.0.0.1:{port}", spool, protocol=protocol)
    for request in REQUESTS[:20]:
        delivery.enqueue(request, 1)
    if disk:
        wait_until(lambda: (delivery.queued_items, delivery.spooled_items) == (0, 20), description="all of it on disk")
    else:
        wait_until(lambda: log.items("failed"), description="the first failure")
    with (otlp_grpc if protocol == "grpc" else otlp_http)(port) as endpoint:
        for request in REQUESTS[20:]:
            delivery.enqueue(request, 1)
        wait_until(lambda: log.settled(50), description="all of it to arrive")

    assert endpoint.accepted == REQUESTS
    assert log.items("lost") == 0
    assert log.items("failed", "UNAVAILABLE" if protocol == "grpc" else "ConnectionError") > 0
    assert log.items("spooled") == log.items("unspooled") >= (20 if disk else 0)
    assert delivery.spooled_items == 0


@dataclass(frozen=True)
class RecordedBackoff(Backoff):
    """Pauses that are short and write down what was asked for."""

    noted: tuple[list[tuple[int, float | None]], ...] = ([],)

    def after(self, failures: int, asked: float | None, draw: Callable[[], float] = lambda: 0.5) -> float:
        """Note it."""
        self.noted[0].append((failures, asked))
        return 0.001 * draw()


def test_a_503_is_tried_again_as_it_asks(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """Retry-After reaches the pause; failures count from one again after a success."""
    said = iter([Response(503, {"Retry-After": "7"}), Response(429), Response(), Response(504), Response()])
    endpoint.respond = lambda _: next(said)
    pauses = RecordedBackoff(noted=([],))
    delivery = factory.delivery(endpoint.url, factory.spool(), pauses=pauses)
    delivery.enqueue(b"first", 1)
    wait_until(lambda: log.settled(1), description="the first")
    delivery.enqueue(b"second", 1)
    wait_until(lambda: log.settled(2), description="the second")

    assert [sent.body for sent in endpoint.requests] == [b"first"] * 3 + [b"second"] * 2
    assert pauses.noted[0] == [(1, 7.0), (2, None), (1, None)]
    assert [event.error_type for event in log.events if event.kind == "failed"] == ["503", "429", "504"]


def test_what_is_put_during_a_pause_goes_to_disk_at_once(factory: DeliveryFactory) -> None:
    """A process that is killed meanwhile leaves it there."""
    delivery = factory.delivery(f"http://127.0.0.1:{free_port()}", factory.spool(), pauses=LONG_BACKOFF)
    for number, request in enumerate(REQUESTS[:5]):
        delivery.enqueue(request, 1)
        wait_until(lambda put=number + 1: delivery.spooled_items == put, description="it to be on disk")  # type: ignore[misc]

    assert delivery.queued_items == 0


def test_a_disk_that_is_full_leaves_it_in_memory(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint
) -> None:
    """What the disk does not take waits in memory, behind what it took, and arrives in order."""

    class FullAfter(Spool):
        room = 3

        def put(self, signal: Signal, request: bytes, items: int, *, durable: bool = True) -> bool:
            self.room -= 1
            return self.room >= 0 and super().put(signal, request, items, durable=durable)

    endpoint.respond = lambda _: Response(503)
    delivery = factory.delivery(endpoint.url, FullAfter(factory.folder, UNLIMITED))
    for request in REQUESTS[:10]:
        delivery.enqueue(request, 1)
    wait_until(lambda: (delivery.spooled_items, delivery.queued_items) == (3, 7), description="the disk to be full")
    endpoint.respond = lambda _: Response()
    wait_until(lambda: log.settled(10), description="all of it to arrive")

    assert endpoint.accepted == REQUESTS[:10]
    assert log.items("lost") == 0


def test_a_spool_that_is_full_loses_the_oldest_and_says_so(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint
) -> None:
    """The youngest arrive when the endpoint is back, the rest is counted."""
    endpoint.respond = lambda _: Response(503)
    delivery = factory.delivery(endpoint.url, factory.spool(limit=100), pauses=LONG_BACKOFF)
    for request in REQUESTS:
        delivery.enqueue(request, 2)
    wait_until(lambda: log.items("spooled") == 100, description="all of it to have been on disk")
    endpoint.respond = lambda _: Response()
    delivery.close(in_ten_seconds())

    assert endpoint.accepted == REQUESTS[-9:]
    assert (log.items("exported"), log.items("lost", "spool_full")) == (18, 82)
    assert log.items("spooled") == log.items("unspooled")


ends = st.sampled_from([200, 400, 413])
stumbles = st.lists(st.sampled_from([429, 502, 503, 504]), max_size=3)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fates=st.lists(st.tuples(stumbles, ends, st.integers(1, 9)), max_size=8),
    disk=st.booleans(),
    limit=st.sampled_from([1, 6, UNLIMITED]),
)
def test_every_item_is_delivered_or_lost_and_none_twice(
    endpoint: OtlpEndpoint,
    tmp_path: Path,
    fates: list[tuple[list[int], int, int]],
    disk: bool,
    limit: int,
) -> None:
    """Whatever the endpoint answers: what is put, is exported or lost by the end, and what arrives keeps its order."""
    script = {b"%03d" % place: iter([*failures, end]) for place, (failures, end, _) in enumerate(fates)}
    endpoint.accepted.clear()
    endpoint.respond = lambda sent: Response(next(script[sent.body]))
    log = EventLog()
    with ExitStack() as stack:
        factory = DeliveryFactory(log, tmp_path, stack)
        delivery = factory.delivery(endpoint.url, factory.spool() if disk else None, limit=limit)
        for place, (_, _, items) in enumerate(fates):
            delivery.enqueue(b"%03d" % place, items)
        total = sum(items for _, _, items in fates)
        wait_until(lambda: log.settled(total), description="everything to be settled")

    assert endpoint.accepted == sorted(set(endpoint.accepted))
    assert log.items("exported") == sum(fates[int(body)][2] for body in endpoint.accepted)
    if limit == UNLIMITED:
        assert endpoint.accepted == [b"%03d" % place for place, (_, end, _) in enumerate(fates) if end == 200]
    assert log.items("spooled") == log.items("unspooled")


# A stop.


def test_a_stop_delivers_what_waits(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """Memory and disk alike, also in the midst of a pause that has long to go."""
    endpoint.respond = lambda _: Response(503)
    delivery = factory.delivery(endpoint.url, factory.spool(), pauses=LONG_BACKOFF)
    for request in REQUESTS:
        delivery.enqueue(request, 1)
    wait_until(lambda: delivery.spooled_items == 50, description="all of it on disk")
    endpoint.respond = lambda _: Response()
    delivery.close(in_ten_seconds())

    assert endpoint.accepted == REQUESTS
    assert (log.items("exported"), log.items("lost")) == (50, 0)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_stop_leaves_on_disk_what_a_silent_endpoint_does_not_take(
    factory: DeliveryFactory, log: EventLog, silent: str, protocol: Protocol
) -> None:
    """The one in flight, too; the next process delivers all of it, in order."""
    spool = factory.spool()
    delivery = factory.delivery(silent, spool, protocol=protocol, seconds=600)
    for request in REQUESTS:
        delivery.enqueue(request, 1)
    wait_until(lambda: delivery._in_flight, description="the first to be in flight")
    Deliveries({"logs": delivery}, spool).close(time.monotonic() + 2)
    assert (log.items("spooled"), log.items("lost"), log.items("exported")) == (50, 0, 0)

    with (otlp_grpc if protocol == "grpc" else otlp_http)() as endpoint:
        factory.delivery(endpoint.url, factory.spool(), protocol=protocol).close(in_ten_seconds())
    assert endpoint.accepted == REQUESTS


def test_a_stop_counts_what_is_lost_without_a_disk(factory: DeliveryFactory, log: EventLog, silent: str) -> None:
    """It does not wait for the answer: 600 s would be allowed for one."""
    delivery = factory.delivery(silent, seconds=600)
    for request in REQUESTS:
        delivery.enqueue(request, 2)
    wait_until(lambda: delivery._in_flight, description="the first to be in flight")
    delivery.close(time.monotonic() + 0.5)

    assert stuck(delivery)
    assert (log.items("lost", "shutdown"), delivery.queued_items) == (100, 0)


def test_an_answer_after_a_stop_counts_for_nothing(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint, gate: threading.Event
) -> None:
    """What the stop has put on disk or counted is not counted again."""
    delivery = factory.delivery(endpoint.url, factory.spool())
    delivery.enqueue(b"late", 1)
    wait_until(lambda: endpoint.requests, description="it to be in flight")
    delivery.close(time.monotonic() + 1)
    before = list(log.events)
    gate.set()
    wait_until(lambda: not stuck(delivery), description="the answer")

    assert log.events == before == [DeliveryEvent("spooled", "logs", 1)]
    assert delivery.spooled_items == 1


def test_a_stop_waits_for_no_disk_either(factory: DeliveryFactory, log: EventLog, silent: str) -> None:
    """A disk that hangs: what was not written by then is counted as lost."""
    hangs = threading.Event()

    class Hanging(Spool):
        def put(self, signal: Signal, request: bytes, items: int, *, durable: bool = True) -> bool:
            return hangs.wait(60) and super().put(signal, request, items, durable=durable)

    delivery = factory.delivery(silent, Hanging(factory.folder, UNLIMITED), seconds=600)
    for request in REQUESTS:
        delivery.enqueue(request, 2)
    delivery.close(time.monotonic() + 0.5)
    assert log.items("lost", "shutdown") == 100
    hangs.set()

    assert log.items("spooled") == 0


@pytest.mark.slow
def test_all_signals_stop_under_one_deadline(factory: DeliveryFactory, log: EventLog, silent: str) -> None:
    """Three silent endpoints are waited for at the same time, and each keeps what it has."""
    spool = factory.spool()
    deliveries = Deliveries({kind: factory.delivery(silent, spool, kind=kind, seconds=600) for kind in SIGNALS}, spool)
    for kind in SIGNALS:
        deliveries[kind].enqueue(b"of " + kind.encode(), 3)
    wait_until(lambda: all(deliveries[kind]._in_flight for kind in SIGNALS), description="all to be in flight")
    deliveries.close(time.monotonic() + 2)

    assert sorted(event[:3] for event in log.events) == [("spooled", kind, 3) for kind in sorted(SIGNALS)]


def test_what_is_put_after_a_stop_is_lost(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """And counted; a second stop does nothing."""
    delivery = factory.delivery(endpoint.url)
    delivery.close(in_ten_seconds())
    delivery.enqueue(b"too late", 4)
    delivery.close(in_ten_seconds())

    assert log.events == [DeliveryEvent("lost", "logs", 4, 0.0, "shutdown")]


# Another process.

SENDER = """
import sys, time
from pathlib import Path
from modeltrace.otlp.client import otlp_client
from modeltrace.sidecar.delivery import Delivery, open_spool

client = otlp_client("logs", protocol="http/protobuf", timeout_seconds=2)
spool = open_spool(Path(sys.argv[1]), 2**30, print)
delivery = Delivery("logs", client, on_event=print, max_bytes=2**30, spool=spool)
delivery.start()
for number in range(50):
    delivery.enqueue(b"%03d" % number, 1)
while delivery.spooled_items < 50:
    time.sleep(0.01)
print("kept", flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_could_not_deliver_the_next_one_does(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint
) -> None:
    """Nobody there, SIGKILL, a new process and an endpoint: everything arrives, in order, once."""
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    command = [sys.executable, "-c", SENDER, str(factory.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **nobody}) as process:
        assert process.stdout
        said = ""
        while said != "kept\n":
            said = process.stdout.readline()
            assert said, "it ended early"
        process.send_signal(signal.SIGKILL)
    delivery = factory.delivery(endpoint.url, factory.spool())
    wait_until(lambda: log.settled(50), description="all of it to arrive")

    assert endpoint.accepted == REQUESTS
    assert (log.items("unspooled"), log.items("lost"), delivery.spooled_items) == (50, 0, 0)


def test_grpc_asks_for_a_pause_too(factory: DeliveryFactory, log: EventLog) -> None:
    """UNAVAILABLE is tried again, INVALID_ARGUMENT is not."""
    with otlp_grpc() as endpoint:
        said = iter([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT])
        endpoint.respond = lambda _: Response(next(said))
        delivery = factory.delivery(endpoint.url, protocol="grpc")
        delivery.enqueue(b"again", 1)
        delivery.enqueue(b"bad", 1)
        delivery.close(in_ten_seconds())

    assert [sent.body for sent in endpoint.requests] == [b"again", b"again", b"bad"]
    assert (log.items("exported"), log.items("lost", "INVALID_ARGUMENT")) == (1, 1)


def test_a_failure_is_logged_once_with_address_reason_and_remedy(
    factory: DeliveryFactory, endpoint: OtlpEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Another line follows when the reason changes, not when the endpoint only finds other words for it."""
    answers = [*((503, f"at {number}") for number in range(3)), (401, "no key"), (200, "")]
    later = iter(answers)

    def answer(_: object) -> Response:
        status, words = next(later, (200, ""))
        return Response(status, {"Content-Type": "text/plain"}, words.encode())

    endpoint.respond = answer
    delivery = factory.delivery(endpoint.url)
    delivery.enqueue(b"refused in the end", 1)
    delivery.enqueue(b"delivered", 1)
    wait_until(lambda: len(endpoint.requests) == len(answers), description="all of it to be sent")
    delivery.close(time.monotonic() + 10)

    to = f"OTLP logs cannot be delivered to {endpoint.url}/v1/logs"
    assert [record.getMessage() for record in caplog.records if record.name == "modeltrace.exporter"] == [
        f"{to} for now: it answers 503 Service Unavailable (at 0). It is overloaded or failing: see its log (503)",
        f"{to} and is lost: it answers 401 Unauthorized (no key). Set its key in OTEL_EXPORTER_OTLP_HEADERS (401)",
        "OTLP logs delivered again",
    ]
