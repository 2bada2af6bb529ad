"""What the exporter process does: read records, turn them into OTLP and log lines, deliver.

    pipe ─► records ─┬─► lines ─► stdout, log file
                     ├─► rows ─► the prediction store
                     └─► gathered ─► spans, audit and access records ─► deliveries
            encoded by the SDK ─────────────────────────────────────────► deliveries

Records gather for as long as `SidecarConfig.schedule_delay` or until there are enough for a request. What cannot be
encoded is counted as lost and holds up nothing else. What the worker is told:

| frame | says |
|---|---|
| `event` | a `DeliveryEvent`; `adopted`, before all others: what the spool holds from earlier processes |
| `ready` | this process takes frames, and has opened the prediction store if there is one |
| `lines` | the log lines of the records up to this frame are written |
| `done` | everything up to this frame is delivered, on disk, stored, or lost for good: the worker keeps what is not |
| `end` | that was all |
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

from pythonjsonlogger.orjson import OrjsonFormatter

from modeltrace.otlp.client import Signal, otlp_client
from modeltrace.sidecar.acks import AckTracker
from modeltrace.sidecar.delivery import STORE, Deliveries, Delivery, DeliveryEvent, open_spool
from modeltrace.sidecar.encode.feedback import FeedbackEncoder
from modeltrace.sidecar.encode.json_lines import LineEncoder
from modeltrace.sidecar.encode.logs import LogEncoder
from modeltrace.sidecar.encode.spans import SpanEncoder
from modeltrace.sidecar.log_writer import LineHandler, LineWriter
from modeltrace.store.config import StoreConfig
from modeltrace.store.writer import WriteOutcome, start_writer
from modeltrace.telemetry.export.config import SidecarConfig
from modeltrace.telemetry.export.frames import Frame, FrameReader, write_frame
from modeltrace.telemetry.records.feedback import FeedbackRecord, feedback
from modeltrace.telemetry.records.prediction import BatchRecord, ModelInfo, Origin, RequestRecord, batch, request

# Receivers of OTLP over gRPC refuse more than 4 MiB unless they are told otherwise.
MAX_REQUEST_BYTES: Final = 4 * 2**20 - 64 * 1024
MAX_BATCH_ROWS: Final = 512
MAX_QUEUE_BYTES: Final = 64 * 2**20

logger = logging.getLogger("modeltrace.exporter")
T = TypeVar("T")
R = TypeVar("R", RequestRecord, FeedbackRecord)


class _FrameHandler:
    """One worker's telemetry, on its way."""

    def __init__(
        self, origin: Origin, config: SidecarConfig, line_writer: LineWriter, send: Callable[[Frame], None]
    ) -> None:
        self._config = config
        self._line_writer = line_writer
        self._send = send
        self._logs_requests = config.log_level in ("DEBUG", "INFO")
        self._acks = AckTracker(send)
        self._span_encoder, self._log_encoder = SpanEncoder(origin), LogEncoder(origin)
        self._line_encoder = LineEncoder()
        self._feedback_encoder = FeedbackEncoder(origin)
        spool = (
            open_spool(Path(config.spool_dir), config.spool_max_bytes, self._acks.on_event)
            if config.spool_dir
            else None
        )
        deliveries = {signal: self._build_delivery(signal, spool) for signal in self._signals()}
        for signal, delivery in deliveries.items():
            send(("event", "adopted", signal, delivery.spooled_items, 0.0, ""))
        self._deliveries = Deliveries(deliveries, spool)
        self._deliveries.start()
        store = StoreConfig(*config.store) if config.store else None
        self._store = start_writer(store, self._on_store_event, partial(send, ("ready",)))
        self._models: dict[ModelInfo, ModelInfo] = {}
        self._requests: list[RequestRecord] = []
        self._batches: list[BatchRecord] = []
        self._feedback: list[FeedbackRecord] = []
        self._row_count = self._sequence = 0
        self._flush_at = 0.0

    def _signals(self) -> tuple[Signal, ...]:
        return cast("tuple[Signal, ...]", tuple(self._config.signals))

    def _build_delivery(self, signal: Signal, spool: Any) -> Delivery:  # noqa: ANN401  a Spool or none
        protocol, seconds = self._config.signals[signal]
        client = otlp_client(
            signal, protocol=cast("Literal['http/protobuf', 'grpc']", protocol), timeout_seconds=seconds
        )
        return Delivery(signal, client, on_event=self._acks.on_event, max_bytes=MAX_QUEUE_BYTES, spool=spool)

    def handle(self, frame: Frame) -> None:
        """Take one frame: `otlp` is encoded already, `records` are not.

        Of those that a process before this one had got, the lines are written (`again`) or are all that is missing.
        """
        self._sequence, kind, *content = frame
        if kind == "otlp":
            signal, encoded, items = content
            self._enqueue(signal, encoded, items)
            if not self._has_records():
                self._acks.end_frame(self._sequence)
            return
        # Equal ones become one object, by which everything that was made of it is found.
        found = {place: ModelInfo(*fields) for place, fields in content[2].items()}
        models = {place: self._models.setdefault(one, one) for place, one in found.items()}
        requests = [request(one, models) for one in content[0]]
        labels = list(map(feedback, content[3]))
        if kind != "again":
            lines = b""
            if self._logs_requests:
                lines = b"".join(
                    [
                        *_encode_each(lambda some, _: [self._line_encoder.encode(some)], requests),
                        *_encode_each(lambda some, _: [self._feedback_encoder.lines(some)], labels),
                    ]
                )
            self._line_writer.write(lines, on_written=partial(self._send, ("lines", self._sequence)))
        if kind == "lines":
            return
        if self._store:
            self._acks.add(STORE, sum(len(one.predictions) for one in requests))
            self._store.enqueue(requests)
        if not self._flush_at:
            self._flush_at = time.monotonic() + self._config.schedule_delay
        self._requests += requests
        self._batches += [batch(one, models) for one in content[1]]
        self._feedback += labels
        self._row_count += sum(len(one.predictions) or 1 for one in requests) + sum(len(one.labels) for one in labels)
        if self._row_count >= MAX_BATCH_ROWS:
            self.flush()

    def _has_records(self) -> bool:
        return bool(self._requests or self._batches or self._feedback)

    def seconds_until_flush(self) -> float | None:
        """Seconds until something has to be flushed; `None` when nothing waits."""
        return max(0.0, self._flush_at - time.monotonic()) if self._flush_at else None

    def flush(self) -> None:
        """Encode what has gathered and hand it to the deliveries."""
        requests, batches, labels = self._requests, self._batches, self._feedback
        self._requests, self._batches, self._feedback, self._row_count, self._flush_at = [], [], [], 0, 0.0
        if "traces" in self._config.signals:
            for encoded, items in _encode_each(
                self._encode_spans, requests, batches, partial(self._on_encoding_error, "traces")
            ):
                self._enqueue("traces", encoded, items)
            for encoded, items in _encode_each(
                self._encode_label_spans, labels, on_error=partial(self._on_encoding_error, "traces")
            ):
                self._enqueue("traces", encoded, items)
        if "logs" in self._config.signals and self._logs_requests:
            for encoded, items in _encode_each(
                self._encode_logs, requests, on_error=partial(self._on_encoding_error, "logs")
            ):
                self._enqueue("logs", encoded, items)
            for encoded, items in _encode_each(
                self._encode_label_logs, labels, on_error=partial(self._on_encoding_error, "logs")
            ):
                self._enqueue("logs", encoded, items)
        self._acks.end_frame(self._sequence)

    def _encode_spans(
        self, requests: Sequence[RequestRecord], batches: Sequence[BatchRecord]
    ) -> Iterable[tuple[bytes, int]]:
        return self._span_encoder.split(requests, batches, max_bytes=MAX_REQUEST_BYTES)

    def _encode_logs(self, requests: Sequence[RequestRecord], _: Sequence[BatchRecord]) -> Iterable[tuple[bytes, int]]:
        kinds = (self._log_encoder.audit, self._log_encoder.data, self._log_encoder.access)
        return [encoded for encode in kinds for encoded in encode(requests, MAX_REQUEST_BYTES)]

    def _encode_label_spans(self, labels: Sequence[FeedbackRecord], _: object) -> Iterable[tuple[bytes, int]]:
        return self._feedback_encoder.spans(labels, MAX_REQUEST_BYTES)

    def _encode_label_logs(self, labels: Sequence[FeedbackRecord], _: object) -> Iterable[tuple[bytes, int]]:
        return self._feedback_encoder.logs(labels, MAX_REQUEST_BYTES)

    def _on_encoding_error(self, signal: Signal, error: Exception) -> None:
        """Count what a record would have become as one item: how many it would have been, nobody knows."""
        self._acks.add(signal, 1)
        self._acks.on_event(DeliveryEvent("lost", signal, 1, error_type=type(error).__qualname__))

    def _on_store_event(self, event: WriteOutcome) -> None:
        self._acks.on_event(DeliveryEvent(event.outcome, STORE, event.rows, error_type=event.error_type))

    def _enqueue(self, signal: str, encoded: bytes, items: int) -> None:
        if signal in self._config.signals and items:
            self._acks.add(signal, items)
            self._deliveries[cast("Signal", signal)].enqueue(encoded, items)

    def close(self) -> None:
        """Deliver what is left, or leave it on disk."""
        if self._has_records():
            self.flush()
        deadline = time.monotonic() + self._config.flush_timeout
        self._line_writer.stop()
        if self._store:
            self._store.stop()
        self._deliveries.close(deadline)
        self._line_writer.join(deadline)
        if self._store:
            self._store.join(deadline)


