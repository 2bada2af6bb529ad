"""The export queue: passes telemetry to a sidecar that encodes, delivers and spools it.

    request ─► enqueue() ─► deque ─► thread ─┬─► metrics
                                             └─► redaction ─► marshal ─► pipe ─► sidecar ─► OTLP, log lines
                                                                              ◄─ events

Encoding a span costs 45 µs in Python and holds the interpreter's lock; recording a request costs 6 µs.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from modeltrace.telemetry.export.protocol import DROPPED, OTLP, RECORDS, SidecarEvent
from modeltrace.telemetry.export.sidecar_process import SidecarSupervisor, StartSidecar
from modeltrace.telemetry.export.unacknowledged import FrameItems
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.records.feedback import FeedbackRecord
from modeltrace.telemetry.records.prediction import BatchRecord, RequestRecord
from modeltrace.telemetry.records.sidecar_codec import RecordChunk, encode
from modeltrace.telemetry.records.trace import RequestTrace

logger = logging.getLogger("modeltrace.telemetry")

# Seconds between two sends. A chunk of `CHUNK_ROWS` rows holds the interpreter's lock for half a millisecond.
SEND_INTERVAL: Final = 0.05
CHUNK_ROWS: Final = 64
SPANS_PER_REQUEST: Final = 4


class QueueLimits(NamedTuple):
    """Limits of the export queue. By default, the largest batch and other requests fit into it."""

    spans: int = 131_072  # OTEL_BSP_MAX_QUEUE_SIZE; four per request; the same limit again for labels
    log_records: int = 32_768  # OTEL_BLRP_MAX_QUEUE_SIZE; one per predicted row
    max_bytes: int = 64 * 2**20  # MODELTRACE_EXPORT_QUEUE_MAX_BYTES; of encoded requests, and of unacknowledged frames


DEFAULT_LIMITS: Final = QueueLimits()


class EncodedRequest(NamedTuple):
    """An OTLP export request that the SDK's encoders made."""

    signal: str
    content: bytes
    items: int


QueueItem = RequestTrace | BatchRecord | FeedbackRecord | EncodedRequest


