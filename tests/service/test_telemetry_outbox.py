"""The way out: everything is handed over in order, kept until it is acknowledged, and told again to a new process."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from modeltrace.telemetry.export.queue import ExportQueue, Sidecar, SidecarEvent
from modeltrace.telemetry.records.feedback import FeedbackRecord, TrueLabel, feedback
from modeltrace.telemetry.records.prediction import request as read
from modeltrace.telemetry.records.trace import RequestTrace, RequestTracer
from tests.helpers.factories import answered_row
from tests.helpers.processes import wait_until

pytestmark = pytest.mark.slow

Frame = tuple[Any, ...]
SCOPE = {
    "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "scheme": "http", "http_version": "1.1",
    "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1), "headers": [],
}  # fmt: skip


@dataclass
class Fake:
    """An exporter process that keeps frames, and says and does what it is told."""

    hear: Callable[[SidecarEvent], None]
    frames: list[Frame] = field(default_factory=list)
    dead: bool = False
    reads: threading.Event = field(default_factory=threading.Event)
    dies_at_stop: bool = False

    def write(self, frame: Frame) -> None:
        """Take a frame, once the process reads."""
        self.reads.wait()
        if self.dead:
            raise BrokenPipeError
        self.frames.append(frame)

    def stop(self, deadline: float) -> bool:  # noqa: ARG002  the protocol's
        """End; what was got is acknowledged, unless it dies first."""
        if not self.dies_at_stop and self.frames:
            self.hear(SidecarEvent("done", (self.frames[-1][0],)))
        return True

    @property
    def labels(self) -> list[str]:
        """The predictions whose labels it got, in order."""
        records = [feedback(fields) for _, kind, *content in self.frames if kind != "otlp" for fields in content[3]]
        return [label.prediction_id for record in records for label in record.labels]

    @property
    def rows(self) -> list[str]:
        """The predictions it got, in order."""
        records = [read(fields, {}) for _, kind, *content in self.frames if kind != "otlp" for fields in content[0]]
        return [row.prediction_id for record in records for row in record.predictions]


@dataclass
class Fakes:
    """Starts fake processes."""

    started: list[Fake] = field(default_factory=list)
    reading: bool = True
    failures: int = 0  # so many starts fail
    dying: int = 0  # so many die at their stop

    def start(self, hear: Callable[[SidecarEvent], None]) -> Sidecar:
        """Start one, if there is room for a process."""
        if self.failures:
            self.failures -= 1
            raise OSError("no more processes")
        fake = Fake(hear, dies_at_stop=len(self.started) < self.dying)
        if self.reading:
            fake.reads.set()
        self.started.append(fake)
        return fake


@pytest.fixture
def fakes() -> Fakes:
    """No process yet."""
    return Fakes()


def trace(*rows: str) -> RequestTrace:
    """A request in which rows were answered, named by their prediction IDs."""
    request, _ = RequestTracer(DEFAULT_ON).start(SCOPE)
    request.predictions = [
        answered_row(row, row=n, label="a", confidence=0.5, inputs=(1.0,), time=1) for n, row in enumerate(rows)
    ]
    return request


def labels(*names: str) -> FeedbackRecord:
    """Labels of predictions that are named by their IDs."""
    some = tuple(TrueLabel(name, b"t" * 16, b"s" * 8, 1, "1", "a", "a") for name in names)
    return FeedbackRecord(b"t" * 16, b"s" * 8, "", 1, False, 1, 2, "m", "1", some, ())  # noqa: FBT003  a field of a tuple


def soon() -> float:
    """A deadline."""
    return time.monotonic() + 10


def test_requests_are_handed_over_in_order(fakes: Fakes) -> None:
    """What is put before the end is written before the end, and nothing is left."""
    outbox = ExportQueue(fakes.start)
    for number in range(200):
        outbox.enqueue(trace(str(number)))

    assert outbox.close(soon())
    (fake,) = fakes.started
    assert fake.rows == [str(number) for number in range(200)]
    assert (outbox.queued_rows, outbox.dropped_requests, outbox.restarts) == (0, 0, 0)


def test_a_start_can_wait_for_the_process(fakes: Fakes) -> None:
    """It is ready when it says so, and stays so for those who ask later."""
    outbox = ExportQueue(fakes.start)
    assert not outbox.wait_ready(0.05)
    wait_until(lambda: fakes.started, description="the process")
    fakes.started[0].hear(SidecarEvent("ready", ()))

    assert outbox.wait_ready(0)
    assert outbox.close(soon())


def test_what_a_dead_process_had_not_acknowledged_is_told_again(fakes: Fakes) -> None:
    """The next process gets what the last one was not done with, and nothing else."""
    outbox = ExportQueue(fakes.start)
    outbox.enqueue(trace("done"))
    wait_until(lambda: fakes.started and fakes.started[0].rows, description="the first")
    fakes.started[0].hear(SidecarEvent("lines", (1,)))
    fakes.started[0].hear(SidecarEvent("done", (1,)))
    outbox.enqueue(trace("not done"))
    wait_until(lambda: len(fakes.started[0].rows) == 2, description="the second")
    fakes.started[0].dead = True
    outbox.enqueue(trace("after"))

    wait_until(lambda: len(fakes.started) == 2 and len(fakes.started[1].rows) == 2, description="the next process")
    assert outbox.close(soon())
    assert fakes.started[1].rows == ["not done", "after"]
    assert outbox.restarts == 1


@pytest.mark.parametrize(
    ("said", "told"),
    [([], "records"), (["lines"], "again"), (["done"], "lines"), (["lines", "done"], None)],
    ids=["nothing", "lines", "done", "both"],
)
def test_lines_and_telemetry_are_repeated_each_by_itself(fakes: Fakes, said: list[str], told: str | None) -> None:
    """A record whose lines are written is told without them; one that is delivered is written as lines alone."""
    outbox = ExportQueue(fakes.start)
    outbox.enqueue(trace("one"))
    wait_until(lambda: fakes.started and fakes.started[0].rows, description="the record")
    for kind in said:
        fakes.started[0].hear(SidecarEvent(kind, (1,)))
    fakes.started[0].hear(SidecarEvent("gone", ()))

    wait_until(lambda: len(fakes.started) == 2, description="the next process")
    outbox.close(soon())
    assert [frame[1] for frame in fakes.started[1].frames] == ([told] if told else [])


def test_a_process_that_is_gone_is_replaced_without_a_record(fakes: Fakes) -> None:
    """Its silence is enough; the silence of one that was replaced long ago is not."""
    outbox = ExportQueue(fakes.start)
    wait_until(lambda: fakes.started, description="the first process")
    fakes.started[0].hear(SidecarEvent("gone", ()))
    wait_until(lambda: len(fakes.started) == 2, description="the second process")
    fakes.started[0].hear(SidecarEvent("gone", ()))
    outbox.enqueue(trace("one"))
    wait_until(lambda: fakes.started[1].rows, description="the record")

    assert outbox.close(soon())
    assert outbox.restarts == 1


def test_a_process_that_dies_at_the_stop_is_replaced_once_more(fakes: Fakes) -> None:
    """What it had not acknowledged is told to another one before the deadline."""
    fakes.dying = 1
    outbox = ExportQueue(fakes.start)
    outbox.enqueue(trace("one"))

    assert outbox.close(soon())
    assert [fake.rows for fake in fakes.started] == [["one"], ["one"]]
    assert outbox.dropped_requests == 0


def test_what_nobody_took_at_the_stop_is_counted(fakes: Fakes) -> None:
    """When the second one dies, too, there is no time for a third."""
    fakes.dying = 2
    heard: list[SidecarEvent] = []
    outbox = ExportQueue(fakes.start, on_event=heard.append)
    outbox.enqueue(trace("one", "two"))
    outbox.enqueue_encoded("metrics", b"points", 7)

    assert outbox.close(soon())
    assert (outbox.dropped_requests, outbox.dropped_rows, outbox.dropped_items) == (1, 2, {"metrics": 7})
    assert SidecarEvent("dropped", (1, 2, 0)) in heard


def test_what_there_was_no_room_to_keep_is_counted_when_the_process_dies_with_it(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four that it was given, it was done with one, and there was room for one: two are gone, and told once."""
    monkeypatch.setattr("modeltrace.telemetry.export.queue.MAX_UNACKNOWLEDGED_BYTES", 1)
    outbox = ExportQueue(fakes.start)
    for number in range(4):
        outbox.enqueue(trace(str(number), "another"))
        wait_until(lambda n=number: fakes.started and len(fakes.started[0].rows) == 2 * n + 2, description="the record")
    fakes.started[0].hear(SidecarEvent("done", (1,)))
    fakes.started[0].hear(SidecarEvent("gone", ()))

    wait_until(lambda: len(fakes.started) == 2 and fakes.started[1].rows, description="the next process")
    assert outbox.close(soon())
    assert fakes.started[1].rows == ["3", "another"]
    assert (outbox.dropped_requests, outbox.dropped_rows) == (2, 4)


