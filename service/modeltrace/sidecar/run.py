"""Run the sidecar: read frames from the worker, encode telemetry, write log lines and predictions, and deliver.

    pipe ─► records ─┬─► log lines ─► stdout, log file
                     ├─► rows ─► the prediction store
                     └─► batched ─► spans, prediction and access log records ─► deliveries
            already encoded by the SDK ──────────────────────────────────────► deliveries

Records are batched for `SidecarConfig.schedule_delay` or until there are enough for an export request. A record that
cannot be encoded is counted as lost and does not delay any other. `modeltrace.telemetry.export.protocol` describes the
frames.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from modeltrace.otel_env.table import Signal
from modeltrace.otlp.client import otlp_client
from modeltrace.sidecar.acks import AckTracker
from modeltrace.sidecar.delivery import Delivery
from modeltrace.sidecar.delivery_group import close_deliveries, open_spool
from modeltrace.sidecar.encode.feedback import FeedbackEncoder
from modeltrace.sidecar.encode.json_lines import LineEncoder
from modeltrace.sidecar.encode.logs import LogEncoder
from modeltrace.sidecar.encode.protobuf import ExportRequests
from modeltrace.sidecar.encode.spans import SpanEncoder
from modeltrace.sidecar.log_writer import LineWriter
from modeltrace.store.config import StoreConfig
from modeltrace.store.writer import WriteOutcome, start_writer
from modeltrace.telemetry.export.protocol import (
    END,
    EVENT,
    LINES_DROPPED,
    LINES_ONLY,
    LINES_WRITTEN,
    OTLP,
    READY,
    RECORDS_WITHOUT_LINES,
    STORE,
    DeliveryEvent,
    Frame,
    FrameReader,
    SidecarConfig,
    read_hello,
    write_frame,
)
from modeltrace.telemetry.log_output import json_formatter
from modeltrace.telemetry.records.feedback import FeedbackRecord
from modeltrace.telemetry.records.prediction import BatchRecord, Origin, RequestRecord
from modeltrace.telemetry.records.sidecar_codec import RecordDecoder

MAX_BATCH_ROWS: Final = 512
# Seconds for the last log lines, even if the deadline of the shutdown has passed.
MIN_LOG_SECONDS: Final = 0.2

logger = logging.getLogger("modeltrace.exporter")
T = TypeVar("T")
R = TypeVar("R")


class _FrameHandler:
    """Processes the frames of one worker."""

    def __init__(
        self, origin: Origin, config: SidecarConfig, line_writer: LineWriter, send: Callable[[Frame], None]
    ) -> None:
        self._config = config
        self._line_writer = line_writer
        self._send = send
        self._logs_requests = config.log_level in ("DEBUG", "INFO")
        self._acks = AckTracker(send)
        self._span_encoder, self._log_encoder = SpanEncoder(origin), LogEncoder(origin)
        self._feedback_encoder, self._line_encoder = FeedbackEncoder(origin), LineEncoder()
        on_event = self._acks.on_event
        self._spool = open_spool(Path(config.spool_dir), config.spool_max_bytes, on_event) if config.spool_dir else None
        self._deliveries = {
            signal: Delivery(
                signal,
                otlp_client(signal, protocol=protocol, timeout_seconds=seconds),
                on_event=on_event,
                max_bytes=config.queue_max_bytes,
                spool=self._spool,
            )
            for signal, (protocol, seconds) in config.signals.items()
        }
        for signal, delivery in self._deliveries.items():
            send((EVENT, *DeliveryEvent("adopted", signal, delivery.spooled_items)))
            delivery.start()
        store = StoreConfig(*config.store) if config.store else None
        self._store = start_writer(store, self._on_store_outcome, partial(send, (READY,)))
        self._decoder = RecordDecoder()
        self._requests: list[RequestRecord] = []
        self._batches: list[BatchRecord] = []
        self._feedback: list[FeedbackRecord] = []
        self._row_count = self._sequence = 0
        self._flush_at = 0.0  # 0: there are no records

    def handle(self, frame: Frame) -> None:
        """Process one frame: an encoded export request or a chunk of records."""
        self._sequence, kind, *content = frame
        if kind == OTLP:
            signal, encoded, items = content
            self._enqueue(signal, [(encoded, items)])
            if not self._flush_at:
                self._acks.end_frame(self._sequence)
            return
        requests, batches, labels = self._decoder.decode(*content)
        if kind != RECORDS_WITHOUT_LINES:
            self._write_lines(requests, labels)
        if kind == LINES_ONLY:
            return
        if self._store:
            self._acks.add(STORE, sum(len(record.predictions) for record in requests))
            self._store.enqueue(requests)
        if not self._flush_at:
            self._flush_at = time.monotonic() + self._config.schedule_delay
        self._requests += requests
        self._batches += batches
        self._feedback += labels
        self._row_count += sum(len(record.predictions) or 1 for record in requests)
        self._row_count += sum(len(record.labels) for record in labels)
        if self._row_count >= MAX_BATCH_ROWS:
            self.flush()

    def _write_lines(self, requests: Sequence[RequestRecord], labels: Sequence[FeedbackRecord]) -> None:
        lines: list[bytes] = []
        if self._logs_requests:
            lines += _encode_each(lambda records: [self._line_encoder.encode(records)], requests)
            lines += _encode_each(lambda records: [self._feedback_encoder.lines(records)], labels)
        self._line_writer.enqueue(b"".join(lines), partial(self._send, (LINES_WRITTEN, self._sequence)))

    def seconds_until_flush(self) -> float | None:
        """Return the seconds until the next `flush`; `None` if there are no records."""
        return max(0.0, self._flush_at - time.monotonic()) if self._flush_at else None

    def flush(self) -> None:
        """Encode the batched records and enqueue the export requests."""
        requests, batches, labels = self._requests, self._batches, self._feedback
        self._requests, self._batches, self._feedback, self._row_count, self._flush_at = [], [], [], 0, 0.0
        if "traces" in self._config.signals:
            records: list[RequestRecord | BatchRecord] = [*requests, *batches]
            self._encode("traces", self._span_encoder.encode, records)
            self._encode("traces", self._feedback_encoder.spans, labels)
        if "logs" in self._config.signals and self._logs_requests:
            self._encode("logs", self._log_encoder.encode, requests)
            self._encode("logs", self._feedback_encoder.logs, labels)
        self._acks.end_frame(self._sequence)

    def _encode(self, signal: Signal, encode: Callable[[Sequence[R]], ExportRequests], records: Sequence[R]) -> None:
        self._enqueue(signal, _encode_each(encode, records, partial(self._on_encoding_error, signal)))

    def _on_encoding_error(self, signal: Signal, error: Exception) -> None:
        """Count a record that cannot be encoded as one lost item; its real number of items is unknown."""
        self._acks.add(signal, 1)
        self._acks.on_event(DeliveryEvent("lost", signal, 1, error_type=type(error).__qualname__))

    def _on_store_outcome(self, outcome: WriteOutcome) -> None:
        self._acks.on_event(DeliveryEvent(outcome.outcome, STORE, outcome.rows, error_type=outcome.error_type))

    def _enqueue(self, signal: Signal, requests: ExportRequests) -> None:
        for encoded, items in requests:
            if signal in self._config.signals and items:
                self._acks.add(signal, items)
                self._deliveries[signal].enqueue(encoded, items)

    def close(self) -> None:
        """Deliver the remaining records or write them to disk."""
        if self._flush_at:
            self.flush()
        deadline = time.monotonic() + self._config.flush_timeout
        if self._store:
            self._store.stop()
        close_deliveries(self._deliveries.values(), self._spool, deadline)
        if self._store:
            self._store.join(deadline)
        # Last, because deliveries and store log their failures.
        self._line_writer.stop()
        self._line_writer.join(max(deadline, time.monotonic() + MIN_LOG_SECONDS))


def _encode_each(
    encode: Callable[[Sequence[R]], list[T]],
    records: Sequence[R],
    on_error: Callable[[Exception], None] = lambda _: None,
) -> list[T]:
    """Encode all records together. If that fails, encode them one by one and skip those that fail.

    Otherwise such a record would end this process. The worker would send it to the next sidecar, which would end, too.
    """
    if not records:
        return []
    try:
        return encode(records)
    except Exception as error:
        if len(records) == 1:
            logger.exception("a record could not be encoded")
            on_error(error)
            return []
    return [encoded for record in records for encoded in _encode_each(encode, [record], on_error)]


def _configure_logging(line_writer: LineWriter) -> None:
    """Write the sidecar's own log messages as JSON lines, as the service does. Omit those of the OpenTelemetry SDK."""
    handler = logging.StreamHandler(line_writer)
    handler.setFormatter(json_formatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


def run(input_descriptor: int, output_descriptor: int) -> None:
    """Serve one worker: read frames from one file descriptor and write frames to another."""
    lock = threading.Lock()

    def send(frame: Frame) -> None:
        try:
            with lock:
                write_frame(output_descriptor, frame)
        except OSError:
            pass  # the worker has ended; deliver its records anyway

    handler: _FrameHandler | None = None
    reader = FrameReader()
    while True:
        timeout = handler.seconds_until_flush() if handler else None
        readable, _, _ = select.select([input_descriptor], [], [], timeout)
        if not readable:
            assert handler is not None  # noqa: S101  without a handler there is no timeout
            handler.flush()
            continue
        if not (chunk := os.read(input_descriptor, 2**20)):
            break
        for frame in reader.feed(chunk):
            if handler is None:
                origin, config = read_hello(frame)
                line_writer = LineWriter(config, lambda count: send((LINES_DROPPED, count)))
                _configure_logging(line_writer)
                handler = _FrameHandler(origin, config, line_writer, send)
            else:
                handler.handle(frame)
        if handler and handler.seconds_until_flush() == 0.0:
            handler.flush()
    if handler:
        handler.close()
    send((END,))
