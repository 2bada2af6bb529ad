"""Which predictions are too old, and how many of them may be deleted: a clock that is set forward must not cost all.

The clock is not trusted alone. Ages count from it, or from the newest prediction and the time that has passed since
that was first seen if that is earlier. And rows are deleted no faster than `REFILL_FACTOR` times as fast as they grow
old when they are written evenly, save for a first `BURST_SHARE` of them.
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
    """The limit of one store, for the one who enforces it. `age_ns` is a duration in nanoseconds."""

    def __init__(self, age_ns: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._age_ns = age_ns
        self._clock = clock
        self._newest_ns = 0
        self._newest_seen_at = self._refilled_at = self._counted_at = clock()
        self._total: int | None = None
        self._budget = 0.0
        self._limited = False

    def cutoff(self, now_ns: int, newest_ns: int) -> int:
        """The time before which predictions are too old."""
        moment = self._clock()
        if newest_ns != self._newest_ns:
            self._newest_ns, self._newest_seen_at = newest_ns, moment
        return min(now_ns, newest_ns + int((moment - self._newest_seen_at) * 1e9)) - self._age_ns

    def available(self, count_rows: Callable[[], int]) -> int:
        """How many rows may be deleted now; `count` counts all, and is called seldom."""
        moment = self._clock()
        if self._total is None:
            self._total, self._counted_at = count_rows(), moment
            self._budget = max(1.0, BURST_SHARE * self._total)
        elif not self._limited and moment >= self._counted_at + COUNT_INTERVAL:
            self._total, self._counted_at = count_rows(), moment
        aged = REFILL_FACTOR * (moment - self._refilled_at) * 1e9 / self._age_ns
        self._refilled_at = moment
        most = max(1.0, min(max(BURST_SHARE, aged), 1.0) * self._total)
        self._budget = min(self._budget + aged * self._total, most)
        return max(0, int(self._budget))

    def consume(self, rows: int, *, more: bool) -> bool:
        """Account for deleted rows; `more` are too old. Whether some of those may be deleted at once."""
        self._budget -= rows
        limited = more and self._budget < 1
        if limited and not self._limited:
            logger.warning(
                "more predictions are too old at once than may be deleted: the clock was set forward, or the service "
                "did not run for long. They are deleted within %.1f h; if the clock is wrong, set it right",
                self._age_ns / REFILL_FACTOR / 3.6e12,
            )
        if limited or not more:
            self._limited = limited
        return more and not limited
