"""A thread pool with a bounded queue."""

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from modeltrace.errors import BusyError

T = TypeVar("T")


class BoundedThreadPool:
    """Runs calls on at most `threads` threads; at most `max_queue_size` further calls wait."""

    def __init__(self, threads: int, max_queue_size: int) -> None:
        self._limiter = anyio.CapacityLimiter(threads)
        self._free_slots = threads + max_queue_size

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401  those of the call
        """Run `call(*arguments)` on a thread, in the context of the current request.

        Raises:
            BusyError: the queue is full.
        """
        if self._free_slots <= 0:
            raise BusyError("too many requests wait for the model; try again in a second")
        self._free_slots -= 1
        try:
            return await anyio.to_thread.run_sync(call, *arguments, limiter=self._limiter)
        finally:
            self._free_slots += 1
