"""Limit how many expired predictions are deleted at a time, so that a wrong clock does not delete the whole store.

The age of a prediction is relative to the earlier of two times. The first is the system clock. The second is the time
of the newest prediction, plus the time that has passed since this process first saw that prediction.

Deletions take their budget from a token bucket. It starts with `BURST_SHARE` of all rows and refills `REFILL_FACTOR`
times as fast as rows expire when predictions are written at a constant rate.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("modeltrace.store")

REFILL_FACTOR: Final = 10
BURST_SHARE: Final = 0.1
# Seconds after which all rows are counted again.
COUNT_INTERVAL: Final = 3600.0


class AgeLimit:
    """The age limit and the deletion budget of one store.

    Args:
        max_age_ns: the age in nanoseconds above which a prediction is expired.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, max_age_ns: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_age_ns = max_age_ns
        self._clock = clock
        self._newest_ns = 0
        self._newest_seen_at = self._refilled_at = self._counted_at = clock()
        self._total: int | None = None
        self._budget = 0.0
        self._limited = False

    def cutoff(self, now_ns: int, newest_ns: int) -> int:
        """Return the time before which predictions are expired, in nanoseconds since the epoch."""
        now = self._clock()
        if newest_ns != self._newest_ns:
            self._newest_ns, self._newest_seen_at = newest_ns, now
        return min(now_ns, newest_ns + int((now - self._newest_seen_at) * 1e9)) - self._max_age_ns

    def available(self, count_rows: Callable[[], int]) -> int:
        """Return how many rows may be deleted now. `count_rows` counts all rows; it is called rarely."""
        now = self._clock()
        if self._total is None:
            self._total, self._counted_at = count_rows(), now
            self._budget = max(1.0, BURST_SHARE * self._total)
        elif not self._limited and now >= self._counted_at + COUNT_INTERVAL:
            self._total, self._counted_at = count_rows(), now
        refill = REFILL_FACTOR * (now - self._refilled_at) * 1e9 / self._max_age_ns
        self._refilled_at = now
        capacity = max(1.0, min(max(BURST_SHARE, refill), 1.0) * self._total)
        self._budget = min(self._budget + refill * self._total, capacity)
        return max(0, int(self._budget))

    def consume(self, rows: int, *, more: bool) -> bool:
        """Subtract deleted rows from the budget.

        Args:
            rows: the number of deleted rows.
            more: whether further rows are expired.

        Returns:
            Whether further rows are expired and the budget allows deleting some of them now.
        """
        self._budget -= rows
        limited = more and self._budget < 1
        if limited and not self._limited:
            logger.warning(
                "more predictions expired at once than may be deleted: the clock was set forward, or the service was "
                "not running for a long time. They are deleted within %.1f h; if the clock is wrong, correct it",
                self._max_age_ns / REFILL_FACTOR / 3.6e12,
            )
        if limited or not more:
            self._limited = limited
        return more and not limited
