"""Carries what is to be told out of this interpreter: to a process that encodes it, delivers it, and keeps it.

    request ─► put() ─► deque ─► thread ─┬─► counted: metric points
                                         └─► marshal ─► pipe ─► exporter process ─► OTLP, log lines
                                                            ◄─ what became of it

Encoding a span costs 45 µs in Python and holds the interpreter's lock all the while; writing a record down costs 6.
What the process has not yet delivered or put on disk is kept here, so one that dies is replaced and loses nothing.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from service.telemetry.points import PredictionPoints
from service.telemetry.record import Batch, plain
from service.telemetry.tracing import RequestTrace

logger = logging.getLogger("modeltrace.telemetry")

# Seconds that records gather before they are sent; a chunk holds the interpreter's lock for half a millisecond.
INTERVAL: Final = 0.05
CHUNK: Final = 64
# A batch of the largest size allowed by default fits in here, beside those of others.
MOST_ROWS: Final = 32_768
UNCONFIRMED_BYTES: Final = 64 * 2**20
SHORTEST_LIFE: Final = 1.0
SPANS_OF_A_REQUEST: Final = 4


class Exporter(Protocol):
    """The process at the other end."""

    def write(self, frame: tuple[object, ...]) -> None:
        """Send a frame; blocks while the pipe is full.

        Raises:
            OSError: it is dead.
        """

    def stop(self, deadline: float) -> bool:
        """Close the pipe and wait until the process has ended, or until the deadline; whether it has."""


class Heard(NamedTuple):
    """What the exporter process says: kind, then `service.exporter.delivery.Event`'s fields or the kind's own."""

    kind: str
    details: tuple[object, ...]


class Outbox:
    """The way out, for all telemetry of this process."""

    def __init__(
        self,
        start: Callable[[Callable[[Heard], None]], Exporter],
        points: Sequence[PredictionPoints] = (),
        *,
        most_rows: int = MOST_ROWS,
        listen: Callable[[Heard], None] = lambda _: None,
    ) -> None:
        """`start` starts an exporter process and tells its caller what that says; `points` count every record."""
        self._start = start
        self._points = points
        self._most_rows = most_rows
        self._listen = listen
        self._waiting: deque[RequestTrace | Batch | tuple[str, bytes, int]] = deque()
        self._put_rows = self._sent_rows = 0  # each written by one thread only
        self.dropped_requests = self.dropped_rows = self.restarts = 0
        self._sequence = 0
        self._unconfirmed: deque[tuple[int, tuple[object, ...], int]] = deque()
        self._unconfirmed_bytes = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._exporter: Exporter | None = None
        self._started = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True, name="telemetry-outbox")
        self._thread.start()

    @property
    def waiting_rows(self) -> int:
        """Rows that wait here."""
        return self._put_rows - self._sent_rows

    @property
    def capacity(self) -> int:
        """Rows that may wait here."""
        return self._most_rows

    def put(self, request: RequestTrace) -> None:
        """Take a request that is over. Never waits: what finds no room is dropped and counted."""
        rows = len(request.answered) or 1
        if self._put_rows - self._sent_rows + rows > self._most_rows:
            self.dropped_requests += 1
            self.dropped_rows += len(request.answered)
            return
        self._put_rows += rows
        self._waiting.append(request)

    def put_batch(self, batch: Batch) -> None:
        """Take the span of a call that answered several requests."""
        self._waiting.append(batch)

    def put_encoded(self, signal: str, request: bytes, items: int) -> None:
        """Take an OTLP request that is already encoded, from an exporter of the SDK."""
        self._waiting.append((signal, request, items))

    def close(self, deadline: float) -> bool:
        """Send what waits, then let the exporter process deliver it; whether that ended by the monotonic `deadline`."""
        self._stopping.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        exporter = self._exporter
        return not self._thread.is_alive() and (exporter is None or exporter.stop(deadline))

    def _run(self) -> None:
        self._exporter = self._start_exporter()
        while not self._stopping.wait(INTERVAL):
            self._send_waiting()
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting:
            requests, batches, encoded = [], [], []
            rows = 0
            while self._waiting and rows < CHUNK:
                item = self._waiting.popleft()
                if isinstance(item, RequestTrace):
                    requests.append(item.record())
                    rows += len(item.answered) or 1
                elif isinstance(item, Batch):
                    batches.append(plain(item))
                else:
                    encoded.append(item)
            for points in self._points:
                points.add(requests)
            self._sent_rows += rows
            if requests or batches:
                self._send(("records", list(map(plain, requests)), batches), rows * 1024)
            for one in encoded:
                self._send(("otlp", *one), len(one[1]))

    def _send(self, frame: tuple[object, ...], size: int) -> None:
        self._sequence += 1
        numbered = (self._sequence, *frame)
        with self._lock:
            self._unconfirmed.append((self._sequence, numbered, size))
            self._unconfirmed_bytes += size
            while self._unconfirmed_bytes > UNCONFIRMED_BYTES and len(self._unconfirmed) > 1:
                # The exporter process still has it: it is lost only if that dies before it is delivered.
                self._unconfirmed_bytes -= self._unconfirmed.popleft()[2]
        self._write(numbered)

    def _write(self, frame: tuple[object, ...]) -> None:
        try:
            assert self._exporter is not None  # noqa: S101  started before anything is sent
            self._exporter.write(frame)
        except OSError:
            self._replace()

    def _replace(self) -> None:
        """Start another exporter process, and send it what the last one did not finish."""
        while True:
            self.restarts += 1
            logger.warning("the exporter process died; starting another one (%d so far)", self.restarts)
            if time.monotonic() - self._started < SHORTEST_LIFE and self._stopping.wait(SHORTEST_LIFE):
                return
            self._exporter = self._start_exporter()
            with self._lock:
                again = [frame for _, frame, _ in self._unconfirmed]
            try:
                for frame in again:
                    self._exporter.write(frame)
            except OSError:
                continue
            return

    def _start_exporter(self) -> Exporter:
        self._started = time.monotonic()
        return self._start(self._hear)

    def _hear(self, heard: Heard) -> None:
        """Called on the thread that listens to the exporter process."""
        if heard.kind == "done":
            (sequence,) = heard.details
            with self._lock:
                while self._unconfirmed and self._unconfirmed[0][0] <= sequence:  # type: ignore[operator]  # an int
                    self._unconfirmed_bytes -= self._unconfirmed.popleft()[2]
        self._listen(heard)
