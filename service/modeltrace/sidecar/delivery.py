"""Deliver the encoded requests of one signal: in order, at least once, with bounded memory and disk.

                            the endpoint responds
    enqueue ──► memory ────────────────────────────────────────► wire
                  │  it does not, or memory is half full           ▲
                  └───────────────────► spool ─────────────────────┘
                                        requests on disk are sent first

| what happens | event |
|---|---|
| the endpoint accepts the request | `exported`; `lost` for the items that it rejects (`partial_success`) |
| an attempt fails | `failed`; also `lost` if the failure is permanent |
| the request is written to disk, or removed before it is `exported` or `lost` | `spooled`, `unspooled` |
| memory or disk is full, or a file is damaged | `lost` (`queue_full`, `spool_full`, `damaged`) |
| the process stops before the request is delivered or on disk | `lost` (`shutdown`) |

An endpoint that needs longer than the timeout for a large request may still accept it. It would accept a copy of it in
each attempt, and newer requests would never be sent. So each attempt after a timeout may take twice as long as the one
before, up to `MAX_TIMEOUT_FACTOR` times the timeout. Each success halves the time again.

An outage leaves thousands of small requests on disk, so several are sent as one. Each success doubles their number, up
to `MAX_MERGED_REQUESTS`, and each failure halves it. If a request of several fails permanently, one of them or its size
may be the reason, so nothing is lost before a request fails by itself.

Requests on disk are always older than those in memory. A request in flight counts as queued in memory until its outcome
is known. A shutdown during an attempt writes the request to disk, so it may be delivered twice, but it is not lost.
"""

import logging
import threading
import time
from collections import deque
from functools import partial
from typing import Final, Literal

from modeltrace.backoff import Backoff
from modeltrace.otel_env.table import Signal
from modeltrace.otlp.client import Client, Outcome, Permanent, Retryable, Success
from modeltrace.sidecar.shutdown_flush import spool_until
from modeltrace.sidecar.spool import QueuedRequest, Spool
from modeltrace.telemetry.export.protocol import DeliveryEvent, EventListener

logger = logging.getLogger("modeltrace.exporter")

# The share of the time for a shutdown that is reserved to write undelivered requests to disk, and its maximum.
FLUSH_TIME_SHARE: Final = 0.25
MAX_FLUSH_SECONDS: Final = 1.0
MAX_TIMEOUT_FACTOR: Final = 16
MAX_MERGED_REQUESTS: Final = 256


