"""Every enqueued item is delivered or counted as lost, whatever the endpoint does."""

import marshal
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from modeltrace.backoff import Backoff
from modeltrace.otel_env.table import SIGNALS, Signal
from modeltrace.otlp.client import Outcome, Success, otlp_client
from modeltrace.sidecar.delivery import Delivery
from modeltrace.sidecar.delivery_group import close_deliveries, open_spool
from modeltrace.sidecar.spool import Spool
from modeltrace.telemetry.export.protocol import DeliveryEvent
from tests.helpers.otlp_messages import log_request
from tests.helpers.processes import free_port, wait_until
from tests.helpers.receivers import OtlpEndpoint, ReceivedRequest, Response, otlp_grpc, otlp_http

Protocol = Literal["http/protobuf", "grpc"]
UNLIMITED = 2**30
SHORT_BACKOFF = Backoff(initial=0.01, maximum=0.02, max_retry_after=0.02)
LONG_BACKOFF = Backoff(initial=600, maximum=600)
REQUESTS = [b"%03d" % number for number in range(50)]


class EventLog:
    """Records the events of deliveries."""

    def __init__(self) -> None:
        self.events: list[DeliveryEvent] = []

    def __call__(self, event: DeliveryEvent) -> None:
        """Record an event."""
        self.events.append(event)

    def items(self, kind: str, error_type: str | None = None) -> int:
        """Return the number of items with such an event."""
        return sum(
            event.items
            for event in tuple(self.events)
            if event.kind == kind and (error_type is None or event.error_type == error_type)
        )

    def settled(self, items: int) -> bool:
        """Return whether so many items are exported or lost."""
        return self.items("exported") + self.items("lost") == items


@dataclass
class DeliveryFactory:
    """Builds deliveries that report to `log`, and closes them after the test."""

    log: EventLog
    folder: Path
    stack: ExitStack

    def spool(self, limit: int = UNLIMITED) -> Spool:
        """Open a spool in the folder of the test."""
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
        backoff: Backoff = SHORT_BACKOFF,
    ) -> Delivery:
        """Start a delivery to an endpoint."""
        with pytest.MonkeyPatch.context() as environment:
            for name in [name for name in os.environ if name.startswith("OTEL_") or name.lower().endswith("_proxy")]:
                environment.delenv(name)
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            client = otlp_client(kind, protocol=protocol, timeout_seconds=seconds)
        delivery = Delivery(kind, client, on_event=self.log, max_bytes=limit, spool=spool, backoff=backoff)
        delivery.start()
        self.stack.callback(lambda: delivery.close(time.monotonic()))
        return delivery


@pytest.fixture
def log() -> EventLog:
    """Return an empty log."""
    return EventLog()


@pytest.fixture
def factory(log: EventLog, tmp_path: Path) -> Iterator[DeliveryFactory]:
    """Return a factory with its own folder."""
    with ExitStack() as stack:
        yield DeliveryFactory(log, tmp_path / "spool", stack)


@pytest.fixture
def endpoint() -> Iterator[OtlpEndpoint]:
    """Serve an OTLP/HTTP endpoint."""
    with otlp_http() as listening:
        yield listening


@pytest.fixture
def gate(endpoint: OtlpEndpoint) -> Iterator[threading.Event]:
    """Return an event; the endpoint responds only once it is set, at the latest at the end of the test."""
    opened = threading.Event()

    def wait(_: ReceivedRequest) -> Response:
        opened.wait(60)
        return Response()

    endpoint.respond = wait
    yield opened
    opened.set()


