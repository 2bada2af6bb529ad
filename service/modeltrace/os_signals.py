"""Handle signals of the operating system in an event loop."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def handle_signals(handler: Callable[[], object], *names: str) -> Iterator[None]:
    """Within the context, call a handler in the running event loop when one of the signals arrives.

    A signal that the operating system does not have is ignored.
    """
    loop = asyncio.get_running_loop()

    def handle(*_: object) -> None:
        loop.call_soon_threadsafe(handler)

    previous = {signum: signal.signal(signum, handle) for name in names if (signum := getattr(signal, name, None))}
    try:
        yield
    finally:
        for signum, before in previous.items():
            signal.signal(signum, before)