def _encode_each(
    encode: Callable[[Sequence[R], Sequence[BatchRecord]], Iterable[T]],
    requests: Sequence[R],
    batches: Sequence[BatchRecord] = (),
    on_error: Callable[[Exception], None] = lambda _: None,
) -> list[T]:
    """All of them encoded together; when that fails, all but those that it fails for by themselves.

    A record that nobody foresaw would otherwise end this process, and the next one, to which it is sent again.
    """
    try:
        return list(encode(requests, batches))
    except Exception as error:
        if len(requests) + len(batches) <= 1:
            logger.exception("a record could not be encoded")
            on_error(error)
            return []
    one_by_one: list[tuple[Sequence[R], Sequence[BatchRecord]]] = [([one], ()) for one in requests]
    one_by_one += [((), [one]) for one in batches]
    return [encoded for some in one_by_one for encoded in _encode_each(encode, *some, on_error)]


def _configure_logging(lines: LineWriter) -> None:
    """What this process itself has to say, as JSON lines; OpenTelemetry's own complaints are told."""
    handler = LineHandler(lines)
    handler.setFormatter(
        OrjsonFormatter(
            ["levelname", "name", "message"], rename_fields={"levelname": "level", "name": "logger"}, timestamp=True
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


def run(input_descriptor: int, output_descriptor: int) -> None:
    """Serve one worker: frames come from the descriptor `records` and answers go to `status`."""
    lock = threading.Lock()

    def send(frame: Frame) -> None:
        try:
            with lock:
                write_frame(output_descriptor, frame)
        except OSError:
            pass  # the worker is gone: what it left is still to be delivered

    handler: _FrameHandler | None = None
    reader = FrameReader()
    while True:
        timeout = handler.seconds_until_flush() if handler else None
        readable, _, _ = select.select([input_descriptor], [], [], timeout)
        if not readable:
            assert handler is not None  # noqa: S101  only then is there something to wait for
            handler.flush()
            continue
        if not (chunk := os.read(input_descriptor, 2**20)):
            break
        for frame in reader.feed(chunk):
            if handler is None:
                origin, config = frame
                lines = LineWriter(SidecarConfig(*config))
                _configure_logging(lines)
                handler = _FrameHandler(Origin(*origin), SidecarConfig(*config), lines, send)
            else:
                handler.handle(frame)
        if handler and handler.seconds_until_flush() == 0.0:
            handler.flush()
    if handler:
        handler.close()
    send(("end",))