@pytest.fixture
def silent() -> Iterator[str]:
    """Serve an endpoint that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def requests_of(bodies: Iterable[bytes]) -> list[bytes]:
    """Return the requests in the bodies that an endpoint received. Several spooled requests arrive in one body."""
    content = b"".join(bodies)
    return [content[start : start + 3] for start in range(0, len(content), 3)]


def in_ten_seconds() -> float:
    """Return a deadline that is sufficient for an endpoint that responds."""
    return time.monotonic() + 10


def queued(delivery: Delivery) -> tuple[int, int]:
    """Return the numbers of items and bytes in memory, including those in flight."""
    with delivery._changed:
        requests = [*([delivery._in_flight] if delivery._in_flight else []), *delivery._queue]
    return sum(request.items for request in requests), sum(len(request.body) for request in requests)


def is_waiting(delivery: Delivery) -> bool:
    """Return whether the delivery thread still waits for a response."""
    return delivery._thread.is_alive()


# Backoff.


def test_delays_double_up_to_the_maximum() -> None:
    """Delays are 1 s, 2 s, 4 s and so on up to 30 s, for any number of failures."""
    delays = [Backoff().delay(failures, None, lambda: 0.5) for failures in (1, 2, 3, 4, 5, 6, 7, 10_000)]

    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]


@given(failures=st.integers(1, 10**6), random_number=st.floats(0, 1))
def test_delays_have_a_jitter_of_a_fifth(failures: int, random_number: float) -> None:
    """The jitter separates senders that fail at the same time; no delay exceeds the maximum."""
    delay = Backoff().delay(failures, None, lambda: random_number)
    middle = min(2.0 ** min(failures - 1, 20), 1e6)

    assert min(30, 0.8 * middle) <= delay <= min(30, 1.2 * middle) + 1e-9


@pytest.mark.parametrize(("retry_after", "delay"), [(0.0, 1.0), (7.0, 7.0), (60.0, 60.0), (1e9, 300.0)])
def test_the_endpoint_sets_the_delay(retry_after: float, delay: float) -> None:
    """Retry-After is respected within limits, whatever the number of failures."""
    assert [Backoff().delay(failures, retry_after) for failures in (1, 9)] == [delay, delay]


# Memory to wire.


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("kind", SIGNALS)
def test_requests_arrive_in_order_and_once(
    factory: DeliveryFactory, log: EventLog, protocol: Protocol, kind: Signal
) -> None:
    """Each request is reported with its items and its duration, and never written to disk."""
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
    assert (queued(delivery), delivery.spooled_items) == ((0, 0), 0)


def test_events_are_plain_values() -> None:
    """Events survive `marshal`, which writes them to the pipe."""
    event = DeliveryEvent("lost", "logs", 3, 0.5, "queue_full")

    assert DeliveryEvent(*marshal.loads(marshal.dumps(tuple(event)))) == event  # noqa: S302  written on the same line


def test_a_permanent_failure_does_not_block_the_next_request(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint
) -> None:
    """Status 400 is attempted once and counted as lost with its reason; the next request is delivered."""
    endpoint.respond = lambda sent: Response(400 if sent.body == b"bad" else 200)
    delivery = factory.delivery(endpoint.url, factory.spool())
    for request in (b"good", b"bad", b"better"):
        delivery.enqueue(request, 2)
    delivery.close(in_ten_seconds())

    assert [sent.body for sent in endpoint.requests] == [b"good", b"bad", b"better"]
    assert (log.items("exported"), log.items("failed", "400"), log.items("lost", "400")) == (4, 2, 2)


@pytest.mark.parametrize(("rejected", "lost"), [(2, 2), (5, 5), (99, 5)])
def test_rejected_items_are_lost(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint, rejected: int, lost: int
) -> None:
    """A partial success is not retried; the number of rejected items is at most the number sent."""
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
    """Without a spool the oldest queued requests are lost; those in flight and the newest stay."""
    delivery = factory.delivery(endpoint.url, limit=9)
    delivery.enqueue(REQUESTS[0], 2)
    wait_until(lambda: endpoint.requests, description="the first request to be in flight")
    for request in REQUESTS[1:6]:
        delivery.enqueue(request, 2)
    assert queued(delivery) == (8, 12)
    gate.set()
    delivery.close(in_ten_seconds())

    assert endpoint.accepted == [REQUESTS[0], *REQUESTS[3:6]]
    assert (log.items("exported"), log.items("lost", "queue_full")) == (8, 4)


def test_a_request_larger_than_memory_is_lost(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """A request larger than the queue is counted as lost."""
    delivery = factory.delivery(endpoint.url, limit=9)
    delivery.enqueue(b"larger than nine", 4)
    delivery.close(in_ten_seconds())

    assert (endpoint.requests, log.items("lost", "queue_full")) == ([], 4)


def test_a_slow_endpoint_loses_nothing(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint, gate: threading.Event
) -> None:
    """Requests are moved to disk when memory is half full."""
    delivery = factory.delivery(endpoint.url, factory.spool(), limit=15)
    delivery.enqueue(REQUESTS[0], 1)
    wait_until(lambda: endpoint.requests, description="the first request to be in flight")
    for request in REQUESTS[1:5]:
        delivery.enqueue(request, 1)
    gate.set()
    wait_until(lambda: log.settled(5), description="all items to arrive")

    assert requests_of(endpoint.accepted) == REQUESTS[:5]
    assert (log.items("spooled"), log.items("lost")) == (4, 0)


def test_an_unforeseen_exception_does_not_end_the_delivery(log: EventLog) -> None:
    """The request is lost with the name of the exception; the next one is delivered."""

    class FailingClient:
        def send(self, request: bytes, timeout_factor: int = 1) -> Outcome:  # noqa: ARG002  part of the interface
            if request == b"fails":
                raise LookupError
            return Success()

        def close(self) -> None:
            pass

    delivery = Delivery("logs", FailingClient(), on_event=log, max_bytes=UNLIMITED)
    delivery.start()
    delivery.enqueue(b"fails", 2)
    delivery.enqueue(b"succeeds", 3)
    delivery.close(in_ten_seconds())

    assert (log.items("exported"), log.items("lost", "LookupError")) == (3, 2)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_slow_endpoint_gets_more_time_after_each_timeout(
    factory: DeliveryFactory, log: EventLog, protocol: Protocol
) -> None:
    """Without it, the endpoint would get the first request in each attempt, and no later one."""

    def respond(request: ReceivedRequest) -> Response:
        if request.body == b"large":
            time.sleep(1)
        return Response()

    with (otlp_http if protocol == "http/protobuf" else otlp_grpc)() as endpoint:
        endpoint.respond = respond
        delivery = factory.delivery(endpoint.url, protocol=protocol, seconds=0.2)
        delivery.enqueue(b"large", 1)
        delivery.enqueue(b"next", 1)
        wait_until(lambda: log.settled(2), description="both requests to be delivered")

    assert endpoint.accepted[-1] == b"next"
    assert log.items("lost") == 0


# An unavailable endpoint.


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("disk", [True, False])
def test_an_endpoint_that_restarts_gets_everything_oldest_first(
    factory: DeliveryFactory, log: EventLog, protocol: Protocol, disk: bool
) -> None:
    """While the endpoint is down, requests wait on disk if there is a spool; each arrives once, in order."""
    port = free_port()
    spool = factory.spool() if disk else None
    delivery = factory.delivery(f"http://127.0.0.1:{port}", spool, protocol=protocol)
    for request in REQUESTS[:20]:
        delivery.enqueue(request, 1)
    if disk:
        wait_until(lambda: (queued(delivery)[0], delivery.spooled_items) == (0, 20), description="all items on disk")
    else:
        wait_until(lambda: log.items("failed"), description="the first failure")
    with (otlp_grpc if protocol == "grpc" else otlp_http)(port) as endpoint:
        for request in REQUESTS[20:]:
            delivery.enqueue(request, 1)
        wait_until(lambda: log.settled(50), description="all items to arrive")

    assert requests_of(endpoint.accepted) == REQUESTS
    assert log.items("lost") == 0
    assert log.items("failed", "UNAVAILABLE" if protocol == "grpc" else "ConnectionError") > 0
    assert log.items("spooled") == log.items("unspooled") >= (20 if disk else 0)
    assert delivery.spooled_items == 0


def spool_requests(factory: DeliveryFactory, requests: Iterable[bytes]) -> None:
    """Write requests of one item each to the spool of a process that ends."""
    spool = factory.spool()
    for request in requests:
        assert spool.put("logs", request, 1, durable=False)
    spool.close()


def test_spooled_requests_are_sent_together(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """Each success doubles the number of requests in a body, so a backlog of thousands takes tens of bodies."""
    requests = [b"%03d" % number for number in range(1000)]
    spool_requests(factory, requests)
    factory.delivery(endpoint.url, factory.spool())
    wait_until(lambda: log.settled(1000), description="all items to arrive")

    assert [len(body) // 3 for body in endpoint.accepted] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 233]
    assert requests_of(endpoint.accepted) == requests
    assert (log.items("exported"), log.items("unspooled"), log.items("failed")) == (1000, 1000, 0)


def test_one_rejected_request_loses_no_other(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """A body with it is rejected, and is sent again in halves until the request is alone."""
    endpoint.respond = lambda sent: Response(400 if b"031" in requests_of([sent.body]) else 200)
    spool_requests(factory, REQUESTS)
    factory.delivery(endpoint.url, factory.spool())
    wait_until(lambda: log.settled(50), description="all items to be delivered or lost")

    assert requests_of(endpoint.accepted) == [request for request in REQUESTS if request != b"031"]
    assert (log.items("exported"), log.items("lost", "400")) == (49, 1)


def test_a_body_that_is_too_large_is_divided(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """An endpoint or a proxy with a low limit gets everything."""
    endpoint.respond = lambda sent: Response(413 if len(sent.body) > 3 * 5 else 200)
    spool_requests(factory, REQUESTS)
    factory.delivery(endpoint.url, factory.spool())
    wait_until(lambda: log.settled(50), description="all items to arrive")

    assert requests_of(endpoint.accepted) == REQUESTS
    assert (log.items("exported"), log.items("lost")) == (50, 0)


def test_merged_requests_have_all_items(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """The concatenation of encoded requests is one request with the content of all."""
    records = [LogRecord(time_unix_nano=number) for number in range(7)]
    spool_requests(factory, [log_request(record).SerializeToString() for record in records])
    factory.delivery(endpoint.url, factory.spool())
    wait_until(lambda: log.settled(7), description="all items to arrive")
    received = [ExportLogsServiceRequest.FromString(body) for body in endpoint.accepted]

    assert [len(request.resource_logs) for request in received] == [1, 2, 4]
    assert [
        record
        for request in received
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ] == records


@dataclass(frozen=True)
class RecordedBackoff(Backoff):
    """Short delays that record their arguments."""

    calls: tuple[list[tuple[int, float | None]], ...] = ([],)

    def delay(
        self, failures: int, retry_after: float | None, random_number: Callable[[], float] = lambda: 0.5
    ) -> float:
        """Record the arguments and return a short delay."""
        self.calls[0].append((failures, retry_after))
        return 0.001 * random_number()


def test_a_retryable_status_is_retried_after_its_delay(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint
) -> None:
    """Retry-After sets the delay, and a success resets the number of failures."""
    responses = iter([Response(503, {"Retry-After": "7"}), Response(429), Response(), Response(504), Response()])
    endpoint.respond = lambda _: next(responses)
    backoff = RecordedBackoff(calls=([],))
    delivery = factory.delivery(endpoint.url, factory.spool(), backoff=backoff)
    delivery.enqueue(b"first", 1)
    wait_until(lambda: log.settled(1), description="the first")
    delivery.enqueue(b"second", 1)
    wait_until(lambda: log.settled(2), description="the second")

    assert [sent.body for sent in endpoint.requests] == [b"first"] * 3 + [b"second"] * 2
    assert backoff.calls[0] == [(1, 7.0), (2, None), (1, None)]
    assert [event.error_type for event in log.events if event.kind == "failed"] == ["503", "429", "504"]


def test_requests_during_a_backoff_go_to_disk_at_once(factory: DeliveryFactory) -> None:
    """A request is on disk while the delivery waits, so it survives a crash."""
    delivery = factory.delivery(f"http://127.0.0.1:{free_port()}", factory.spool(), backoff=LONG_BACKOFF)
    for number, request in enumerate(REQUESTS[:5]):
        delivery.enqueue(request, 1)
        wait_until(lambda put=number + 1: delivery.spooled_items == put, description="the request to be on disk")  # type: ignore[misc]

    assert queued(delivery)[0] == 0


def test_requests_stay_in_memory_when_the_disk_is_full(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint
) -> None:
    """Requests that do not fit on disk wait in memory and arrive in order after those on disk."""

    class FullSpool(Spool):
        free_requests = 3

        def put(self, signal: Signal, request: bytes, items: int, *, durable: bool = True) -> bool:
            self.free_requests -= 1
            return self.free_requests >= 0 and super().put(signal, request, items, durable=durable)

    endpoint.respond = lambda _: Response(503)
    delivery = factory.delivery(endpoint.url, FullSpool(factory.folder, UNLIMITED))
    for request in REQUESTS[:10]:
        delivery.enqueue(request, 1)
    wait_until(lambda: (delivery.spooled_items, queued(delivery)[0]) == (3, 7), description="the disk to be full")
    endpoint.respond = lambda _: Response()
    wait_until(lambda: log.settled(10), description="all items to arrive")

    assert requests_of(endpoint.accepted) == REQUESTS[:10]
    assert log.items("lost") == 0


def test_a_full_spool_loses_the_oldest(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """The newest requests arrive when the endpoint is available again; the others are counted as lost."""
    endpoint.respond = lambda _: Response(503)
    delivery = factory.delivery(endpoint.url, factory.spool(limit=100), backoff=LONG_BACKOFF)
    for request in REQUESTS:
        delivery.enqueue(request, 2)
    wait_until(lambda: log.items("spooled") == 100, description="all items to have been on disk")
    endpoint.respond = lambda _: Response()
    delivery.close(in_ten_seconds())

    assert requests_of(endpoint.accepted) == REQUESTS[-9:]
    assert (log.items("exported"), log.items("lost", "spool_full")) == (18, 82)
    assert log.items("spooled") == log.items("unspooled")


final_statuses = st.sampled_from([200, 400, 413])
retryable_statuses = st.lists(st.sampled_from([429, 502, 503, 504]), max_size=3)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outcomes=st.lists(st.tuples(retryable_statuses, final_statuses, st.integers(1, 9)), max_size=8),
    disk=st.booleans(),
    limit=st.sampled_from([1, 6, UNLIMITED]),
)
def test_every_item_is_delivered_or_lost_and_none_twice(
    endpoint: OtlpEndpoint,
    tmp_path: Path,
    outcomes: list[tuple[list[int], int, int]],
    disk: bool,
    limit: int,
) -> None:
    """For any responses, every item is exported or lost in the end, and requests arrive in order.

    The endpoint rejects a body for the sake of any request in it.
    """
    failures = {b"%03d" % number: iter(statuses) for number, (statuses, _, _) in enumerate(outcomes)}
    ends = {b"%03d" % number: end for number, (_, end, _) in enumerate(outcomes)}

    def respond(sent: ReceivedRequest) -> Response:
        parts = requests_of([sent.body])
        failure = next((status for part in parts for status in failures[part]), 0)
        return Response(failure or max(ends[part] for part in parts))

    endpoint.accepted.clear()
    endpoint.respond = respond
    log = EventLog()
    with ExitStack() as stack:
        factory = DeliveryFactory(log, tmp_path, stack)
        delivery = factory.delivery(endpoint.url, factory.spool() if disk else None, limit=limit)
        for number, (_, _, items) in enumerate(outcomes):
            delivery.enqueue(b"%03d" % number, items)
        total = sum(items for _, _, items in outcomes)
        wait_until(lambda: log.settled(total), description="all items to be delivered or lost")

    accepted = requests_of(endpoint.accepted)
    assert accepted == sorted(set(accepted))
    assert log.items("exported") == sum(outcomes[int(body)][2] for body in accepted)
    if limit == UNLIMITED:
        assert accepted == [body for body, end in ends.items() if end == 200]
    assert log.items("spooled") == log.items("unspooled")


# Shutdown.


def test_a_shutdown_delivers_queued_requests(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """Requests in memory and on disk are delivered, even if a long backoff has just begun."""
    endpoint.respond = lambda _: Response(503)
    delivery = factory.delivery(endpoint.url, factory.spool(), backoff=LONG_BACKOFF)
    for request in REQUESTS:
        delivery.enqueue(request, 1)
    wait_until(lambda: delivery.spooled_items == 50, description="all items on disk")
    endpoint.respond = lambda _: Response()
    delivery.close(in_ten_seconds())

    assert requests_of(endpoint.accepted) == REQUESTS
    assert (log.items("exported"), log.items("lost")) == (50, 0)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_shutdown_spools_what_a_silent_endpoint_does_not_accept(
    factory: DeliveryFactory, log: EventLog, silent: str, protocol: Protocol
) -> None:
    """All requests including the one in flight are spooled; the next process delivers them in order."""
    spool = factory.spool()
    delivery = factory.delivery(silent, spool, protocol=protocol, seconds=600)
    for request in REQUESTS:
        delivery.enqueue(request, 1)
    wait_until(lambda: delivery._in_flight, description="the first to be in flight")
    close_deliveries([delivery], spool, time.monotonic() + 2)
    assert (log.items("spooled"), log.items("lost"), log.items("exported")) == (50, 0, 0)

    with (otlp_grpc if protocol == "grpc" else otlp_http)() as endpoint:
        factory.delivery(endpoint.url, factory.spool(), protocol=protocol).close(in_ten_seconds())
    assert requests_of(endpoint.accepted) == REQUESTS


def test_a_shutdown_without_a_spool_counts_lost_items(factory: DeliveryFactory, log: EventLog, silent: str) -> None:
    """The shutdown does not wait for the response, whose timeout is 600 s."""
    delivery = factory.delivery(silent, seconds=600)
    for request in REQUESTS:
        delivery.enqueue(request, 2)
    wait_until(lambda: delivery._in_flight, description="the first to be in flight")
    delivery.close(time.monotonic() + 0.5)

    assert is_waiting(delivery)
    assert (log.items("lost", "shutdown"), queued(delivery)[0]) == (100, 0)


def test_a_response_after_the_shutdown_is_ignored(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint, gate: threading.Event
) -> None:
    """A request that the shutdown has spooled is not counted a second time."""
    delivery = factory.delivery(endpoint.url, factory.spool())
    delivery.enqueue(b"late", 1)
    wait_until(lambda: endpoint.requests, description="the request to be in flight")
    delivery.close(time.monotonic() + 1)
    before = list(log.events)
    gate.set()
    wait_until(lambda: not is_waiting(delivery), description="the answer")

    assert log.events == before == [DeliveryEvent("spooled", "logs", 1)]
    assert delivery.spooled_items == 1


def test_a_shutdown_does_not_wait_for_the_disk(factory: DeliveryFactory, log: EventLog, silent: str) -> None:
    """If the disk hangs, requests that are not written by the deadline are counted as lost."""
    released = threading.Event()

    class HangingSpool(Spool):
        def put(self, signal: Signal, request: bytes, items: int, *, durable: bool = True) -> bool:
            return released.wait(60) and super().put(signal, request, items, durable=durable)

    delivery = factory.delivery(silent, HangingSpool(factory.folder, UNLIMITED), seconds=600)
    for request in REQUESTS:
        delivery.enqueue(request, 2)
    delivery.close(time.monotonic() + 0.5)
    assert log.items("lost", "shutdown") == 100
    released.set()

    assert log.items("spooled") == 0


@pytest.mark.slow
def test_all_signals_share_one_shutdown_deadline(factory: DeliveryFactory, log: EventLog, silent: str) -> None:
    """Three deliveries to a silent endpoint are closed concurrently and spool their requests."""
    spool = factory.spool()
    deliveries = {kind: factory.delivery(silent, spool, kind=kind, seconds=600) for kind in SIGNALS}
    for kind in SIGNALS:
        deliveries[kind].enqueue(b"of " + kind.encode(), 3)
    wait_until(lambda: all(deliveries[kind]._in_flight for kind in SIGNALS), description="all to be in flight")
    close_deliveries(deliveries.values(), spool, time.monotonic() + 2)

    assert sorted(event[:3] for event in log.events) == [("spooled", kind, 3) for kind in sorted(SIGNALS)]


def test_requests_after_the_shutdown_are_lost(factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint) -> None:
    """A request after `close` is counted as lost; a second `close` does nothing."""
    delivery = factory.delivery(endpoint.url)
    delivery.close(in_ten_seconds())
    delivery.enqueue(b"too late", 4)
    delivery.close(in_ten_seconds())

    assert log.events == [DeliveryEvent("lost", "logs", 4, 0.0, "shutdown")]


# Other processes.

SENDER = """
import sys, time
from pathlib import Path
from modeltrace.otlp.client import otlp_client
from modeltrace.sidecar.delivery import Delivery
from modeltrace.sidecar.delivery_group import open_spool

