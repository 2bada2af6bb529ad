"""Exponential backoff between attempts to send a request."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: exponential with jitter, or the delay that the endpoint demands, within limits."""

    initial: float = 1.0
    maximum: float = 30.0
    max_retry_after: float = 300.0
    jitter: float = 0.2

    def delay(
        self, failures: int, retry_after: float | None, random_number: Callable[[], float] = random.random
    ) -> float:
        """Return the delay in seconds after a number of consecutive failures.

        Args:
            failures: Number of consecutive failures, at least 1.
            retry_after: Seconds that the endpoint demands; `None` if it demands no delay.
            random_number: Returns numbers from 0 to 1.
        """
        if retry_after is not None:
            return min(max(retry_after, self.initial), self.max_retry_after)
        jitter = 1 + self.jitter * (2 * random_number() - 1)
        delay: float = self.initial * 2 ** min(failures - 1, 20) * jitter
        return min(delay, self.maximum)
