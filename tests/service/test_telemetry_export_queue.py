"""The export queue: items are sent in order, kept until they are acknowledged, and sent again to a new sidecar."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.export.protocol import (
    DONE,
    DROPPED,
    GONE,
    LINES_DROPPED,
    LINES_ONLY,
    LINES_WRITTEN,
    OTLP,
    READY,
    RECORDS,
    RECORDS_WITHOUT_LINES,
    Frame,
    ProtocolMismatchError,
    SidecarConfig,
    SidecarEvent,
    hello,
    read_hello,
)
from modeltrace.telemetry.export.queue import ExportQueue, QueueLimits
from modeltrace.telemetry.export.sidecar_process import Sidecar
from modeltrace.telemetry.providers import SidecarPipeline
from modeltrace.telemetry.records.feedback import FeedbackRecord, TrueLabel
from modeltrace.telemetry.records.prediction import BatchRecord, Origin
from modeltrace.telemetry.records.sidecar_codec import RecordChunk, RecordDecoder
from modeltrace.telemetry.records.trace import RequestTrace, RequestTracer
from tests.helpers.factories import answered_row
from tests.helpers.processes import wait_until

pytestmark = pytest.mark.slow

SCOPE = {
    "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "scheme": "http", "http_version": "1.1",
    "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1), "headers": [],
}  # fmt: skip


@dataclass
class FakeSidecar:
    """A sidecar that stores frames, and reports events when a test says so."""

    on_event: Callable[[SidecarEvent], None]
    frames: list[Frame] = field(default_factory=list)
    dead: bool = False
    reads: threading.Event = field(default_factory=threading.Event)
    dies_at_stop: bool = False

    def write(self, frame: Frame) -> None:
        """Store a frame, once the sidecar reads."""
        self.reads.wait()
        if self.dead:
            raise BrokenPipeError
        self.frames.append(frame)

    def stop(self, deadline: float) -> bool:  # noqa: ARG002  the protocol's
        """End; all frames are acknowledged, unless the sidecar dies first."""
        if not self.dies_at_stop and self.frames:
            self.on_event(SidecarEvent(DONE, (self.frames[-1][0],)))
        return True

    def chunks(self) -> list[RecordChunk]:
        """Decode the chunks of records, in order."""
        return [RecordDecoder().decode(*content) for _, kind, *content in self.frames if kind != OTLP]

    @property
    def labels(self) -> list[str]:
        """IDs of the predictions whose labels were received, in order."""
        return [label.prediction_id for chunk in self.chunks() for record in chunk.feedback for label in record.labels]

    @property
    def rows(self) -> list[str]:
        """IDs of the predictions that were received, in order."""
        return [row.prediction_id for chunk in self.chunks() for record in chunk.requests for row in record.predictions]


@dataclass
class FakeSidecars:
    """Starts fake sidecars."""

    started: list[FakeSidecar] = field(default_factory=list)
    reading: bool = True
    failures: int = 0  # so many starts fail
    dying: int = 0  # so many die at their stop

    def start(self, on_event: Callable[[SidecarEvent], None]) -> Sidecar:
        """Start a sidecar, or fail."""
        if self.failures:
            self.failures -= 1
            raise OSError("no more processes")
        sidecar = FakeSidecar(on_event, dies_at_stop=len(self.started) < self.dying)
        if self.reading:
            sidecar.reads.set()
        self.started.append(sidecar)
        return sidecar


@pytest.fixture
def sidecars() -> FakeSidecars:
    """No sidecar runs yet."""
    return FakeSidecars()


def trace(*rows: str) -> RequestTrace:
    """Return a request with predicted rows, named by their prediction IDs."""
    request, _ = RequestTracer(DEFAULT_ON).start(SCOPE)
    request.predictions = [
        answered_row(row, row=n, label="a", confidence=0.5, inputs=(1.0,), time=1) for n, row in enumerate(rows)
    ]
    return request


def labels(*names: str) -> FeedbackRecord:
    """Return labels of predictions that are named by their IDs."""
    some = tuple(TrueLabel(name, b"t" * 16, b"s" * 8, 1, "1", "a", "a") for name in names)
    return FeedbackRecord(b"t" * 16, b"s" * 8, "", 1, False, 1, 2, "m", "1", some, ())  # noqa: FBT003  a field of a tuple


def soon() -> float:
    """Return a deadline."""
    return time.monotonic() + 10


def test_requests_are_sent_in_order(sidecars: FakeSidecars) -> None:
    """`close` sends all requests before it returns."""
    queue = ExportQueue(sidecars.start)
    for number in range(200):
        queue.enqueue(trace(str(number)))

    assert queue.close(soon())
    (sidecar,) = sidecars.started
    assert sidecar.rows == [str(number) for number in range(200)]
    assert (queue.queued_rows, queue.dropped_requests, queue.restarts) == (0, 0, 0)


def test_a_start_can_wait_for_the_sidecar(sidecars: FakeSidecars) -> None:
    """`wait_ready` returns true after the sidecar has reported that it is ready, and ever after."""
    queue = ExportQueue(sidecars.start)
    assert not queue.wait_ready(0.05)
    wait_until(lambda: sidecars.started, description="the sidecar")
    sidecars.started[0].on_event(SidecarEvent(READY))

    assert queue.wait_ready(0)
    assert queue.close(soon())


def test_unacknowledged_frames_of_a_dead_sidecar_are_sent_again(sidecars: FakeSidecars) -> None:
    """The next sidecar receives the frames that the last one had not acknowledged, and no other."""
    queue = ExportQueue(sidecars.start)
    queue.enqueue(trace("done"))
    wait_until(lambda: sidecars.started and sidecars.started[0].rows, description="the first")
    sidecars.started[0].on_event(SidecarEvent(LINES_WRITTEN, (1,)))
    sidecars.started[0].on_event(SidecarEvent(DONE, (1,)))
    queue.enqueue(trace("not done"))
    wait_until(lambda: len(sidecars.started[0].rows) == 2, description="the second")
    sidecars.started[0].dead = True
    queue.enqueue(trace("after"))

    wait_until(
        lambda: len(sidecars.started) == 2 and len(sidecars.started[1].rows) == 2, description="the next sidecar"
    )
    assert queue.close(soon())
    assert sidecars.started[1].rows == ["not done", "after"]
    assert queue.restarts == 1


@pytest.mark.parametrize(
    ("acknowledged", "sent"),
    [([], RECORDS), ([LINES_WRITTEN], RECORDS_WITHOUT_LINES), ([DONE], LINES_ONLY), ([LINES_WRITTEN, DONE], None)],
    ids=["nothing", "lines", "done", "both"],
)
def test_log_lines_and_telemetry_are_sent_again_separately(
    sidecars: FakeSidecars, acknowledged: list[str], sent: str | None
) -> None:
    """A new sidecar does not write lines that are written, nor deliver what is delivered."""
    queue = ExportQueue(sidecars.start)
    queue.enqueue(trace("one"))
    wait_until(lambda: sidecars.started and sidecars.started[0].rows, description="the record")
    for kind in acknowledged:
        sidecars.started[0].on_event(SidecarEvent(kind, (1,)))
    sidecars.started[0].on_event(SidecarEvent(GONE))

    wait_until(lambda: len(sidecars.started) == 2, description="the next sidecar")
    queue.close(soon())
    assert [frame[1] for frame in sidecars.started[1].frames] == ([sent] if sent else [])


def test_a_sidecar_that_has_ended_is_replaced_at_once(sidecars: FakeSidecars) -> None:
    """This needs no new record. A late event of a sidecar that was replaced before has no effect."""
    queue = ExportQueue(sidecars.start)
    wait_until(lambda: sidecars.started, description="the first sidecar")
    sidecars.started[0].on_event(SidecarEvent(GONE))
    wait_until(lambda: len(sidecars.started) == 2, description="the second sidecar")
    sidecars.started[0].on_event(SidecarEvent(GONE))
    queue.enqueue(trace("one"))
    wait_until(lambda: sidecars.started[1].rows, description="the record")

    assert queue.close(soon())
    assert queue.restarts == 1


def test_a_sidecar_that_dies_during_shutdown_is_replaced_once_more(sidecars: FakeSidecars) -> None:
    """Another sidecar receives the unacknowledged frames before the deadline."""
    sidecars.dying = 1
    queue = ExportQueue(sidecars.start)
    queue.enqueue(trace("one"))

    assert queue.close(soon())
    assert [sidecar.rows for sidecar in sidecars.started] == [["one"], ["one"]]
    assert queue.dropped_requests == 0


def test_frames_that_no_sidecar_acknowledged_are_counted_as_dropped(sidecars: FakeSidecars) -> None:
    """When the second sidecar dies during shutdown, too, there is no time for a third."""
    sidecars.dying = 2
    events: list[SidecarEvent] = []
    queue = ExportQueue(sidecars.start, on_event=events.append)
    queue.enqueue(trace("one", "two"))
    queue.enqueue_encoded("metrics", b"points", 7)

    assert queue.close(soon())
    assert (queue.dropped_requests, queue.dropped_rows, queue.dropped_items) == (1, 2, {"metrics": 7})
    assert SidecarEvent(DROPPED, (1, 2, 0, 0)) in events


def test_evicted_frames_are_counted_when_the_sidecar_dies(sidecars: FakeSidecars) -> None:
    """Of four frames one is acknowledged and one fits into the limit: two are lost, and counted once."""
    queue = ExportQueue(sidecars.start, limits=QueueLimits(max_bytes=1))
    for number in range(4):
        queue.enqueue(trace(str(number), "another"))
        wait_until(
            lambda n=number: sidecars.started and len(sidecars.started[0].rows) == 2 * n + 2, description="the record"
        )
    sidecars.started[0].on_event(SidecarEvent(DONE, (1,)))
    sidecars.started[0].on_event(SidecarEvent(GONE))

    wait_until(lambda: len(sidecars.started) == 2 and sidecars.started[1].rows, description="the next sidecar")
    assert queue.close(soon())
    assert sidecars.started[1].rows == ["3", "another"]
    assert (queue.dropped_requests, queue.dropped_rows) == (2, 4)


def test_a_sidecar_that_cannot_be_started_is_tried_again(sidecars: FakeSidecars) -> None:
    """Requests that are enqueued meanwhile arrive when a sidecar runs."""
    sidecars.failures = 1
    queue = ExportQueue(sidecars.start)
    queue.enqueue(trace("one"))

    wait_until(lambda: sidecars.started and sidecars.started[0].rows, description="the record")
    assert queue.close(soon())


def test_a_sidecar_that_does_not_read_costs_no_more_memory_than_the_limits(sidecars: FakeSidecars) -> None:
    """What exceeds a limit is dropped at once. A shutdown ends in time and counts what is left."""
    sidecars.reading = False
    queue = ExportQueue(sidecars.start, limits=QueueLimits(log_records=10, max_bytes=10))
    queue.enqueue(trace("being sent"))
    wait_until(lambda: queue.queued_rows == 0, description="the thread to take the request")
    for number in range(12):
        queue.enqueue(trace(str(number)))
    queue.enqueue_encoded("logs", b"12345678", 3)
    queue.enqueue_encoded("logs", b"12345678", 4)

    assert queue.queued_rows == 10
    assert queue.dropped_requests == 2
    assert queue.dropped_items == {"logs": 4}
    assert not queue.close(time.monotonic() + 0.2)
    assert queue.dropped_requests == queue.dropped_rows == 13
    assert queue.dropped_items == {"logs": 7}
    sidecars.started[0].reads.set()


def test_a_request_that_cannot_be_exported_does_not_affect_others(
    sidecars: FakeSidecars, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other requests of its chunk arrive. The invalid request is counted as dropped, and logged."""
    queue = ExportQueue(sidecars.start)
    first, invalid, last = trace("first"), trace("invalid"), trace("last")
    monkeypatch.setattr(invalid, "http", None)
    for request in (first, invalid, last):
        queue.enqueue(request)

    assert queue.close(soon())
    assert sidecars.started[0].rows == ["first", "last"]
    assert (queue.dropped_requests, queue.dropped_rows) == (1, 1)
    assert "could not be exported" in caplog.text