client = otlp_client("logs", protocol="http/protobuf", timeout_seconds=2)
on_event = lambda _: None  # another thread that prints could write within the line of the end
spool = open_spool(Path(sys.argv[1]), 2**30, on_event)
delivery = Delivery("logs", client, on_event=on_event, max_bytes=2**30, spool=spool)
delivery.start()
for number in range(50):
    delivery.enqueue(b"%03d" % number, 1)
while delivery.spooled_items < 50:
    time.sleep(0.01)
print("spooled", flush=True)
time.sleep(600)
"""


def test_the_next_process_delivers_what_a_killed_one_spooled(
    factory: DeliveryFactory, log: EventLog, endpoint: OtlpEndpoint
) -> None:
    """After SIGKILL of a process without an endpoint, a new process delivers everything once, in order."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    command = [sys.executable, "-c", SENDER, str(factory.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        assert process.stdout
        line = ""
        while line != "spooled\n":
            line = process.stdout.readline()
            assert line, "it ended early"
        process.send_signal(signal.SIGKILL)
    delivery = factory.delivery(endpoint.url, factory.spool())
    wait_until(lambda: log.settled(50), description="all items to arrive")

    assert requests_of(endpoint.accepted) == REQUESTS
    assert (log.items("unspooled"), log.items("lost"), delivery.spooled_items) == (50, 0, 0)


