"""How far everything has come: what the worker need not keep any more."""

import threading
from collections import Counter, deque
from collections.abc import Callable

from modeltrace.sidecar.delivery import DeliveryEvent
from modeltrace.telemetry.export.frames import Frame


class AckTracker:
    """Knows up to which frame nothing is in memory any more."""

    def __init__(self, send: Callable[[Frame], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._added: Counter[str] = Counter()
        self._settled: Counter[str] = Counter()
        self._frame_ends: deque[tuple[int, dict[str, int]]] = deque()

    def add(self, signal: str, items: int) -> None:
        """So many items are about to be handed to their delivery."""
        with self._lock:
            self._added[signal] += items

    def end_frame(self, sequence: int) -> None:
        """All items of the frames up to this one have been put."""
        with self._lock:
            self._frame_ends.append((sequence, dict(self._added)))
        self._acknowledge()

    def on_event(self, event: DeliveryEvent) -> None:
        """Something happened to items; called by the deliveries' threads."""
        with self._lock:
            if event.kind in ("exported", "lost", "spooled", "stored"):
                self._settled[event.signal] += event.items
            elif event.kind == "unspooled":  # counted when it went to disk
                self._settled[event.signal] -= event.items
        self._send(("event", *event))
        self._acknowledge()

    def _acknowledge(self) -> None:
        done = 0
        with self._lock:
            while self._frame_ends and all(self._settled[s] >= n for s, n in self._frame_ends[0][1].items()):
                done = self._frame_ends.popleft()[0]
        if done:
            self._send(("done", done))
