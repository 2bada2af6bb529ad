"""Frames that the sidecar has received but not yet delivered, stored or written to disk.

A sidecar that replaces a dead one receives them again. Memory is limited: if the limit is exceeded, the oldest frames
are discarded, and only their numbers of items are stored. If the sidecar dies, these items are counted as lost.
"""

import threading
from collections import deque
from typing import Final, NamedTuple

from modeltrace.telemetry.export.protocol import (
    LINES_ONLY,
    LINES_WRITTEN,
    RECORDS,
    RECORDS_WITHOUT_LINES,
    Frame,
)


class FrameItems(NamedTuple):
    """The numbers of items in a frame: of a signal, or requests with their predicted rows, labels and batch spans."""

    signal: str = ""
    items: int = 0
    requests: int = 0
    rows: int = 0
    labels: int = 0
    batches: int = 0


class _Pending(NamedTuple):
    frame: Frame
    size: int
    items: FrameItems

    @property
    def number(self) -> int:
        """The number of the frame."""
        return int(self.frame[0])


class UnacknowledgedFrames:
    """Frames in order, up to a number of bytes. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes: Final = max_bytes
        self._lock = threading.Lock()
        self._last_number = 0
        # The number of the last `DONE` frame, and of the last frame whose log lines are written.
        self._done = self._lines_written = 0
        self._pending: deque[_Pending] = deque()
        self._bytes = 0
        self._evicted: deque[tuple[int, FrameItems]] = deque()

    def add(self, kind: str, content: tuple[object, ...], size: int, items: FrameItems) -> Frame:
        """Store a frame of `size` bytes, and return it with its number."""
        with self._lock:
            self._last_number += 1
            frame = (self._last_number, kind, *content)
            self._pending.append(_Pending(frame, size, items))
            self._bytes += size
            while self._bytes > self._max_bytes and len(self._pending) > 1:
                # The sidecar still has this frame. It is lost only if the sidecar dies before the frame is delivered.
                evicted = self._pop_oldest()
                self._evicted.append((evicted.number, evicted.items))
        return frame

    def acknowledge(self, kind: str, number: int) -> None:
        """Record that all frames up to `number` are `DONE` or `LINES_WRITTEN`."""
        with self._lock:
            if kind == LINES_WRITTEN:
                self._lines_written = max(self._lines_written, number)
            else:
                self._done = max(self._done, number)
            while self._pending and self._is_finished(self._pending[0]):
                self._pop_oldest()
            while self._evicted and self._evicted[0][0] <= self._done:
                self._evicted.popleft()

    def frames_to_resend(self) -> list[Frame]:
        """Return the frames for a new sidecar, each with the part to process: telemetry, log lines, or both."""
        with self._lock:
            return [self._missing_part(pending.frame) for pending in self._pending]

    def has_undelivered(self) -> bool:
        """Whether any telemetry is not delivered. Log lines do not count, since standard output may have no reader."""
        with self._lock:
            return any(pending.number > self._done for pending in self._pending)

    def pop_evicted(self) -> list[FrameItems]:
        """Remove and return the lost items: those of discarded frames that the dead sidecar has not delivered."""
        with self._lock:
            lost = [items for number, items in self._evicted if number > self._done]
            self._evicted.clear()
        return lost

    def pop_undelivered(self) -> list[FrameItems]:
        """Remove and return the items that are not delivered after the last sidecar has ended."""
        with self._lock:
            lost = [pending.items for pending in self._pending if pending.number > self._done]
            self._pending.clear()
            self._bytes = 0
        return [*self.pop_evicted(), *lost]

    def _pop_oldest(self) -> _Pending:
        oldest = self._pending.popleft()
        self._bytes -= oldest.size
        return oldest

    def _is_finished(self, pending: _Pending) -> bool:
        number, kind = pending.number, pending.frame[1]
        return number <= self._done and (kind != RECORDS or number <= self._lines_written)

    def _missing_part(self, frame: Frame) -> Frame:
        number, kind, *content = frame
        if kind == RECORDS and number <= self._done:
            kind = LINES_ONLY
        elif kind == RECORDS and number <= self._lines_written:
            kind = RECORDS_WITHOUT_LINES
        return (number, kind, *content)