def test_labels_are_sent_and_counted(sidecars: FakeSidecars) -> None:
    """Labels are sent once each, in order, between requests, and the metrics of labels count each once."""
    counted: list[FeedbackRecord] = []
    queue = ExportQueue(sidecars.start, (), (counted.extend,))
    for number in range(50):
        queue.enqueue_feedback(labels(f"a{number}", f"b{number}"))
        queue.enqueue(trace(str(number)))

    assert queue.close(soon())
    (sidecar,) = sidecars.started
    assert sidecar.labels == [f"{kind}{number}" for number in range(50) for kind in "ab"]
    assert [record.labels[0].prediction_id for record in counted] == [f"a{number}" for number in range(50)]
    assert sidecar.rows == [str(number) for number in range(50)]


def test_labels_are_sent_again_to_another_sidecar(sidecars: FakeSidecars) -> None:
    """Labels that a dead sidecar had not acknowledged arrive at the next one."""
    queue = ExportQueue(sidecars.start)
    queue.enqueue_feedback(labels("a"))
    wait_until(lambda: sidecars.started and sidecars.started[0].labels, description="the label")
    sidecars.started[0].dead = True
    sidecars.started[0].on_event(SidecarEvent(GONE))
    wait_until(lambda: len(sidecars.started) == 2 and sidecars.started[1].labels, description="the label again")
    assert queue.close(soon())


