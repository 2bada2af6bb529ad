"""How encoded requests of one signal get to the endpoint: in order, at least once, bounded on the way.

                            the endpoint answers
    put ──► memory ────────────────────────────────────────────► wire
              │  it does not, or memory is half full                ▲
              └───────────────────► disk ───────────────────────────┘
                                           what is on disk goes first

| what happens | reported |
|---|---|
| the endpoint has it | `exported`; `lost` for what it rejected (`partial_success`) |
| an attempt failed | `failed`; with `lost` when sending again makes no sense |
| it went to disk; it is there no more, and will be `exported` or `lost` next | `spooled`, `unspooled` |
| memory or disk is full, a file is not what it was | `lost` (`queue_full`, `spool_full`, `damaged`) |
| a stop had no time left | `lost` (`shutdown`) |

What is on disk is always older than what is in memory. A request that is in flight counts as waiting in memory until
its outcome is known, so a stop in the midst of it keeps it: it may arrive twice, but not never.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from modeltrace.otlp.client import Client, Outcome, Permanent, Retryable, Signal, Success
from modeltrace.sidecar.shutdown_flush import QueuedRequest, ShutdownFlush
from modeltrace.sidecar.spool import Spool

logger = logging.getLogger("modeltrace.exporter")

# The part of a stop's time that is kept for writing to disk what could not be delivered, and the most of it.
FLUSH_TIME_SHARE: Final = 0.25
MAX_FLUSH_SECONDS: Final = 1.0


# What stands for the prediction store where signals are counted.
STORE: Final = "store"


class DeliveryEvent(NamedTuple):
    """Something that happened to items of a signal, or to rows of the prediction store. Plain values."""

    kind: Literal["exported", "failed", "lost", "spooled", "unspooled", "stored"]
    signal: Signal | Literal["store"]
    items: int
    seconds: float = 0.0  # of an attempt
    error_type: str = ""


EventListener = Callable[[DeliveryEvent], object]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failure: ever longer, never all at the same time; as long as the endpoint asks for."""

    initial: float = 1.0
    maximum: float = 30.0
    max_retry_after: float = 300.0
    jitter: float = 0.2

    def delay(
        self, failures: int, retry_after: float | None, random_number: Callable[[], float] = random.random
    ) -> float:
        """Seconds after so many failures in a row; `random_number` gives numbers from 0 to 1."""
        if retry_after is not None:
            return min(max(retry_after, self.initial), self.max_retry_after)
        pause: float = self.initial * 2 ** min(failures - 1, 20) * (1 + self.jitter * (2 * random_number() - 1))
        return min(pause, self.maximum)


