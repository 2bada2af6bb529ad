"""Everything through stdlib logging: JSON lines to stdout (and a file), the same records over OTLP.

    logger ─► root ─┬─ OTLP handler ─► batch processor          (all but the audit trail and OpenTelemetry's own)
                    └─ line handler ─► queue ─► thread ─► stdout, file
    modeltrace.prediction ─ OTLP handler ─► batch processor of its own ─► (propagates to root's line handler)

Lines are formatted and written on a thread of their own, so a slow reader of stdout never slows a request. The trace
and span ID are taken where the record is made: on that thread there is no request any more.
"""

import logging
import logging.handlers
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from typing import TextIO

from concurrent_log_handler import ConcurrentRotatingFileHandler
from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE
from opentelemetry.semconv.attributes.url_attributes import URL_PATH
from pythonjsonlogger.orjson import OrjsonFormatter

from modeltrace.printable import escape_control_characters
from modeltrace.telemetry.records.prediction import ACCESS_LOGGER, PREDICTION_LOGGER

MAX_QUEUED_LINES = 100_000
CLOSE_TIMEOUT = 0.5  # seconds for the last lines
# By the words of OTEL_LOG_LEVEL.
OTEL_LOG_LEVELS = {
    "trace": 1,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "none": logging.CRITICAL + 1,
}


class AccessLogAttributes(logging.Filter):
    """Give uvicorn's access lines the attributes of the semantic conventions; drop its terminal colours."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add to the record; never drops one."""
        record.__dict__.pop("color_message", None)
        if record.name == ACCESS_LOGGER and isinstance(record.args, tuple) and len(record.args) == 5:
            client, method, path, _, status = record.args
            record.__dict__[CLIENT_ADDRESS] = str(client).rpartition(":")[0]
            record.__dict__[HTTP_REQUEST_METHOD] = method
            record.__dict__[URL_PATH] = str(path).partition("?")[0]
            record.__dict__[HTTP_RESPONSE_STATUS_CODE] = status
        return True


def exclude_opentelemetry(record: logging.LogRecord) -> bool:
    """OpenTelemetry's own complaints go to stdout only: sent over the path they complain about, they would feed it."""
    return not record.name.startswith("opentelemetry.")


def exclude_predictions(record: logging.LogRecord) -> bool:
    """The audit trail has an OTLP handler of its own."""
    return record.name != PREDICTION_LOGGER


def redact_warnings() -> None:
    """Of Python's warnings log where they come from and their kind, not their words: those of a model repeat values.

    Asked again, it changes nothing.
    """
    logging.getLogger("py.warnings").addFilter(_redact_warning)


def _redact_warning(record: logging.LogRecord) -> bool:
    where, kind, _ = (*record.getMessage().split(": ", 2), "", "")[:3]
    record.msg, record.args = "%s: %s: withheld, for the bundle has private features", (where, kind)
    return True


class LineQueueHandler(logging.handlers.QueueHandler):
    """Puts a record on the line thread's queue, with the IDs of the request it was made in."""

    def __init__(self, lines: "Queue[logging.LogRecord]") -> None:
        super().__init__(lines)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Add the IDs. The stock method would also render the record, here, on the request's thread."""
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            record.trace_id = trace.format_trace_id(span.trace_id)
            record.span_id = trace.format_span_id(span.span_id)
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never wait: nobody reads stdout faster because a request is kept waiting."""
        try:
            self.queue.put_nowait(record)
        except Full:
            self.dropped += 1


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes log lines to a terminal, escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return escape_control_characters(super().format(record))


@dataclass(frozen=True)
class LogWriter:
    """The thread that writes lines, and what it writes to."""

    handler: LineQueueHandler
    listener: logging.handlers.QueueListener

    def close(self) -> None:
        """Write what waits; what is logged from here on is written at once, on the caller's thread.

        When nobody reads stdout, that thread waits for ever: what is left then is not written.
        """
        root = logging.getLogger()
        thread = self.listener._thread  # noqa: SLF001  `stop` would wait for ever
        with suppress(Full):
            self.listener.enqueue_sentinel()
        if thread:
            thread.join(CLOSE_TIMEOUT)
            if thread.is_alive():
                root.handlers[:] = [logging.NullHandler()]
                return
        root.removeHandler(self.handler)
        for sink in self.listener.handlers:
            root.addHandler(sink)
        if self.handler.dropped:
            logging.getLogger("modeltrace").error("%d log lines were dropped: stdout too slow", self.handler.dropped)


def configure_logging(
    *,
    level: str,
    log_file: Path | None = None,
    max_file_bytes: int = 0,
    max_backups: int = 0,
    sdk_level: str | None = None,
) -> LogWriter:
    """Send all of stdlib logging to stdout, and to `file` when there is one, as JSON lines.

    `sdk_level` is `OTEL_LOG_LEVEL`, the lowest level of what OpenTelemetry's SDK logs.

    Raises:
        OSError: the file cannot be opened.
    """
    formatter = OrjsonFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp=True,
    )
    kind = TerminalHandler if sys.stdout.isatty() else logging.StreamHandler
    sinks: list[logging.Handler] = [kind(sys.stdout)]
    if log_file is not None:
        log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # inputs of predictions are in it
        # Several workers write to the same file: the stock handler would have each rotate it under the others.
        sinks.append(
            ConcurrentRotatingFileHandler(str(log_file), "a", max_file_bytes, max_backups, "utf-8", chmod=0o600)
        )
    for sink in sinks:
        sink.setFormatter(formatter)
    lines: Queue[logging.LogRecord] = Queue(MAX_QUEUED_LINES)
    handler = LineQueueHandler(lines)
    handler.addFilter(AccessLogAttributes())
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
    """Send the same records over OTLP; the audit trail through a provider, and so a queue, of its own.

    Returns:
        What ends it: a provider that is shut down says so of every record that it still gets.
    """
    everything = LoggingHandler(logger_provider=provider)
    everything.addFilter(AccessLogAttributes())
    everything.addFilter(exclude_opentelemetry)
    everything.addFilter(exclude_predictions)
    root = logging.getLogger()
    root.handlers.insert(0, everything)  # before the line handler adds its own fields to the record
    audit = logging.getLogger(PREDICTION_LOGGER)
    audit.handlers[:] = [LoggingHandler(logger_provider=prediction_provider)]

    def end() -> None:
        root.removeHandler(everything)
        audit.handlers.clear()

    return end
