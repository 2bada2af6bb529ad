"""Carries what is to be told out of this interpreter: to a process that encodes it, delivers it, and keeps it.

    request ─► put() ─► deque ─► thread ─┬─► counted: metric points
                                         └─► rules ─► marshal ─► pipe ─► exporter process ─► OTLP, log lines
                                                                      ◄─ what became of it

Encoding a span costs 45 µs in Python and holds the interpreter's lock all the while; writing a record down costs 6.
What the process has not yet delivered or put on disk is kept here, so one that dies is replaced and loses nothing. What
it had on its way then is told again: it may arrive twice, and is the same bytes both times.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, cast

from modeltrace.telemetry.export.unacknowledged import RECORDS, Frame, LostItems, UnacknowledgedFrames
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.predictions import RequestMetrics
from modeltrace.telemetry.records import feedback as labels
from modeltrace.telemetry.records.feedback import FeedbackRecord
from modeltrace.telemetry.records.prediction import BatchRecord, Models, plain
from modeltrace.telemetry.records.trace import RequestTrace

logger = logging.getLogger("modeltrace.telemetry")

# Seconds that records gather before they are sent; a chunk holds the interpreter's lock for half a millisecond.
SEND_INTERVAL: Final = 0.05
CHUNK_ROWS: Final = 64
# A batch of the largest size allowed by default fits in here, beside those of others.
MAX_QUEUED_ROWS: Final = 32_768
MAX_QUEUED_LABELS: Final = 131_072
MAX_UNACKNOWLEDGED_BYTES: Final = 64 * 2**20
MAX_ENCODED_BYTES: Final = 64 * 2**20
# Seconds: a process that dies sooner is not replaced at once, but at a stop, which has no time, a little later.
MIN_SIDECAR_LIFETIME: Final = 1.0
MIN_RESTART_PAUSE: Final = 0.1
SPANS_PER_REQUEST: Final = 4


Encoded = tuple[str, bytes, int]  # signal, an OTLP request, its items


class Sidecar(Protocol):
    """The process at the other end."""

    def write(self, frame: tuple[object, ...]) -> None:
        """Send a frame; blocks while the pipe is full.

        Raises:
            OSError: it is dead.
        """

    def stop(self, deadline: float) -> bool:
        """Close the pipe and wait until the process has ended, or until the deadline; whether it has."""


class LabelPoints(Protocol):
    """Counts labels."""

    def add(self, feedback: Sequence[FeedbackRecord], /) -> None:
        """Count some more."""


class SidecarEvent(NamedTuple):
    """What the exporter process says: kind, then `modeltrace.sidecar.delivery.Event`'s fields or the kind's own."""

    kind: str
    fields: tuple[object, ...]


class ExportQueue:
    """The way out, for all telemetry of this process."""

    def __init__(
        self,
        start_sidecar: Callable[[Callable[[SidecarEvent], None]], Sidecar],
        request_metrics: Sequence[RequestMetrics] = (),
        feedback_metrics: Sequence[LabelPoints] = (),
        *,
        max_rows: int = MAX_QUEUED_ROWS,
        max_encoded_bytes: int = MAX_ENCODED_BYTES,
        on_event: Callable[[SidecarEvent], None] = lambda _: None,
        model_catalog: ModelCatalog | None = None,
    ) -> None:
        """`start` starts an exporter process, which says how it goes; `points`, `feedback_metrics` count records.

        What is private stays in this process: `points` see a record as it is, everybody else as `watched` tells it.
        """
        self._watched = model_catalog
        self._start = start_sidecar
        self._points = request_metrics
        self._label_points = feedback_metrics
        self._most_rows = max_rows
        self._most_encoded = max_encoded_bytes
        self._listen = on_event
        self._waiting: deque[RequestTrace | BatchRecord | FeedbackRecord | Encoded] = deque()
        self._in_hand: list[RequestTrace | FeedbackRecord | Encoded] = []
        self._put_rows = self._put_beside = self._sent_rows = 0  # each written by one thread only
        self._put_bytes = self._sent_bytes = 0
        self._put_labels = self._sent_labels = 0
        self.dropped_requests = self.dropped_rows = self.dropped_labels = self.restarts = 0
        self.dropped_items: Counter[str] = Counter()  # of what came encoded, by signal
        self._unconfirmed = UnacknowledgedFrames(MAX_UNACKNOWLEDGED_BYTES)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._deadline = 0.0
        self._ended = False
        self._exporter: Sidecar | None = None
        self._started = 0.0
        self._generation = 0
        self._gone = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="telemetry-outbox")
        self._thread.start()

    @property
    def queued_rows(self) -> int:
        """Rows that wait here."""
        return self._put_rows + self._put_beside - self._sent_rows

    @property
    def capacity(self) -> int:
        """Rows that may wait here."""
        return self._most_rows

    def enqueue(self, request: RequestTrace) -> None:
        """Take a request that is over. Never waits: what finds no room is dropped and counted."""
        rows = len(request.predictions) or 1
        if self.queued_rows + rows > self._most_rows:
            self._drop(1, len(request.predictions))
            return
        self._put_rows += rows
        self._waiting.append(request)

    def enqueue_shadow(self, request: RequestTrace) -> None:
        """The same for what a challenger made of a request, from the thread that asks it."""
        rows = len(request.predictions) or 1
        if self.queued_rows + rows > self._most_rows:
            self._drop(1, len(request.predictions))
            return
        self._put_beside += rows
        self._waiting.append(request)

    def enqueue_batch(self, batch: BatchRecord) -> None:
        """Take the span of a call that answered several requests; it finds room where a request would."""
        if self.queued_rows < self._most_rows:
            self._waiting.append(batch)

    def enqueue_feedback(self, feedback: FeedbackRecord) -> None:
        """Take labels, of any thread; what finds no room is dropped and counted."""
        number = len(feedback.labels)
        with self._lock:
            if room := self._put_labels - self._sent_labels + number <= MAX_QUEUED_LABELS:
                self._put_labels += number
        if room:
            self._waiting.append(feedback)
        else:
            self._drop(0, 0, number)

    def enqueue_encoded(self, signal: str, request: bytes, items: int) -> None:
        """Take an OTLP request that is already encoded, from an exporter of the SDK."""
        with self._lock:
            if self._put_bytes - self._sent_bytes + len(request) > self._most_encoded:
                self.dropped_items[signal] += items
                return
            self._put_bytes += len(request)
        self._waiting.append((signal, request, items))

    def wait_ready(self, seconds: float) -> bool:
        """Wait until an exporter process takes what is put here; whether one did in time.

        What is put before that waits in this process alone.
        """
        return self._ready.wait(seconds)

    def drain(self, deadline: float) -> None:
        """Wait until all that was put is counted and handed over, or until the deadline: for the last metric points."""
        while (self._waiting or self._in_hand) and time.monotonic() < deadline:
            time.sleep(SEND_INTERVAL / 10)

    def close(self, deadline: float) -> bool:
        """Send what waits, then let the exporter process deliver it; whether that ended by the monotonic `deadline`.

        What could not even be handed to it is counted as dropped.
        """
        self._deadline = deadline
        self._stopping.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():  # the process does not read, or does not end
            left = [one for one in (*self._in_hand, *tuple(self._waiting)) if not isinstance(one, BatchRecord)]
            requests = [one for one in left if isinstance(one, RequestTrace)]
            given = sum(len(one.labels) for one in left if isinstance(one, FeedbackRecord))
            self._drop(len(requests), sum(len(one.predictions) for one in requests), given)
            for one in left:
                if not isinstance(one, RequestTrace | FeedbackRecord):
                    self.dropped_items[one[0]] += one[2]
        return self._ended

    # The thread.

    def _run(self) -> None:
        if not self._begin():
            self._replace()
        while not self._stopping.wait(SEND_INTERVAL):
            if self._gone:
                self._replace()
            self._send_waiting()
        self._send_waiting()
        ended = self._stop_exporter()
        if ended and self._unconfirmed.has_undelivered() and self._replace():  # it died meanwhile
            ended = self._stop_exporter()
        if ended:
            self._count(self._unconfirmed.take_undelivered())
        self._ended = ended

    def _stop_exporter(self) -> bool:
        return self._exporter is None or self._exporter.stop(self._deadline)

    def _send_waiting(self) -> None:
        while self._waiting:
            requests: list[RequestTrace] = []
            batches: list[BatchRecord] = []
            feedback: list[FeedbackRecord] = []
            encoded: list[Encoded] = []
            rows = given = 0
            while self._waiting and rows + given < CHUNK_ROWS:
                item = self._waiting[0]
                if not isinstance(item, BatchRecord):
                    self._in_hand.append(item)  # first: whoever looks must find it in one of the two
                self._waiting.popleft()
                if isinstance(item, RequestTrace):
                    requests.append(item)
                    rows += len(item.predictions) or 1
                elif isinstance(item, BatchRecord):
                    batches.append(item)
                elif isinstance(item, FeedbackRecord):
                    feedback.append(item)
                    given += len(item.labels)
                else:
                    encoded.append(item)
            self._sent_rows += rows
            self._sent_labels += given
            self._tell(requests, batches, feedback)
            self._in_hand[:] = encoded
            for one in encoded:
                self._sent_bytes += len(one[1])
                self._send(("otlp", *one), len(one[1]))
                del self._in_hand[0]

    def _tell(self, requests: list[RequestTrace], batches: list[BatchRecord], feedback: list[FeedbackRecord]) -> None:
        """Count and send. A request that nobody foresaw must not end the thread, nor take others with it."""
        if not requests and not batches and not feedback:
            return
        rows, given = (sum(len(r.predictions) for r in requests), sum(len(one.labels) for one in feedback))
        try:
            records = [request.to_record() for request in requests]
            models: Models = {}
            told = self._watched.redact_requests(records) if self._watched else records
            plainly = [plain(one, models) for one in told], [plain(one, models) for one in batches]
            known = {place: tuple(model) for place, model in models.items()}
            content = (RECORDS, *plainly, known, list(map(labels.plain, feedback)))
            for points in self._points:
                points.add(records)
            if feedback:
                for counted in self._label_points:
                    counted.add(feedback)
            self._send(content, (rows + len(requests) + given) * 1024)
        except Exception as error:
            if len(requests) + len(batches) + len(feedback) > 1:
                for request in requests:
                    self._tell([request], [], [])
                for batch in batches:
                    self._tell([], [batch], [])
                for one in feedback:
                    self._tell([], [], [one])
                return
            told_error = self._watched.redact_error(error) if self._watched else error
            logger.exception("a request could not be told", exc_info=told_error)
            self._drop(len(requests), rows, given)

    def _send(self, content: Frame, size: int) -> None:
        frame = self._unconfirmed.add(content, size)
        try:
            if self._exporter is None:
                raise BrokenPipeError
            self._exporter.write(frame)
        except OSError:
            self._replace()
        except ValueError:  # a value that cannot cross the pipe
            self._unconfirmed.remove_last()
            raise

    def _replace(self) -> bool:
        """Start exporter processes until one takes what the last one did not finish; at a stop, until the deadline."""
        while True:
            self.restarts += 1
            self._count(self._unconfirmed.take_evicted())
            logger.warning("the exporter process died; starting another one (%d so far)", self.restarts)
            if time.monotonic() - self._started < MIN_SIDECAR_LIFETIME and self._stopping.wait(MIN_SIDECAR_LIFETIME):
                time.sleep(MIN_RESTART_PAUSE)
            if self._begin() and self._repeat():
                return True
            if self._stopping.is_set() and time.monotonic() > self._deadline:
                return False

    def _begin(self) -> bool:
        """Start one; whether it could be started."""
        self._started = time.monotonic()
        self._generation += 1
        self._gone = False
        try:
            self._exporter = self._start(partial(self._hear, self._generation))
        except OSError:
            logger.exception("no exporter process could be started")
            self._exporter = None
            return False
        return True

    def _repeat(self) -> bool:
        assert self._exporter is not None  # noqa: S101  just started
        try:
            for frame in self._unconfirmed.frames_to_resend():
                self._exporter.write(frame)
        except OSError:
            return False
        return True

    # Losses.

    def _drop(self, requests: int, rows: int, given: int = 0) -> None:
        """Count requests with their answered rows, and labels."""
        if requests or given:
            self.dropped_requests += requests
            self.dropped_rows += rows
            self.dropped_labels += given
            self._listen(SidecarEvent("dropped", (requests, rows, given)))

    def _count(self, lost: Iterable[LostItems]) -> None:
        for one in lost:
            if one.items:
                self.dropped_items[one.signal] += one.items
            self._drop(one.requests, one.rows, one.labels)

    def _hear(self, generation: int, heard: SidecarEvent) -> None:
        """Called on the thread that listens to the exporter process of that generation."""
        if heard.kind == "gone":
            self._gone = generation == self._generation
        elif heard.kind == "ready":
            self._ready.set()
        elif heard.kind in ("lines", "done"):
            (number,) = cast("tuple[int]", heard.fields)
            self._unconfirmed.acknowledge(heard.kind, number)
        self._listen(heard)
