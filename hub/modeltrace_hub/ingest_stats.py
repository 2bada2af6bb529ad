"""Count received, stored and rejected telemetry by signal, for the pages, the API and the log."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from modeltrace_hub.decode.batch import Batch, SignalName

SIGNAL_NAMES: Final[tuple[SignalName, ...]] = ("traces", "metrics", "logs")


@dataclass(frozen=True, slots=True)
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
    rejected: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    failed_requests: Mapping[str, int] = field(default_factory=dict)
    last_ns: int = 0


class IngestStats:
    """Count the records of all signals. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: Counter[SignalName] = Counter()
        self._stored: Counter[SignalName] = Counter()
        self._rejected: Counter[tuple[SignalName, str]] = Counter()
        self._refused: Counter[tuple[SignalName, str]] = Counter()
        self._failed: Counter[tuple[SignalName, str]] = Counter()
        self._last_ns: dict[SignalName, int] = {}

    def record_received(self, batch: Batch) -> None:
        """Count the records of a decoded request."""
        with self._lock:
            self._received[batch.signal] += batch.accepted + batch.rejected.total()
            for reason, count in batch.rejected.items():
                self._rejected[batch.signal, reason] += count

    def record_stored(self, batch: Batch, now_ns: int) -> None:
        """Count the records of a committed request."""
        with self._lock:
            self._stored[batch.signal] += batch.accepted
            self._last_ns[batch.signal] = now_ns

    def record_refused(self, batch: Batch, reason: str) -> None:
        """Count the records of a request that was decoded but not written."""
        with self._lock:
            self._refused[batch.signal, reason] += batch.accepted

    def record_failed_request(self, signal: SignalName, reason: str) -> None:
        """Count a request that failed before its records were counted."""
        with self._lock:
            self._failed[signal, reason] += 1

    def snapshot(self) -> dict[SignalName, SignalCounts]:
        """Return all counts at one moment."""
        with self._lock:
            return {
                signal: SignalCounts(
                    received=self._received[signal],
                    stored=self._stored[signal],
                    rejected=_by_reason(self._rejected, signal),
                    refused=_by_reason(self._refused, signal),
                    failed_requests=_by_reason(self._failed, signal),
                    last_ns=self._last_ns.get(signal, 0),
                )
                for signal in SIGNAL_NAMES
            }


def _by_reason(counter: Counter[tuple[SignalName, str]], signal: SignalName) -> dict[str, int]:
    return {reason: count for (name, reason), count in sorted(counter.items()) if name == signal}
