"""At shutdown, write undelivered requests to disk and count the rest. A thread writes, since the disk may block."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from modeltrace.otel_env.table import Signal
from modeltrace.sidecar.spool import Spool, SpooledRequest


class QueuedRequest(NamedTuple):
    """An encoded request, and its file if it comes from the spool."""

    body: bytes
    items: int
    spooled: SpooledRequest | None = None


class ShutdownFlush:
    """Spools the requests that were not delivered in time."""

    def __init__(self, signal: Signal, requests: deque[QueuedRequest], spool: Spool | None) -> None:
        self._signal = signal
        self._requests = requests
        self._spool = spool
        self._lock = threading.Lock()
        self._ended = False

    def run(self, deadline: float, *, on_spooled: Callable[[int], None], on_lost: Callable[[int], None]) -> None:
        """Write to disk until the monotonic deadline.

        Args:
            deadline: A time of `time.monotonic`.
            on_spooled: Called with the number of items of each request that is on disk.
            on_lost: Called with the number of items that are not on disk by the deadline.
        """
        if self._spool and self._requests:
            thread = threading.Thread(
                target=self._write, args=(self._spool, on_spooled), daemon=True, name="shutdown-flush"
            )
            thread.start()
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._ended = True
            lost = sum(request.items for request in self._requests)
        if lost:
            on_lost(lost)

    def _write(self, spool: Spool, on_spooled: Callable[[int], None]) -> None:
        for request in tuple(self._requests):
            # Only the process ends, not the machine, so the files need not be synchronized.
            is_spooled = spool.put(self._signal, request.body, request.items, durable=False)
            with self._lock:
                if self._ended:
                    return
                if is_spooled:
                    self._requests.remove(request)
            if is_spooled:
                on_spooled(request.items)