def test_labels_beyond_the_limit_are_counted_as_dropped(sidecars: FakeSidecars) -> None:
    """While the sidecar does not read, a limited number waits. All others are dropped and reported."""
    sidecars.reading = False
    events: list[SidecarEvent] = []
    queue = ExportQueue(sidecars.start, on_event=events.append)
    part = labels(*map(str, range(1000)))
    for _ in range(200):
        queue.enqueue_feedback(part)

    assert not queue.close(time.monotonic() + 0.1)
    assert queue.dropped_labels == 200_000
    assert sum(event.fields[2] for event in events if event.kind == DROPPED) == 200_000
    for sidecar in sidecars.started:
        sidecar.reads.set()


def test_spans_that_may_wait_are_limited(sidecars: FakeSidecars) -> None:
    """`OTEL_BSP_MAX_QUEUE_SIZE` counts spans: a request has four, whatever its number of rows."""
    sidecars.reading = False
    queue = ExportQueue(sidecars.start, limits=QueueLimits(spans=10))
    queue.enqueue(trace("being sent"))
    wait_until(lambda: queue.queued_spans == 0, description="the thread to take the request")
    for number in range(4):
        queue.enqueue(trace(str(number), "another"))

    assert (queue.queued_spans, queue.queued_rows) == (8, 4)
    assert (queue.dropped_requests, queue.dropped_rows) == (2, 4)
    queue.close(time.monotonic() + 0.1)
    sidecars.started[0].reads.set()