class Delivery:
    """Delivers one signal from `start` to `close`.

    `report` is called by several threads and must neither block nor raise. `max_bytes` is for what waits in memory;
    one request more may be in flight.
    """

    def __init__(
        self,
        signal: Signal,
        client: Client,
        *,
        on_event: EventListener,
        max_bytes: int,
        spool: Spool | None = None,
        backoff: Backoff = Backoff(),
    ) -> None:
        self.signal: Final = signal
        self._client = client
        self._on_event = on_event
        self._max_bytes = max_bytes
        self._spool = spool
        self._backoff = backoff

        self._changed = threading.Condition()
        self._queue: deque[QueuedRequest] = deque()
        self._queue_bytes = 0
        self._in_flight: QueuedRequest | None = None  # out of memory's queue, but neither delivered nor on disk yet
        self._enqueued = 0
        self._failures = 0
        self._closing = False
        self._final_attempt_made = False  # a stop cuts one pause short
        self._stopped = threading.Event()  # `close` has taken over what is left
        self._logged_state = ""
        self._thread = threading.Thread(target=self._run, name=f"deliver-{signal}", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    @property
    def queued_items(self) -> int:
        """Items in memory, in flight included."""
        with self._changed:
            return sum(load.items for load in self._in_memory())

    @property
    def queued_bytes(self) -> int:
        """Bytes in memory, in flight included."""
        with self._changed:
            return sum(len(load.body) for load in self._in_memory())

    @property
    def spooled_items(self) -> int:
        """Items on disk."""
        return self._spool.items(self.signal) if self._spool else 0

    def enqueue(self, request: bytes, items: int) -> None:
        """Take a request. Never waits: when memory is full the oldest in it are lost."""
        dropped = 0
        with self._changed:
            if self._closing:
                reason, dropped = "shutdown", items
            else:
                reason = "queue_full"
                self._queue.append(QueuedRequest(request, items))
                self._queue_bytes += len(request)
                while self._queue_bytes > self._max_bytes:
                    dropped += self._pop().items
                self._enqueued += 1
                self._changed.notify_all()
        if dropped:
            self._emit("lost", dropped, error_type=reason)

    def close(self, deadline: float) -> None:
        """Deliver until shortly before `deadline` (monotonic), then put the rest on disk or count it as lost.

        Returns in time whatever the endpoint and the disk do. What they still do then, daemon threads wait for.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        left = max(0.0, deadline - time.monotonic())
        if self._thread.is_alive():
            self._thread.join(left - min(MAX_FLUSH_SECONDS, left * FLUSH_TIME_SHARE))
        with self._changed:
            self._stopped.set()
            rest = deque(self._in_memory())
            self._queue.clear()
            self._queue_bytes = 0
            self._in_flight = None
            self._changed.notify_all()
        ShutdownFlush(self.signal, rest, self._spool).run(
            deadline,
            on_spooled=lambda items: self._emit("spooled", items),
            on_lost=lambda items: self._emit("lost", items, error_type="shutdown"),
        )
        self._client.close()

    # The thread.

    def _run(self) -> None:
        while load := self._next_request():
            self._attempt(load)

    def _next_request(self) -> QueuedRequest | None:
        """Wait for something to send, the oldest first; None when there is nothing any more."""
        while True:
            if self._queue_bytes > self._max_bytes / 2:
                self._spill()
            if self._spool and not self._stopped.is_set() and (stored := self._spool.oldest(self.signal)):
                return QueuedRequest(stored.body, stored.items, stored)
            with self._changed:
                if self._stopped.is_set():
                    return None
                if self._queue:
                    self._in_flight = self._pop()
                    return self._in_flight
                if self._closing:
                    return None
                self._changed.wait()

    def _attempt(self, load: QueuedRequest) -> None:
        begun = time.monotonic()
        outcome = self._send(load.body)
        seconds = time.monotonic() - begun
        with self._changed:
            if self._stopped.is_set():  # and so is the request: where `close` has put it
                return
            self._in_flight = None
            if isinstance(outcome, Retryable) and not load.spooled:
                self._queue.appendleft(load)
                self._queue_bytes += len(load.body)
        if isinstance(outcome, Retryable):
            self._log_failure("for now", outcome)
            self._emit("failed", load.items, seconds, outcome.error_type)
            self._failures += 1
            self._wait_before_retry(self._backoff.delay(self._failures, outcome.retry_after))
            return
        self._failures = 0
        if load.spooled and self._spool:
            self._spool.remove(load.spooled)
            self._emit("unspooled", load.items)
        self._finish(load, outcome, seconds)

    def _send(self, request: bytes) -> Outcome:
        try:
            return self._client.send(request)
        except Exception as error:  # noqa: BLE001  one request that nobody foresaw must not end the delivery of all others
            return Permanent(type(error).__qualname__, "")

    def _finish(self, load: QueuedRequest, outcome: Success | Permanent, seconds: float) -> None:
        if isinstance(outcome, Permanent):
            self._log_failure("and is lost", outcome)
            self._emit("failed", load.items, seconds, outcome.error_type)
            self._emit("lost", load.items, error_type=outcome.error_type)
            return
        rejected = min(outcome.rejected, load.items)
        self._log_state(f"partly rejected: {outcome.message}" if rejected or outcome.message else "")
        self._emit("exported", load.items - rejected, seconds)
        if rejected:
            self._emit("lost", rejected, error_type="partial_success")

    def _wait_before_retry(self, seconds: float) -> None:
        """Wait, and put what waits meanwhile on disk, where it survives the process."""
        until = time.monotonic() + seconds
        over = False
        while not over:
            with self._changed:
                arrived = self._enqueued
            self._spill()
            with self._changed:
                left = until - time.monotonic()
                over = left <= 0 or self._stopped.is_set() or self._begin_final_attempt()
                if not over and self._enqueued == arrived:
                    self._changed.wait(left)

    def _spill(self) -> None:
        """Put what is in memory on disk, the oldest first, as far as the disk takes it."""
        while self._spool:
            with self._changed:
                if self._stopped.is_set() or not self._queue:
                    return
                load = self._in_flight = self._pop()
            kept = self._spool.put(self.signal, load.body, load.items)
            with self._changed:
                if self._stopped.is_set():
                    return
                self._in_flight = None
                if not kept:
                    self._queue.appendleft(load)
                    self._queue_bytes += len(load.body)
                    return
            self._emit("spooled", load.items)

    # With the lock held.

    def _begin_final_attempt(self) -> bool:
        """Whether this pause is the one that a stop cuts short."""
        if not self._closing or self._final_attempt_made:
            return False
        self._final_attempt_made = True
        self._failures = 0
        return True

    def _pop(self) -> QueuedRequest:
        load = self._queue.popleft()
        self._queue_bytes -= len(load.body)
        return load

    def _in_memory(self) -> list[QueuedRequest]:
        return [*([self._in_flight] if self._in_flight else []), *self._queue]

    # Telling.

    def _emit(
        self,
        kind: Literal["exported", "failed", "lost", "spooled", "unspooled"],
        items: int,
        seconds: float = 0.0,
        error_type: str = "",
    ) -> None:
        self._on_event(DeliveryEvent(kind, self.signal, items, seconds, error_type))

    def _log_failure(self, so_far: str, outcome: Retryable | Permanent) -> None:
        failure = outcome.failure
        where = f" to {failure.address}" if failure.address else ""
        why = f"{failure} ({outcome.error_type})" if failure.reason else outcome.error_type
        # What the other side says may differ each time: an ID, the time.
        state = f"{so_far} {outcome.error_type} {failure.reason}"
        self._log_state(f"cannot be delivered{where} {so_far}: {why}", state)

    def _log_state(self, text: str, state: str | None = None) -> None:
        """Log what the state has become; what stays as it is, is not repeated."""
        state = text if state is None else state
        if state and state != self._logged_state:
            logger.warning("OTLP %s %s", self.signal, text)
        elif self._logged_state and not state:
            logger.warning("OTLP %s delivered again", self.signal)
        self._logged_state = state


class Deliveries:
    """Those of all signals, and the disk that they share."""

    def __init__(self, deliveries: Mapping[Signal, Delivery], spool: Spool | None = None) -> None:
        self._deliveries = deliveries
        self._spool = spool

    def __getitem__(self, signal: Signal) -> Delivery:
        return self._deliveries[signal]

    def start(self) -> None:
        """Begin to send."""
        for delivery in self._deliveries.values():
            delivery.start()

    def close(self, deadline: float) -> None:
        """Close all at the same time under one deadline: one after the other, each would cost its own."""
        threads = [
            threading.Thread(target=delivery.close, args=(deadline,), daemon=True, name=f"close-{signal}")
            for signal, delivery in self._deliveries.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._spool and not any(thread.is_alive() for thread in threads):
            self._spool.close()


def open_spool(folder: Path, max_bytes: int, on_event: EventListener) -> Spool:
    """A spool whose losses are reported like all others."""

    def lost(signal: Signal, items: int, why: str) -> None:
        on_event(DeliveryEvent("unspooled", signal, items))
        on_event(DeliveryEvent("lost", signal, items, error_type=why))

    return Spool(folder, max_bytes, lost)