def test_a_process_that_cannot_be_started_is_tried_again(fakes: Fakes) -> None:
    """No memory, no process: what was put meanwhile arrives when there is one."""
    fakes.failures = 1
    outbox = ExportQueue(fakes.start)
    outbox.enqueue(trace("one"))

    wait_until(lambda: fakes.started and fakes.started[0].rows, description="the record")
    assert outbox.close(soon())


def test_a_process_that_does_not_read_costs_no_more_than_the_room_there_is(fakes: Fakes) -> None:
    """What finds no room is dropped, at once; a stop is in time and counts what was left."""
    fakes.reading = False
    outbox = ExportQueue(fakes.start, max_rows=10, max_encoded_bytes=10)
    outbox.enqueue(trace("in hand"))
    wait_until(lambda: outbox.queued_rows == 0, description="the thread to take it")
    for number in range(12):
        outbox.enqueue(trace(str(number)))
    outbox.enqueue_encoded("logs", b"12345678", 3)
    outbox.enqueue_encoded("logs", b"12345678", 4)

    assert outbox.queued_rows == 10
    assert outbox.dropped_requests == 2
    assert outbox.dropped_items == {"logs": 4}
    assert not outbox.close(time.monotonic() + 0.2)
    assert outbox.dropped_requests == outbox.dropped_rows == 13
    assert outbox.dropped_items == {"logs": 7}
    fakes.started[0].reads.set()


