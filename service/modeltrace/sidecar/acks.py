"""How far everything has come: what the worker need not keep any more."""

import threading
from collections import Counter, deque
from collections.abc import Callable

from modeltrace.sidecar.delivery import Event
from modeltrace.telemetry.export.frames import Frame


class Progress:
    """Knows up to which frame nothing is in memory any more."""

    def __init__(self, tell: Callable[[Frame], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._put: Counter[str] = Counter()
        self._gone: Counter[str] = Counter()
        self._marks: deque[tuple[int, dict[str, int]]] = deque()

    def put(self, signal: str, items: int) -> None:
        """So many items are about to be handed to their delivery."""
        with self._lock:
            self._put[signal] += items

    def mark(self, sequence: int) -> None:
        """All items of the frames up to this one have been put."""
        with self._lock:
            self._marks.append((sequence, dict(self._put)))
        self._settle()

    def report(self, event: Event) -> None:
        """Something happened to items; called by the deliveries' threads."""
        with self._lock:
            if event.kind in ("exported", "lost", "spooled", "stored"):
                self._gone[event.signal] += event.items
            elif event.kind == "unspooled":  # counted when it went to disk
                self._gone[event.signal] -= event.items
        self._tell(("event", *event))
        self._settle()

    def _settle(self) -> None:
        done = 0
        with self._lock:
            while self._marks and all(self._gone[s] >= n for s, n in self._marks[0][1].items()):
                done = self._marks.popleft()[0]
        if done:
            self._tell(("done", done))
