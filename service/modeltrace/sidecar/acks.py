"""Acknowledge frames to the worker when none of their items is in memory any more."""

import threading
from collections import Counter, deque
from collections.abc import Callable

from modeltrace.telemetry.export.protocol import DONE, EVENT, DeliveryEvent, Frame


class AckTracker:
    """Counts items per signal. Sends `DONE` when all items up to the end of a frame are exported, on disk or lost."""

    def __init__(self, send: Callable[[Frame], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._added: Counter[str] = Counter()
        self._settled: Counter[str] = Counter()
        self._frame_ends: deque[tuple[int, dict[str, int]]] = deque()

    def add(self, signal: str, items: int) -> None:
        """Count items before they are enqueued."""
        with self._lock:
            self._added[signal] += items

    def end_frame(self, sequence: int) -> None:
        """Record that all items of the frames up to this sequence number have been added."""
        with self._lock:
            self._frame_ends.append((sequence, dict(self._added)))
        self._acknowledge()

    def on_event(self, event: DeliveryEvent) -> None:
        """Count an event and forward it to the worker. Any thread may call it."""
        with self._lock:
            if event.kind in ("exported", "lost", "spooled", "stored"):
                self._settled[event.signal] += event.items
            elif event.kind == "unspooled":  # counted when it was spooled
                self._settled[event.signal] -= event.items
        self._send((EVENT, *event))
        self._acknowledge()

    def _acknowledge(self) -> None:
        done = 0
        with self._lock:
            while self._frame_ends and all(self._settled[s] >= n for s, n in self._frame_ends[0][1].items()):
                done = self._frame_ends.popleft()[0]
        if done:
            self._send((DONE, done))