def test_a_request_that_cannot_be_told_takes_no_other_with_it(
    fakes: Fakes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its chunk arrive, and so does what comes after; it is counted and logged."""
    outbox = ExportQueue(fakes.start)
    good, bad, also = trace("good"), trace("bad"), trace("also good")
    monkeypatch.setattr(bad, "scope", {})
    for one in (good, bad, also):
        outbox.enqueue(one)

    assert outbox.close(soon())
    assert fakes.started[0].rows == ["good", "also good"]
    assert (outbox.dropped_requests, outbox.dropped_rows) == (1, 1)
    assert "could not be told" in caplog.text


def test_labels_are_handed_over_and_counted(fakes: Fakes) -> None:
    """In order, beside requests, each once; what counts them gets them, too, and nothing stays behind."""
    counted: list[FeedbackRecord] = []

    class Counting:
        def add(self, feedback: Sequence[FeedbackRecord]) -> None:
            counted.extend(feedback)

    outbox = ExportQueue(fakes.start, (), (Counting(),))
    for number in range(50):
        outbox.enqueue_feedback(labels(f"a{number}", f"b{number}"))
        outbox.enqueue(trace(str(number)))

    assert outbox.close(soon())
    (fake,) = fakes.started
    assert fake.labels == [f"{kind}{number}" for number in range(50) for kind in "ab"]
    assert [one.labels[0].prediction_id for one in counted] == [f"a{number}" for number in range(50)]
    assert fake.rows == [str(number) for number in range(50)]


def test_labels_are_told_again_to_another_process(fakes: Fakes) -> None:
    """One that dies before it has acknowledged them takes nothing with it."""
    outbox = ExportQueue(fakes.start)
    outbox.enqueue_feedback(labels("a"))
    wait_until(lambda: fakes.started and fakes.started[0].labels, description="the label")
    fakes.started[0].dead = True
    fakes.started[0].hear(SidecarEvent("gone", ()))
    wait_until(lambda: len(fakes.started) == 2 and fakes.started[1].labels, description="the label again")
    assert outbox.close(soon())


def test_labels_that_find_no_room_are_counted(fakes: Fakes) -> None:
    """While the process does not read, a bounded number waits; all others are dropped, and told to be."""
    fakes.reading = False
    heard: list[SidecarEvent] = []
    outbox = ExportQueue(fakes.start, on_event=heard.append)
    part = labels(*map(str, range(1000)))
    for _ in range(200):
        outbox.enqueue_feedback(part)

    assert not outbox.close(time.monotonic() + 0.1)
    assert outbox.dropped_labels == 200_000
    assert sum(one.fields[2] for one in heard if one.kind == "dropped") == 200_000  # type: ignore[misc]  # ints
    for fake in fakes.started:
        fake.reads.set()
