"""What a stop has left over: written to disk by a thread that the disk may hold up, and counted."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from modeltrace.otlp.client import Signal
from modeltrace.sidecar.spool import Spool, SpooledRequest


class QueuedRequest(NamedTuple):
    """A request on its way, and where it is on disk if it comes from there."""

    body: bytes
    items: int
    spooled: SpooledRequest | None = None


class ShutdownFlush:
    """Requests that were not delivered in time. `spooled` and `lost` are told how many items went where."""

    def __init__(self, signal: Signal, requests: deque[QueuedRequest], spool: Spool | None) -> None:
        self._signal = signal
        self._requests = requests
        self._spool = spool
        self._lock = threading.Lock()
        self._ended = False

    def run(self, deadline: float, *, on_spooled: Callable[[int], None], on_lost: Callable[[int], None]) -> None:
        """Write until the monotonic deadline, and count the rest as lost."""
        if self._spool and self._requests:
            thread = threading.Thread(target=self._write, args=(self._spool, on_spooled), daemon=True, name="leftover")
            thread.start()
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._ended = True
            rest = sum(load.items for load in self._requests)
        if rest:
            on_lost(rest)

    def _write(self, spool: Spool, spooled: Callable[[int], None]) -> None:
        for load in tuple(self._requests):
            # The process ends, not the machine: no need to wait for the disk itself.
            kept = spool.put(self._signal, load.body, load.items, durable=False)
            with self._lock:
                if self._ended:
                    return
                if kept:
                    self._requests.remove(load)
            if kept:
                spooled(load.items)
