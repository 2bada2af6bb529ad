"""What the exporter process was given and has not yet delivered or put on disk.

A process that takes over from one that died is given it again. Up to a limit: of frames beyond that only the numbers
are kept, so that what dies with the process is at least counted.
"""

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast

from modeltrace.telemetry.records.feedback import FeedbackRecord
from modeltrace.telemetry.records.prediction import RequestRecord

# A number, a kind (`records`, `otlp`), and what `modeltrace.sidecar.run` takes of that kind.
Frame = tuple[Any, ...]
RECORDS: Final = "records"
# Places of fields: a frame has records as tuples, in the order of their fields.
ANSWERED: Final = RequestRecord._fields.index("predictions")
LABELS: Final = FeedbackRecord._fields.index("labels")


class LostItems(NamedTuple):
    """What went with a frame: items of a signal that came encoded, or requests, their answered rows, and labels."""

    signal: str
    items: int
    requests: int
    rows: int
    labels: int = 0


class UnacknowledgedFrames:
    """Frames in order, each with what it takes in memory. Threads may share it."""

    def __init__(self, max_bytes: int) -> None:
        self._most_bytes = max_bytes
        self._lock = threading.Lock()
        self._number = 0
        # Up to which frame everything is delivered or on disk, and all log lines are written.
        self._done = self._lined = 0
        self._frames: deque[tuple[Frame, int]] = deque()
        self._bytes = 0
        self._trimmed: deque[tuple[int, LostItems]] = deque()

    def add(self, content: Frame, size: int) -> Frame:
        """Keep a kind and its content; the frame to send, with its number."""
        with self._lock:
            self._number += 1
            frame = (self._number, *content)
            self._frames.append((frame, size))
            self._bytes += size
            while self._bytes > self._most_bytes and len(self._frames) > 1:
                # The process still has it: it is lost only if that dies before it is delivered.
                trimmed = self._take()
                self._trimmed.append((trimmed[0], _lost(trimmed)))
        return frame

    def remove_last(self) -> None:
        """Forget the newest frame: it could not be sent, and never can."""
        with self._lock:
            self._bytes -= self._frames.pop()[1]

    def acknowledge(self, kind: str, number: int) -> None:
        """Everything up to a frame is `done`, or its `lines` are written."""
        with self._lock:
            if kind == "lines":
                self._lined = max(self._lined, number)
            else:
                self._done = max(self._done, number)
            while self._frames and self._finished(self._frames[0][0]):
                self._take()
            while self._trimmed and self._trimmed[0][0] <= self._done:
                self._trimmed.popleft()

    def frames_to_resend(self) -> list[Frame]:
        """The frames for a process that takes over, each as what is missing of it: telemetry, lines, or both."""
        with self._lock:
            return [self._missing(frame) for frame, _ in self._frames]

    def has_undelivered(self) -> bool:
        """Whether there is anything that was not told. Lines may be left because nobody reads them."""
        with self._lock:
            return any(frame[0] > self._done for frame, _ in self._frames)

    def take_evicted(self) -> Iterable[LostItems]:
        """What died with the process because there was no room to keep it here; told once."""
        with self._lock:
            lost = [one for number, one in self._trimmed if number > self._done]
            self._trimmed.clear()
        return lost

    def take_undelivered(self) -> Iterable[LostItems]:
        """What nobody has any more once the last process has ended; told once."""
        with self._lock:
            lost = [_lost(frame) for frame, _ in self._frames if frame[0] > self._done]
            self._frames.clear()
            self._bytes = 0
        return [*self.take_evicted(), *lost]

    def _take(self) -> Frame:
        frame, size = self._frames.popleft()
        self._bytes -= size
        return frame

    def _finished(self, frame: Frame) -> bool:
        number, kind = cast("tuple[int, str]", frame[:2])
        return number <= self._done and (kind != RECORDS or number <= self._lined)

    def _missing(self, frame: Frame) -> Frame:
        number, kind, *content = frame
        if kind == RECORDS:
            kind = "lines" if number <= self._done else "again" if number <= self._lined else kind
        return (number, kind, *content)


def _lost(frame: Frame) -> LostItems:
    _, kind, *content = frame
    if kind == RECORDS:
        requests, _, _, feedback = content
        rows = sum(len(request[ANSWERED]) for request in requests)
        labels = sum(len(record[LABELS]) for record in feedback)
        return LostItems("", 0, len(requests), rows, labels)
    return LostItems(content[0], content[2], 0, 0)
