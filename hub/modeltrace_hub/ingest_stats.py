"""What has arrived since the start and what has become of it, by signal. For the page and the log."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from modeltrace_hub.decode.batch import Batch, SignalName

SIGNALS: Final[tuple[SignalName, ...]] = ("traces", "metrics", "logs")


@dataclass(frozen=True, slots=True)
class SignalCounts:
    """One signal's account: spans, data points or log records, but for `failed_requests`.

    `received` is the sum of `stored`, of `rejected` by reason (`modeltrace_hub.decode.batch.REASONS`: sent again they
    are rejected
    again), of `refused` by reason (`queue_full`, `write_failed`, `closing`: the sender was asked to try again, so the
    same may arrive twice; `unstorable`: it was not), and of what is being written at the moment. `failed_requests`
    counts, by reason, requests that could not be read, so that nobody knows what was in them. `last_ns` is when
    something was last stored, 0 for never.
    """

    received: int = 0
    stored: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    failed_requests: Mapping[str, int] = field(default_factory=dict)
    last_ns: int = 0


class Counts:
    """The account of all signals. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: Counter[SignalName] = Counter()
        self._stored: Counter[SignalName] = Counter()
        self._rejected: Counter[tuple[SignalName, str]] = Counter()
        self._refused: Counter[tuple[SignalName, str]] = Counter()
        self._failed: Counter[tuple[SignalName, str]] = Counter()
        self._last_ns: dict[SignalName, int] = {}

    def received(self, batch: Batch) -> None:
        """A request has been decoded."""
        with self._lock:
            self._received[batch.signal] += batch.accepted + batch.rejected.total()
            for reason, count in batch.rejected.items():
                self._rejected[batch.signal, reason] += count

    def stored(self, batch: Batch, now_ns: int) -> None:
        """Its rows have been committed."""
        with self._lock:
            self._stored[batch.signal] += batch.accepted
            self._last_ns[batch.signal] = now_ns

    def refused(self, batch: Batch, reason: str) -> None:
        """Its rows have not been taken, and the sender is asked to try again."""
        with self._lock:
            self._refused[batch.signal, reason] += batch.accepted

    def failed(self, signal: SignalName, reason: str) -> None:
        """A request could not be read."""
        with self._lock:
            self._failed[signal, reason] += 1

    def snapshot(self) -> dict[SignalName, SignalCounts]:
        """All counts at one moment."""
        with self._lock:
            return {
                signal: SignalCounts(
                    received=self._received[signal],
                    stored=self._stored[signal],
                    rejected=_of(self._rejected, signal),
                    refused=_of(self._refused, signal),
                    failed_requests=_of(self._failed, signal),
                    last_ns=self._last_ns.get(signal, 0),
                )
                for signal in SIGNALS
            }


def _of(counter: Counter[tuple[SignalName, str]], signal: SignalName) -> dict[str, int]:
    return {reason: count for (of, reason), count in sorted(counter.items()) if of == signal}