class Delivery:
    """Delivers one signal from `start` to `close`."""

    def __init__(
        self,
        signal: Signal,
        client: Client,
        *,
        on_event: EventListener,
        max_bytes: int,
        spool: Spool | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """Create a delivery.

        Args:
            signal: The signal of all requests.
            client: Sends a request once, without retries.
            on_event: Called by several threads; must neither block nor raise.
            max_bytes: Limit of the queue in memory; one more request may be in flight.
            spool: Stores requests on disk while the endpoint is unavailable.
            backoff: Delays between attempts.
        """
        self.signal: Final = signal
        self._client = client
        self._on_event = on_event
        self._max_bytes = max_bytes
        self._spool = spool
        self._backoff = backoff or Backoff()

        self._changed = threading.Condition()
        self._queue: deque[QueuedRequest] = deque()
        self._queue_bytes = 0
        self._in_flight: QueuedRequest | None = None  # removed from the queue, but neither delivered nor on disk yet
        self._enqueued = 0
        self._failures = 0
        self._timeout_factor = 1
        self._max_requests = 1
        self._closing = False
        self._final_attempt_made = False
        self._stopped = threading.Event()  # `close` has taken the remaining requests
        self._logged_state = ""
        self._thread = threading.Thread(target=self._run, name=f"deliver-{signal}", daemon=True)

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    @property
    def spooled_items(self) -> int:
        """Number of items on disk."""
        return self._spool.items(self.signal) if self._spool else 0

    def enqueue(self, body: bytes, items: int) -> None:
        """Add a request without waiting; the oldest requests are lost when memory is full."""
        lost = 0
        with self._changed:
            if self._closing:
                reason, lost = "shutdown", items
            else:
                reason = "queue_full"
                self._queue.append(QueuedRequest(body, items))
                self._queue_bytes += len(body)
                while self._queue_bytes > self._max_bytes:
                    lost += self._pop().items
                self._enqueued += 1
                self._changed.notify_all()
        if lost:
            self._emit("lost", lost, error_type=reason)

    def close(self, deadline: float) -> None:
        """Deliver until shortly before the monotonic `deadline`; write the rest to disk or count it as lost.

        Returns by the deadline even if the endpoint or the disk blocks: only daemon threads wait for them.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        remaining = max(0.0, deadline - time.monotonic())
        if self._thread.is_alive():
            self._thread.join(remaining - min(MAX_FLUSH_SECONDS, remaining * FLUSH_TIME_SHARE))
        with self._changed:
            self._stopped.set()
            undelivered = deque([self._in_flight] if self._in_flight else [])
            undelivered.extend(self._queue)
            self._queue.clear()
            self._queue_bytes = 0
            self._in_flight = None
            self._changed.notify_all()
        if undelivered and self._spool:
            spool_until(deadline, self.signal, undelivered, self._spool, partial(self._emit, "spooled"))
        if lost := sum(request.items for request in undelivered):
            self._emit("lost", lost, error_type="shutdown")
        self._client.close()

    # The thread.

    def _run(self) -> None:
        while request := self._next_request():
            self._attempt(request)

    def _next_request(self) -> QueuedRequest | None:
        """Wait for the oldest request; return `None` when all are sent and the delivery is closing."""
        while True:
            if self._queue_bytes > self._max_bytes / 2:
                self._spill()
            if spooled := self._oldest_spooled():
                return spooled
            with self._changed:
                if self._stopped.is_set():
                    return None
                if self._queue:
                    self._in_flight = self._pop()
                    return self._in_flight
                if self._closing:
                    return None
                self._changed.wait()

    def _oldest_spooled(self) -> QueuedRequest | None:
        spool = None if self._stopped.is_set() else self._spool
        return spool.oldest(self.signal, self._max_requests) if spool else None

    def _attempt(self, request: QueuedRequest) -> None:
        started = time.monotonic()
        outcome = self._send(request.body)
        seconds = time.monotonic() - started
        with self._changed:
            if self._stopped.is_set():  # `close` has already spooled or counted the request
                return
            self._in_flight = None
            if isinstance(outcome, Retryable) and not request.file_names:
                self._push_back(request)
        if isinstance(outcome, Success):
            self._max_requests = min(2 * self._max_requests, MAX_MERGED_REQUESTS)
        else:
            self._max_requests = max(1, len(request.file_names) // 2)
        if isinstance(outcome, Retryable):
            self._log_failure("for now", outcome)
            self._emit("failed", request.items, seconds, outcome.error_type)
            self._failures += 1
            if outcome.timed_out:
                self._timeout_factor = min(2 * self._timeout_factor, MAX_TIMEOUT_FACTOR)
            self._wait_before_retry(self._backoff.delay(self._failures, outcome.retry_after))
            return
        self._failures = 0
        self._timeout_factor = max(1, self._timeout_factor // 2)
        if isinstance(outcome, Permanent) and len(request.file_names) > 1:
            self._emit("failed", request.items, seconds, outcome.error_type)
            return
        if request.file_names and self._spool:
            self._spool.remove(self.signal, request)
            self._emit("unspooled", request.items)
        self._finish(request, outcome, seconds)

    def _send(self, body: bytes) -> Outcome:
        try:
            return self._client.send(body, self._timeout_factor)
        except Exception as error:  # noqa: BLE001  an unexpected error must not stop the delivery of other requests
            return Permanent(type(error).__qualname__, "")

    def _finish(self, request: QueuedRequest, outcome: Success | Permanent, seconds: float) -> None:
        if isinstance(outcome, Permanent):
            self._log_failure("and is lost", outcome)
            self._emit("failed", request.items, seconds, outcome.error_type)
            self._emit("lost", request.items, error_type=outcome.error_type)
            return
        rejected = min(outcome.rejected, request.items)
        self._log_state(f"partly rejected: {outcome.message}" if rejected or outcome.message else "")
        self._emit("exported", request.items - rejected, seconds)
        if rejected:
            self._emit("lost", rejected, error_type="partial_success")

    def _wait_before_retry(self, seconds: float) -> None:
        """Wait. Meanwhile, move all queued requests to disk, where they survive a crash of the process."""
        until = time.monotonic() + seconds
        done = False
        while not done:
            with self._changed:
                enqueued = self._enqueued
            self._spill()
            with self._changed:
                remaining = until - time.monotonic()
                done = remaining <= 0 or self._stopped.is_set() or self._begin_final_attempt()
                if not done and self._enqueued == enqueued:
                    self._changed.wait(remaining)

    def _spill(self) -> None:
        """Move queued requests to disk, oldest first, until the queue is empty or the disk is full."""
        while self._spool:
            with self._changed:
                if self._stopped.is_set() or not self._queue:
                    return
                request = self._in_flight = self._pop()
            is_spooled = self._spool.put(self.signal, request.body, request.items)
            with self._changed:
                if self._stopped.is_set():
                    return
                self._in_flight = None
                if not is_spooled:
                    self._push_back(request)
                    return
            self._emit("spooled", request.items)

    # Methods that are called with the lock held.

    def _begin_final_attempt(self) -> bool:
        """Return whether a shutdown ends the current delay. It ends only one delay, for one final attempt."""
        if not self._closing or self._final_attempt_made:
            return False
        self._final_attempt_made = True
        self._failures = 0
        return True

    def _pop(self) -> QueuedRequest:
        request = self._queue.popleft()
        self._queue_bytes -= len(request.body)
        return request

    def _push_back(self, request: QueuedRequest) -> None:
        self._queue.appendleft(request)
        self._queue_bytes += len(request.body)

    # Events and log messages.

    def _emit(
        self,
        kind: Literal["exported", "failed", "lost", "spooled", "unspooled"],
        items: int,
        seconds: float = 0.0,
        error_type: str = "",
    ) -> None:
        self._on_event(DeliveryEvent(kind, self.signal, items, seconds, error_type))

    def _log_failure(self, consequence: str, outcome: Retryable | Permanent) -> None:
        failure = outcome.failure
        destination = f" to {failure.address}" if failure.address else ""
        reason = f"{failure} ({outcome.error_type})" if failure.reason else outcome.error_type
        # The state excludes the text of the response, which may contain an ID or a time.
        state = f"{consequence} {outcome.error_type} {failure.reason}"
        self._log_state(f"cannot be delivered{destination} {consequence}: {reason}", state)

    def _log_state(self, message: str, state: str | None = None) -> None:
        """Log a message if the state has changed; an empty message means success."""
        state = message if state is None else state
        if state and state != self._logged_state:
            logger.warning("OTLP %s %s", self.signal, message)
        elif self._logged_state and not state:
            logger.warning("OTLP %s delivered again", self.signal)
        self._logged_state = state
