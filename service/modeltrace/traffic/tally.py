"""What a run of traffic has sent, and what came back."""

from collections import deque
from dataclasses import dataclass, field

MAX_LATENCIES = 10_000


@dataclass
class TrafficCounts:
    """What was sent and what came back. Times in seconds; `duration` is how long was sent, known at the end."""

    sent: int = 0
    answered: int = 0
    rejected: int = 0
    failed: int = 0
    dropped: int = 0
    rows: int = 0
    labelled: int = 0
    correct: int = 0
    labels: int = 0  # sent, and taken
    last_trace_id: str | None = None
    last_failure: str | None = None
    duration: float | None = None
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_LATENCIES))

    def record_failure(self, why: str) -> None:
        """Count a request that failed."""
        self.failed += 1
        self.last_failure = why

    def record_labels(self, number: int) -> None:
        """Count labels that were taken."""
        self.labels += number

    def percentile(self, share: float) -> float | None:
        """The latency that `share` of the latest answers stayed within; `None` before the first."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