def test_batch_spans_beyond_the_limit_are_counted_as_dropped(sidecars: FakeSidecars) -> None:
    """A span that is dropped at once counts, and so does a span that the sidecar does not accept."""
    sidecars.reading = False
    events: list[SidecarEvent] = []
    queue = ExportQueue(sidecars.start, limits=QueueLimits(spans=4), on_event=events.append)
    queue.enqueue(trace("being sent"))
    wait_until(lambda: queue.queued_spans == 0, description="the thread to take the request")
    batch = BatchRecord(b"b" * 16, b"b" * 8, 1, 2, 9, "", (), trace().model)
    queue.enqueue_batch(batch)
    queue.enqueue(trace("waits"))
    queue.enqueue_batch(batch)

    assert queue.dropped_batches == 1
    assert events == [SidecarEvent(DROPPED, (0, 0, 0, 1))]
    assert not queue.close(time.monotonic() + 0.1)
    assert queue.dropped_batches == 2
    sidecars.started[0].reads.set()


def test_the_shutdown_report_has_dropped_log_lines(sidecars: FakeSidecars) -> None:
    """Lines that several sidecars have dropped are added up."""
    health = ExportHealth()
    queue = ExportQueue(sidecars.start, on_event=health.on_event)
    wait_until(lambda: sidecars.started, description="the sidecar")
    sidecars.started[0].on_event(SidecarEvent(LINES_DROPPED, (3,)))
    sidecars.started[0].on_event(SidecarEvent(GONE))
    wait_until(lambda: len(sidecars.started) == 2, description="the next sidecar")
    sidecars.started[1].on_event(SidecarEvent(LINES_DROPPED, (4,)))

    assert SidecarPipeline(RequestTracer(DEFAULT_ON), queue, health, Counter()).close(soon()).lost == {"log lines": 7}


def test_a_sidecar_of_another_version_reads_nothing() -> None:
    """Worker and sidecar compare the names of all fields before the first record."""
    origin, config = Origin(b"", "modeltrace"), SidecarConfig({}, 0.1, 1.0, "", 0, "INFO", "", 0, 0)
    schema, *rest = hello(origin, config)

    assert read_hello((schema, *rest)) == (origin, config)
    with pytest.raises(ProtocolMismatchError, match="restart"):
        read_hello((schema.replace("predictions", "answered"), *rest))
