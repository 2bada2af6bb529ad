"""Count received, stored and rejected telemetry by signal, for the pages, the API and the log."""

import threading
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

from modeltrace_hub.decode.batch import Batch, SignalName

SIGNAL_NAMES: Final[tuple[SignalName, ...]] = ("traces", "metrics", "logs")


@dataclass(slots=True)
class SignalCounts:
    """The counts of one signal since the start, in spans, data points or log records.

    `received` is the sum of `stored`, `rejected`, `refused` and the records that are being written.

    Attributes:
        received: decoded records.
        stored: committed records.
        rejected: records that break the protocol, by reason (`modeltrace_hub.decode.batch.REJECTION_REASONS`).
        refused: records that were not written, by error type. The sender sends them again, so they may be counted
            twice, except for `unstorable` ones.
        failed_requests: requests that failed before their records were counted, by error type, for example requests
            without a valid key and requests that cannot be decoded.
        last_ns: time of the last commit; 0 for never.
    """

    received: int = 0
    stored: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failed_requests: Counter[str] = field(default_factory=Counter)
    last_ns: int = 0


class IngestStats:
    """Count the records of all signals. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {signal: SignalCounts() for signal in SIGNAL_NAMES}

    def record_received(self, batch: Batch) -> None:
        """Count the records of a decoded request."""
        rejected = batch.problems.rejected
        with self._lock:
            counts = self._counts[batch.signal]
            counts.received += batch.accepted + rejected.total()
            counts.rejected += rejected

    def record_stored(self, batch: Batch, now_ns: int) -> None:
        """Count the records of a committed request."""
        with self._lock:
            counts = self._counts[batch.signal]
            counts.stored += batch.accepted
            counts.last_ns = now_ns

    def record_refused(self, batch: Batch, reason: str) -> None:
        """Count the records of a request that was decoded but not written."""
        with self._lock:
            self._counts[batch.signal].refused[reason] += batch.accepted

    def record_failed_request(self, signal: SignalName, reason: str) -> None:
        """Count a request that failed before its records were counted."""
        with self._lock:
            self._counts[signal].failed_requests[reason] += 1

    def snapshot(self) -> dict[SignalName, SignalCounts]:
        """Return a copy of all counts at one moment."""
        with self._lock:
            return deepcopy(self._counts)
