"""Call functions that may block, until a deadline."""

import threading
import time
from collections.abc import Callable, Iterable


def run_until(deadline: float, functions: Iterable[Callable[[], object]], name: str) -> bool:
    """Call functions at the same time, each on a daemon thread that has this name.

    Returns:
        Whether all of them returned by the monotonic deadline. The others continue.
    """
    threads = [threading.Thread(target=function, daemon=True, name=name) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
