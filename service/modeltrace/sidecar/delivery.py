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

from modeltrace.otlp.client import Client, Delivered, Outcome, Refused, Signal, TryAgain
from modeltrace.sidecar.shutdown_flush import Leftover, Load
from modeltrace.sidecar.spool import Spool

logger = logging.getLogger("modeltrace.exporter")

# The part of a stop's time that is kept for writing to disk what could not be delivered, and the most of it.
SPARE_SHARE: Final = 0.25
SPARE_SECONDS: Final = 1.0


# What stands for the prediction store where signals are counted.
STORE: Final = "store"


class Event(NamedTuple):
    """Something that happened to items of a signal, or to rows of the prediction store. Plain values."""

    kind: Literal["exported", "failed", "lost", "spooled", "unspooled", "stored"]
    signal: Signal | Literal["store"]
    items: int
    seconds: float = 0.0  # of an attempt
    error_type: str = ""


Report = Callable[[Event], object]


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait after a failure: ever longer, never all at the same time; as long as the endpoint asks for."""

    first: float = 1.0
    longest: float = 30.0
    longest_asked: float = 300.0
    jitter: float = 0.2

    def after(self, failures: int, asked: float | None, draw: Callable[[], float] = random.random) -> float:
        """Seconds after so many failures in a row; `draw` gives numbers from 0 to 1."""
        if asked is not None:
            return min(max(asked, self.first), self.longest_asked)
        pause: float = self.first * 2 ** min(failures - 1, 20) * (1 + self.jitter * (2 * draw() - 1))
        return min(pause, self.longest)


class Delivery:
    """Delivers one signal from `start` to `close`.

    `report` is called by several threads and must neither block nor raise. `limit_bytes` is for what waits in memory;
    one request more may be in flight.
    """

    def __init__(
        self,
        signal: Signal,
        client: Client,
        *,
        report: Report,
        limit_bytes: int,
        spool: Spool | None = None,
        pauses: Pauses = Pauses(),
    ) -> None:
        self.signal: Final = signal
        self._client = client
        self._report = report
        self._limit = limit_bytes
        self._spool = spool
        self._pauses = pauses

        self._changed = threading.Condition()
        self._memory: deque[Load] = deque()
        self._memory_bytes = 0
        self._held: Load | None = None  # out of memory's queue, but neither delivered nor on disk yet
        self._arrived = 0
        self._failures = 0
        self._closing = False
        self._hurried = False  # a stop cuts one pause short
        self._gone = threading.Event()  # `close` has taken over what is left
        self._said = ""
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
            return sum(len(load.request) for load in self._in_memory())

    @property
    def spooled_items(self) -> int:
        """Items on disk."""
        return self._spool.items(self.signal) if self._spool else 0

    def put(self, request: bytes, items: int) -> None:
        """Take a request. Never waits: when memory is full the oldest in it are lost."""
        dropped = 0
        with self._changed:
            if self._closing:
                reason, dropped = "shutdown", items
            else:
                reason = "queue_full"
                self._memory.append(Load(request, items))
                self._memory_bytes += len(request)
                while self._memory_bytes > self._limit:
                    dropped += self._pop().items
                self._arrived += 1
                self._changed.notify_all()
        if dropped:
            self._tell("lost", dropped, error_type=reason)

    def close(self, deadline: float) -> None:
        """Deliver until shortly before `deadline` (monotonic), then put the rest on disk or count it as lost.

        Returns in time whatever the endpoint and the disk do. What they still do then, daemon threads wait for.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        left = max(0.0, deadline - time.monotonic())
        if self._thread.is_alive():
            self._thread.join(left - min(SPARE_SECONDS, left * SPARE_SHARE))
        with self._changed:
            self._gone.set()
            rest = deque(self._in_memory())
            self._memory.clear()
            self._memory_bytes = 0
            self._held = None
            self._changed.notify_all()
        Leftover(self.signal, rest, self._spool).leave(
            deadline,
            spooled=lambda items: self._tell("spooled", items),
            lost=lambda items: self._tell("lost", items, error_type="shutdown"),
        )
        self._client.close()

    # The thread.

    def _run(self) -> None:
        while load := self._next():
            self._attempt(load)

    def _next(self) -> Load | None:
        """Wait for something to send, the oldest first; None when there is nothing any more."""
        while True:
            if self._memory_bytes > self._limit / 2:
                self._spill()
            if self._spool and not self._gone.is_set() and (stored := self._spool.oldest(self.signal)):
                return Load(stored.request, stored.items, stored)
            with self._changed:
                if self._gone.is_set():
                    return None
                if self._memory:
                    self._held = self._pop()
                    return self._held
                if self._closing:
                    return None
                self._changed.wait()

    def _attempt(self, load: Load) -> None:
        begun = time.monotonic()
        outcome = self._send(load.request)
        seconds = time.monotonic() - begun
        with self._changed:
            if self._gone.is_set():  # and so is the request: where `close` has put it
                return
            self._held = None
            if isinstance(outcome, TryAgain) and not load.stored:
                self._memory.appendleft(load)
                self._memory_bytes += len(load.request)
        if isinstance(outcome, TryAgain):
            self._say_failure("for now", outcome)
            self._tell("failed", load.items, seconds, outcome.error_type)
            self._failures += 1
            self._pause(self._pauses.after(self._failures, outcome.retry_after))
            return
        self._failures = 0
        if load.stored and self._spool:
            self._spool.remove(load.stored)
            self._tell("unspooled", load.items)
        self._done(load, outcome, seconds)

    def _send(self, request: bytes) -> Outcome:
        try:
            return self._client.send(request)
        except Exception as error:  # noqa: BLE001  one request that nobody foresaw must not end the delivery of all others
            return Refused(type(error).__qualname__, "")

    def _done(self, load: Load, outcome: Delivered | Refused, seconds: float) -> None:
        if isinstance(outcome, Refused):
            self._say_failure("and is lost", outcome)
            self._tell("failed", load.items, seconds, outcome.error_type)
            self._tell("lost", load.items, error_type=outcome.error_type)
            return
        rejected = min(outcome.rejected, load.items)
        self._say(f"partly rejected: {outcome.message}" if rejected or outcome.message else "")
        self._tell("exported", load.items - rejected, seconds)
        if rejected:
            self._tell("lost", rejected, error_type="partial_success")

    def _pause(self, seconds: float) -> None:
        """Wait, and put what waits meanwhile on disk, where it survives the process."""
        until = time.monotonic() + seconds
        over = False
        while not over:
            with self._changed:
                arrived = self._arrived
            self._spill()
            with self._changed:
                left = until - time.monotonic()
                over = left <= 0 or self._gone.is_set() or self._hurry()
                if not over and self._arrived == arrived:
                    self._changed.wait(left)

    def _spill(self) -> None:
        """Put what is in memory on disk, the oldest first, as far as the disk takes it."""
        while self._spool:
            with self._changed:
                if self._gone.is_set() or not self._memory:
                    return
                load = self._held = self._pop()
            kept = self._spool.put(self.signal, load.request, load.items)
            with self._changed:
                if self._gone.is_set():
                    return
                self._held = None
                if not kept:
                    self._memory.appendleft(load)
                    self._memory_bytes += len(load.request)
                    return
            self._tell("spooled", load.items)

    # With the lock held.

    def _hurry(self) -> bool:
        """Whether this pause is the one that a stop cuts short."""
        if not self._closing or self._hurried:
            return False
        self._hurried = True
        self._failures = 0
        return True

    def _pop(self) -> Load:
        load = self._memory.popleft()
        self._memory_bytes -= len(load.request)
        return load

    def _in_memory(self) -> list[Load]:
        return [*([self._held] if self._held else []), *self._memory]

    # Telling.

    def _tell(
        self,
        kind: Literal["exported", "failed", "lost", "spooled", "unspooled"],
        items: int,
        seconds: float = 0.0,
        error_type: str = "",
    ) -> None:
        self._report(Event(kind, self.signal, items, seconds, error_type))

    def _say_failure(self, so_far: str, outcome: TryAgain | Refused) -> None:
        failure = outcome.failure
        where = f" to {failure.where}" if failure.where else ""
        why = f"{failure} ({outcome.error_type})" if failure.reason else outcome.error_type
        # What the other side says may differ each time: an ID, the time.
        state = f"{so_far} {outcome.error_type} {failure.reason}"
        self._say(f"cannot be delivered{where} {so_far}: {why}", state)

    def _say(self, text: str, state: str | None = None) -> None:
        """Log what the state has become; what stays as it is, is not repeated."""
        state = text if state is None else state
        if state and state != self._said:
            logger.warning("OTLP %s %s", self.signal, text)
        elif self._said and not state:
            logger.warning("OTLP %s delivered again", self.signal)
        self._said = state


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


def open_spool(folder: Path, limit_bytes: int, report: Report) -> Spool:
    """A spool whose losses are reported like all others."""

    def lost(signal: Signal, items: int, why: str) -> None:
        report(Event("unspooled", signal, items))
        report(Event("lost", signal, items, error_type=why))

    return Spool(folder, limit_bytes, lost)
