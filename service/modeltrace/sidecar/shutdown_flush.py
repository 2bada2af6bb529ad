"""What a stop has left over: written to disk by a thread that the disk may hold up, and counted."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from modeltrace.otlp.client import Signal
from modeltrace.sidecar.spool import Spool, Stored


class Load(NamedTuple):
    """A request on its way, and where it is on disk if it comes from there."""

    request: bytes
    items: int
    stored: Stored | None = None


class Leftover:
    """Requests that were not delivered in time. `spooled` and `lost` are told how many items went where."""

    def __init__(self, signal: Signal, loads: deque[Load], spool: Spool | None) -> None:
        self._signal = signal
        self._loads = loads
        self._spool = spool
        self._lock = threading.Lock()
        self._over = False

    def leave(self, deadline: float, *, spooled: Callable[[int], None], lost: Callable[[int], None]) -> None:
        """Write until the monotonic deadline, and count the rest as lost."""
        if self._spool and self._loads:
            thread = threading.Thread(target=self._write, args=(self._spool, spooled), daemon=True, name="leftover")
            thread.start()
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._over = True
            rest = sum(load.items for load in self._loads)
        if rest:
            lost(rest)

    def _write(self, spool: Spool, spooled: Callable[[int], None]) -> None:
        for load in tuple(self._loads):
            # The process ends, not the machine: no need to wait for the disk itself.
            kept = spool.put(self._signal, load.request, load.items, durable=False)
            with self._lock:
                if self._over:
                    return
                if kept:
                    self._loads.remove(load)
            if kept:
                spooled(load.items)
