"""Configures stdlib logging: JSON lines to stdout (and a file), and the same log records over OTLP.

    logger ─► root ─┬─ OTLP handler ─► batch processor          (without predictions and OpenTelemetry's own records)
                    └─ line handler ─► queue ─► thread ─► stdout, file
    modeltrace.prediction ─ OTLP handler ─► batch processor of its own ─► (propagates to root's line handler)

A separate thread formats and writes lines, so a slow reader of stdout does not delay requests. Before that, the thread
of the request adds the trace ID and the span ID.
"""

import logging
import logging.handlers
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from typing import TextIO

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE
from opentelemetry.semconv.attributes.url_attributes import URL_PATH

from modeltrace.printable import escape_control_characters
from modeltrace.telemetry.log_output import json_formatter, open_log_file
from modeltrace.telemetry.records.prediction import ACCESS_LOGGER, PREDICTION_LOGGER

MAX_QUEUED_LINES = 100_000
CLOSE_TIMEOUT = 0.5  # seconds for the last lines
# Values of OTEL_LOG_LEVEL.
OTEL_LOG_LEVELS = {
    "trace": 1,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "none": logging.CRITICAL + 1,
}


def add_access_attributes(record: logging.LogRecord) -> bool:
    """Add the attributes of the semantic conventions to uvicorn's access records, and remove terminal colours.

    It accepts every record.
    """
    record.__dict__.pop("color_message", None)
    if record.name == ACCESS_LOGGER and isinstance(record.args, tuple) and len(record.args) == 5:
        client, method, path, _, status = record.args
        record.__dict__[CLIENT_ADDRESS] = str(client).rpartition(":")[0]
        record.__dict__[HTTP_REQUEST_METHOD] = method
        record.__dict__[URL_PATH] = str(path).partition("?")[0]
        record.__dict__[HTTP_RESPONSE_STATUS_CODE] = status
    return True


def exclude_opentelemetry(record: logging.LogRecord) -> bool:
    """Reject OpenTelemetry's own records: if they were exported, a failed export would cause further exports."""
    return not record.name.startswith("opentelemetry.")


def exclude_predictions(record: logging.LogRecord) -> bool:
    """Reject prediction log records, which have a separate OTLP handler."""
    return record.name != PREDICTION_LOGGER


def redact_warnings() -> None:
    """Remove the messages of Python's warnings from the log: warnings of a model may contain private values.

    Location and category remain. Further calls have no effect.
    """
    logging.getLogger("py.warnings").addFilter(_redact_warning)


def _redact_warning(record: logging.LogRecord) -> bool:
    location, category, _ = (*record.getMessage().split(": ", 2), "", "")[:3]
    record.msg, record.args = "%s: %s: withheld because the bundle has private features", (location, category)
    return True


class LineQueueHandler(logging.handlers.QueueHandler):
    """Puts records on the queue of the line thread, with trace and span ID of the current request."""

    def __init__(self, lines: "Queue[logging.LogRecord]") -> None:
        super().__init__(lines)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Add the IDs. Do not call the base method, which would format the record on the request's thread."""
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            record.trace_id = trace.format_trace_id(span.trace_id)
            record.span_id = trace.format_span_id(span.span_id)
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Drop and count the record if the queue is full, instead of delaying the request."""
        try:
            self.queue.put_nowait(record)
        except Full:
            self.dropped += 1


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes log lines to a terminal, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as a line."""
        return escape_control_characters(super().format(record))


@dataclass(frozen=True)
class LogWriter:
    """The thread that writes log lines, and the handler that enqueues them."""

    handler: LineQueueHandler
    listener: logging.handlers.QueueListener

    def close(self) -> None:
        """Write the queued lines, and end the thread. Later records are written by the thread that logs them.

        If stdout has no reader, the remaining and the later lines are lost.
        """
        root = logging.getLogger()
        thread = self.listener._thread  # noqa: SLF001  `stop` has no timeout
        with suppress(Full):
            self.listener.enqueue_sentinel()
        if thread:
            thread.join(CLOSE_TIMEOUT)
            if thread.is_alive():
                root.handlers[:] = [logging.NullHandler()]
                return
        root.removeHandler(self.handler)
        for sink in self.listener.handlers:
            if isinstance(sink, logging.StreamHandler) and sink.stream is sys.stdout:
                sink.addFilter(_stdout_accepts_line)
            root.addHandler(sink)
        if self.handler.dropped:
            logging.getLogger("modeltrace").error("%d log lines were dropped: stdout too slow", self.handler.dropped)


def _stdout_accepts_line(_: logging.LogRecord) -> bool:
    """Return whether a line can be written without waiting. A pipe without a reader may just have become full."""
    try:
        return bool(select.select([], [sys.stdout], [], 0)[1])
    except (OSError, ValueError):  # not a file, or closed
        return True


def configure_logging(
    *,
    level: str,
    log_file: Path | None = None,
    max_file_bytes: int = 0,
    max_backups: int = 0,
    sdk_level: str | None = None,
) -> LogWriter:
    """Write all log records as JSON lines to stdout and to a file.

    Args:
        level: lowest level that is logged.
        log_file: path of the file; `None`: only stdout.
        max_file_bytes: size at which the file rotates.
        max_backups: maximum number of rotated files.
        sdk_level: `OTEL_LOG_LEVEL`, the lowest level of the OpenTelemetry SDK's own records.

    Raises:
        OSError: the file cannot be opened.
    """
    stream_handler = TerminalHandler if sys.stdout.isatty() else logging.StreamHandler
    sinks: list[logging.Handler] = [stream_handler(sys.stdout)]
    if log_file is not None:
        log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the file contains inputs of predictions
        sinks.append(open_log_file(str(log_file), max_file_bytes, max_backups))
    for sink in sinks:
        sink.setFormatter(json_formatter())
    lines: Queue[logging.LogRecord] = Queue(MAX_QUEUED_LINES)
    handler = LineQueueHandler(lines)
    handler.addFilter(add_access_attributes)
    listener = logging.handlers.QueueListener(lines, *sinks)
    listener.start()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    if sdk_level:
        logging.getLogger("opentelemetry").setLevel(OTEL_LOG_LEVELS[sdk_level])
    logging.captureWarnings(capture=True)
    return LogWriter(handler, listener)


def export_logs(provider: LoggerProvider, prediction_provider: LoggerProvider) -> Callable[[], None]:
    """Export log records over OTLP. Prediction log records have a separate provider with its own queue.

    Returns:
        A function that stops the export. Call it, since a provider warns about each record after its shutdown.
    """
    handler = LoggingHandler(logger_provider=provider)
    handler.addFilter(add_access_attributes)
    handler.addFilter(exclude_opentelemetry)
    handler.addFilter(exclude_predictions)
    root = logging.getLogger()
    root.handlers.insert(0, handler)  # before the line handler, which adds fields to the record
    predictions = logging.getLogger(PREDICTION_LOGGER)
    predictions.handlers[:] = [LoggingHandler(logger_provider=prediction_provider)]

    def stop() -> None:
        root.removeHandler(handler)
        predictions.handlers.clear()

    return stop
