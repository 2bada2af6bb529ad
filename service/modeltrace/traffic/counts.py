"""Counts of a traffic run."""

from collections import deque
from dataclasses import dataclass, field

# Maximum number of stored latencies. Percentiles are computed from the latest ones.
MAX_LATENCIES = 10_000


@dataclass
class Counts:
    """Requests, rows and labels of a run.

    Attributes:
        sent: requests sent.
        answered: requests answered with predictions.
        rejected: requests with injected faults that the service rejected, as expected.
        failed: requests and label submissions that failed unexpectedly.
        dropped: requests not sent because too many were in flight when they were due.
        rows: rows answered with a prediction.
        labelled: rows answered with a predicted label for which the true label is known.
        correct: labelled rows whose label equals the true label.
        labels: true labels that the service accepted.
        last_trace_id: trace ID of the latest response.
        last_failure: description of the latest failure.
    """

    sent: int = 0
    answered: int = 0
    rejected: int = 0
    failed: int = 0
    dropped: int = 0
    rows: int = 0
    labelled: int = 0
    correct: int = 0
    labels: int = 0
    last_trace_id: str | None = None
    last_failure: str | None = None


@dataclass
class TrafficCounts(Counts):
    """Counts that a run updates.

    Attributes:
        duration: seconds during which requests were sent; known at the end.
        latencies: the latest latencies in seconds.
    """

    duration: float | None = None
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_LATENCIES))

    def record_failure(self, reason: str) -> None:
        """Count a failure."""
        self.failed += 1
        self.last_failure = reason

    def latency_ms(self, share: float) -> float | None:
        """Return the milliseconds that `share` of the latest latencies do not exceed; `None` without responses."""
        ordered = sorted(self.latencies)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1) if ordered else None
