"""Write log lines to standard output and to the log file, on a thread, so that a slow reader delays nothing else."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Final

from modeltrace.printable import escape_control_characters
from modeltrace.telemetry.export.protocol import SidecarConfig
from modeltrace.telemetry.log_output import open_log_file

# At 64 requests per chunk, as many lines as the queue of the service's own log records has.
MAX_QUEUED_CHUNKS: Final = 2048
# Linux writes up to this number of bytes to a pipe atomically (PIPE_BUF), so no other process writes within a line.
ATOMIC_WRITE_BYTES: Final = 4096


class LineWriter:
    """Writes JSON lines on a thread of its own. It is also the stream of the sidecar's own log handler."""

    def __init__(self, config: SidecarConfig, on_dropped: Callable[[int], object]) -> None:
        """Open the log file and start the thread. Dropped lines are reported to `on_dropped` by their number."""
        self._on_dropped = on_dropped
        self._file = None
        if config.log_file:
            self._file = open_log_file(config.log_file, config.log_file_max_bytes, config.log_file_backup_count)
        self._chunks: Queue[tuple[bytes, Callable[[], None]] | None] = Queue(MAX_QUEUED_CHUNKS)
        self._thread = threading.Thread(target=self._run, daemon=True, name="lines")
        self._thread.start()

    def write(self, text: str) -> None:
        """Enqueue complete lines of text."""
        self.enqueue(text.encode())

    def enqueue(self, lines: bytes, on_written: Callable[[], None] = lambda: None) -> None:
        """Enqueue newline-terminated lines; if the queue is full, they are dropped and reported.

        Args:
            lines: Complete lines in UTF-8.
            on_written: Called after the lines are written or dropped.
        """
        try:
            self._chunks.put_nowait((lines, on_written))
        except Full:
            self._on_dropped(lines.count(b"\n"))
            on_written()

    def stop(self) -> None:
        """End the thread after the lines enqueued so far. If the queue is full, the thread does not end."""
        with suppress(Full):
            self._chunks.put_nowait(None)

    def join(self, deadline: float) -> None:
        """Wait for the end of the thread until the monotonic deadline. Report the lines that are still in the queue."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        dropped = 0
        with suppress(Empty):
            while True:
                chunk = self._chunks.get_nowait()
                dropped += chunk[0].count(b"\n") if chunk else 0
        if dropped:
            self._on_dropped(dropped)

    def _run(self) -> None:
        terminal = sys.stdout.isatty()
        while chunk := self._chunks.get():
            lines, on_written = chunk
            _write_stdout(escape_control_characters(lines.decode()).encode() if terminal else lines)
            if self._file and lines:
                text = lines.decode().removesuffix("\n")  # the handler appends a newline
                self._file.emit(logging.LogRecord("", logging.INFO, "", 0, text, None, None))
            on_written()


def _write_stdout(lines: bytes) -> None:
    """Write to standard output in atomic pieces, each with as many complete lines as fit."""
    start = 0
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + ATOMIC_WRITE_BYTES) + 1
        if end <= start:
            end = lines.index(b"\n", start) + 1
        remaining = memoryview(lines)[start:end]
        try:
            while remaining:
                remaining = remaining[os.write(sys.stdout.fileno(), remaining) :]
        except OSError:
            return  # standard output is closed
        start = end
