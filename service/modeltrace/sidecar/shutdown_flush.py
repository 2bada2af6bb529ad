"""At shutdown, write undelivered requests to disk on a separate thread, because the disk may block."""

import threading
from collections import deque
from collections.abc import Callable

from modeltrace.otel_env.table import Signal
from modeltrace.sidecar.spool import QueuedRequest, Spool
from modeltrace.threads import run_until


def spool_until(
    deadline: float, signal: Signal, requests: deque[QueuedRequest], spool: Spool, on_spooled: Callable[[int], None]
) -> None:
    """Write requests to disk until the monotonic deadline, and remove each written request from `requests`.

    `on_spooled` is called with the number of items of each written request.
    """
    lock = threading.Lock()
    ended = False

    def write() -> None:
        for request in tuple(requests):
            # Only the process ends, not the machine, so the files need not be synchronized.
            is_spooled = spool.put(signal, request.body, request.items, durable=False)
            with lock:
                if ended:
                    return
                if is_spooled:
                    requests.remove(request)
            if is_spooled:
                on_spooled(request.items)

    run_until(deadline, [write], "shutdown-flush")
    with lock:
        ended = True
