"""Where a call of the model runs: on the event loop when it is short, on one of a few threads when it is not."""

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from modeltrace.errors import BusyError

T = TypeVar("T")


class BoundedThreadPool:
    """Runs calls of the model on a bounded number of threads, with a bounded number waiting."""

    def __init__(self, threads: int, max_queue_size: int) -> None:
        self._limiter = anyio.CapacityLimiter(threads)
        self._room = threads + max_queue_size

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401  those of the call
        """Run `call(*arguments)` in the context of this request.

        Raises:
            BusyError: too many wait already.
        """
        if self._room <= 0:
            raise BusyError("too many requests wait for the model; try again in a second")
        self._room -= 1
        try:
            return await anyio.to_thread.run_sync(call, *arguments, limiter=self._limiter)
        finally:
            self._room += 1