class ExportQueue:
    """Queue for all telemetry of this process. Any thread may enqueue."""

    def __init__(
        self,
        start_sidecar: StartSidecar,
        request_metrics: Sequence[Callable[[Sequence[RequestRecord]], object]] = (),
        feedback_metrics: Sequence[Callable[[Sequence[FeedbackRecord]], object]] = (),
        *,
        limits: QueueLimits = DEFAULT_LIMITS,
        on_event: Callable[[SidecarEvent], None] = lambda _: None,
        model_catalog: ModelCatalog | None = None,
    ) -> None:
        """Start the thread and the sidecar.

        Args:
            start_sidecar: starts a process that calls its argument with each event.
            request_metrics: count requests with all inputs, before redaction.
            feedback_metrics: count labels.
            limits: items beyond these limits are dropped and counted.
            on_event: called with each event of the sidecar, and when items are dropped.
            model_catalog: redacts records by the privacy rules of their models before they leave the process.
        """
        self._request_metrics = request_metrics
        self._feedback_metrics = feedback_metrics
        self._model_catalog = model_catalog
        self._on_event = on_event
        self.limits: Final = limits
        self._items: deque[QueueItem] = deque()
        self._sending: list[QueueItem] = []
        self._lock = threading.Lock()
        self.queued_spans = self.queued_rows = self._queued_labels = self._queued_bytes = 0
        self.dropped_requests = self.dropped_rows = self.dropped_labels = self.dropped_batches = 0
        self.dropped_items: Counter[str] = Counter()  # of encoded requests, by signal
        self._supervisor = SidecarSupervisor(
            start_sidecar, max_bytes=limits.max_bytes, on_event=on_event, on_lost=self._drop
        )
        self._sidecar_ended = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="telemetry-export")
        self._thread.start()

    @property
    def restarts(self) -> int:
        """How often a sidecar died and was replaced."""
        return self._supervisor.restarts

    def enqueue(self, request: RequestTrace) -> None:
        """Enqueue a finished request or shadow request. Never blocks; beyond the limits it is dropped and counted."""
        rows = len(request.predictions)
        with self._lock:
            fits = (
                self.queued_rows + rows <= self.limits.log_records
                and self.queued_spans + SPANS_PER_REQUEST <= self.limits.spans
            )
            if fits:
                self.queued_rows += rows
                self.queued_spans += SPANS_PER_REQUEST
                self._items.append(request)
        if not fits:
            self._drop(FrameItems(requests=1, rows=rows))

    def enqueue_batch(self, batch: BatchRecord) -> None:
        """Enqueue the span of a model call that several requests shared. Beyond the limit it is dropped and counted."""
        if self.queued_spans < self.limits.spans:
            self._items.append(batch)
        else:
            self._drop(FrameItems(batches=1))

    def enqueue_feedback(self, feedback: FeedbackRecord) -> None:
        """Enqueue labels. Never blocks; beyond the limit they are dropped and counted."""
        labels = len(feedback.labels)
        with self._lock:
            if fits := self._queued_labels + labels <= self.limits.spans:
                self._queued_labels += labels
                self._items.append(feedback)
        if not fits:
            self._drop(FrameItems(labels=labels))

    def enqueue_encoded(self, signal: str, request: bytes, items: int) -> None:
        """Enqueue an encoded OTLP request. Never blocks; beyond the limit it is dropped and counted."""
        with self._lock:
            if fits := self._queued_bytes + len(request) <= self.limits.max_bytes:
                self._queued_bytes += len(request)
                self._items.append(EncodedRequest(signal, request, items))
        if not fits:
            self._drop(FrameItems(signal, items))

    def wait_ready(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the sidecar is ready, and return whether it is."""
        return self._supervisor.ready.wait(timeout)

    def drain(self, deadline: float) -> None:
        """Wait until all items are counted and sent, or until the deadline. The last metrics then include them."""
        while (self._items or self._sending) and time.monotonic() < deadline:
            time.sleep(SEND_INTERVAL / 10)

    def close(self, deadline: float) -> bool:
        """Send all items and stop the sidecar, which delivers them. Items that cannot be sent count as dropped.

        Returns:
            Whether the sidecar ended by the monotonic `deadline`.
        """
        self._supervisor.begin_stop(deadline)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():  # the sidecar does not read, or does not end
            for item in (*self._sending, *tuple(self._items)):
                self._drop(_count(item))
        return self._sidecar_ended

    def _run(self) -> None:
        self._supervisor.start()
        while not self._supervisor.stopping.wait(SEND_INTERVAL):
            self._supervisor.replace_if_gone()
            self._send_all()
        self._send_all()
        self._sidecar_ended = self._supervisor.stop()

    def _send_all(self) -> None:
        while self._items:
            requests: list[RequestTrace] = []
            batches: list[BatchRecord] = []
            feedback: list[FeedbackRecord] = []
            encoded: list[EncodedRequest] = []
            size = rows = labels = 0
            while self._items and size < CHUNK_ROWS:
                item = self._items[0]
                self._sending.append(item)  # before it leaves the queue, so that `close` and `drain` always see it
                self._items.popleft()
                if isinstance(item, RequestTrace):
                    requests.append(item)
                    rows += len(item.predictions)
                    size += len(item.predictions) or 1
                elif isinstance(item, BatchRecord):
                    batches.append(item)
                elif isinstance(item, FeedbackRecord):
                    feedback.append(item)
                    labels += len(item.labels)
                    size += len(item.labels)
                else:
                    encoded.append(item)
            with self._lock:
                self.queued_rows -= rows
                self.queued_spans -= SPANS_PER_REQUEST * len(requests)
                self._queued_labels -= labels
            self._send_records(requests, batches, feedback)
            self._sending[:] = encoded
            for request in encoded:
                with self._lock:
                    self._queued_bytes -= len(request.content)
                self._supervisor.send(OTLP, request, len(request.content), _count(request))
                del self._sending[0]

    def _send_records(
        self, requests: Sequence[RequestTrace], batches: Sequence[BatchRecord], feedback: Sequence[FeedbackRecord]
    ) -> None:
        """Count and send records. A record that causes an error is dropped, without effect on other records."""
        if not requests and not batches and not feedback:
            return
        try:
            records = [request.to_record() for request in requests]
            redacted = self._model_catalog.redact_requests(records) if self._model_catalog else records
            content = encode(RecordChunk(redacted, batches, feedback))
            for count_requests in self._request_metrics:
                count_requests(records)
            if feedback:
                for count_labels in self._feedback_metrics:
                    count_labels(feedback)
            self._supervisor.send(RECORDS, (content,), len(content), _total(requests, feedback, batches))
        except Exception as error:
            if len(requests) + len(batches) + len(feedback) > 1:
                for request in requests:
                    self._send_records([request], [], [])
                for batch in batches:
                    self._send_records([], [batch], [])
                for labels in feedback:
                    self._send_records([], [], [labels])
                return
            redacted_error = self._model_catalog.redact_exception(error) if self._model_catalog else error
            logger.exception("a record could not be exported", exc_info=redacted_error)
            self._drop(_total(requests, feedback, batches))

    def _drop(self, items: FrameItems) -> None:
        """Count lost items."""
        with self._lock:
            if items.items:
                self.dropped_items[items.signal] += items.items
            self.dropped_requests += items.requests
            self.dropped_rows += items.rows
            self.dropped_labels += items.labels
            self.dropped_batches += items.batches
        if items.requests or items.labels or items.batches:
            self._on_event(SidecarEvent(DROPPED, items[2:]))


def _total(
    requests: Sequence[RequestTrace], feedback: Sequence[FeedbackRecord], batches: Sequence[BatchRecord] = ()
) -> FrameItems:
    rows = sum(len(request.predictions) for request in requests)
    labels = sum(len(record.labels) for record in feedback)
    return FrameItems(requests=len(requests), rows=rows, labels=labels, batches=len(batches))


def _count(item: QueueItem) -> FrameItems:
    if isinstance(item, EncodedRequest):
        return FrameItems(item.signal, item.items)
    if isinstance(item, BatchRecord):
        return FrameItems(batches=1)
    return _total([item], []) if isinstance(item, RequestTrace) else _total([], [item])
