"""Where log lines go: standard output, and the log file if there is one. Both may be slow; nobody waits for them."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Full, Queue
from typing import Final

from concurrent_log_handler import ConcurrentRotatingFileHandler

from modeltrace.printable import escape_control_characters
from modeltrace.telemetry.export.config import SidecarConfig

# Chunks of lines that may wait: at 64 requests each as many as the service's own lines may.
MAX_QUEUED_CHUNKS: Final = 2048
# A pipe takes so many bytes whole (PIPE_BUF on Linux): no line of another process lands in the middle of them.
ATOMIC_WRITE_BYTES: Final = 4096


class LineHandler(logging.Handler):
    """Gives what this process itself has to say to the same writer: a delivery must not wait for stdout either."""

    def __init__(self, lines: "LineWriter") -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over one line."""
        self._lines.write(self.format(record).encode() + b"\n")


class LineWriter:
    """Writes lines on a thread of its own."""

    def __init__(self, config: SidecarConfig) -> None:
        self.dropped_lines = 0
        self._file: ConcurrentRotatingFileHandler | None = None
        if config.log_file:
            # The service's own lines go to the same file: the handler's lock keeps the two from rotating each other.
            self._file = ConcurrentRotatingFileHandler(
                config.log_file, "a", config.log_file_max_bytes, config.log_file_backup_count, "utf-8", chmod=0o600
            )
        self._chunks: Queue[tuple[bytes, Callable[[], None]] | None] = Queue(MAX_QUEUED_CHUNKS)
        self._thread = threading.Thread(target=self._run, daemon=True, name="lines")
        self._thread.start()

    def write(self, lines: bytes, on_written: Callable[[], None] = lambda: None) -> None:
        """Take newline-terminated lines, and call `then` once they are written.

        When too many wait they are dropped and counted.
        """
        try:
            self._chunks.put_nowait((lines, on_written))
        except Full:
            self.dropped_lines += lines.count(b"\n")
            on_written()

    def stop(self) -> None:
        """Take no more: the thread ends with what waits by now. When too much waits it is not going to end at all."""
        with suppress(Full):
            self._chunks.put_nowait(None)

    def join(self, deadline: float) -> None:
        """Wait for that until the monotonic deadline; nobody may be reading."""
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        terminal = sys.stdout.isatty()
        while chunk := self._chunks.get():
            lines, then = chunk
            _write_stdout(escape_control_characters(lines.decode()).encode() if terminal else lines)
            if self._file and lines:
                text = lines.decode().removesuffix("\n")  # the handler ends what it writes with one
                self._file.emit(logging.LogRecord("", logging.INFO, "", 0, text, None, None))
            then()


def _write_stdout(lines: bytes) -> None:
    """Write to standard output in pieces that a pipe takes whole, as many lines in each as fit."""
    start = 0
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + ATOMIC_WRITE_BYTES) + 1
        if end <= start:
            end = lines.index(b"\n", start) + 1
        rest = memoryview(lines)[start:end]
        try:
            while rest:
                rest = rest[os.write(sys.stdout.fileno(), rest) :]
        except OSError:
            return  # nobody reads them any more
        start = end