def test_grpc_failures_are_retried_or_lost(factory: DeliveryFactory, log: EventLog) -> None:
    """UNAVAILABLE is retried, INVALID_ARGUMENT is not."""
    with otlp_grpc() as endpoint:
        responses = iter([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT])
        endpoint.respond = lambda _: Response(next(responses))
        delivery = factory.delivery(endpoint.url, protocol="grpc")
        delivery.enqueue(b"again", 1)
        delivery.enqueue(b"bad", 1)
        delivery.close(in_ten_seconds())

    assert [sent.body for sent in endpoint.requests] == [b"again", b"again", b"bad"]
    assert (log.items("exported"), log.items("lost", "INVALID_ARGUMENT")) == (1, 1)


def test_a_failure_is_logged_once_with_address_reason_and_remedy(
    factory: DeliveryFactory, endpoint: OtlpEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Another message follows when the reason changes, but not when only the text of the response does."""
    replies = [*((503, f"at {number}") for number in range(3)), (401, "no key"), (200, "")]
    remaining = iter(replies)

    def respond(_: object) -> Response:
        status, text = next(remaining, (200, ""))
        return Response(status, {"Content-Type": "text/plain"}, text.encode())

    endpoint.respond = respond
    delivery = factory.delivery(endpoint.url)
    delivery.enqueue(b"rejected", 1)
    delivery.enqueue(b"delivered", 1)
    wait_until(lambda: len(endpoint.requests) == len(replies), description="all requests to be sent")
    delivery.close(time.monotonic() + 10)

    to = f"OTLP logs cannot be delivered to {endpoint.url}/v1/logs"
    assert [record.getMessage() for record in caplog.records if record.name == "modeltrace.exporter"] == [
        f"{to} for now: it answers 503 Service Unavailable (at 0). It is overloaded or failing: see its log (503)",
        f"{to} and is lost: it answers 401 Unauthorized (no key). Set its key in OTEL_EXPORTER_OTLP_HEADERS (401)",
        "OTLP logs delivered again",
    ]
