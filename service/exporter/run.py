"""What the exporter process does: read records, turn them into OTLP and log lines, deliver.

    pipe ─► records ─┬─► lines ─► stdout, log file
                     └─► gathered ─► spans, audit and access records ─► deliveries
            encoded by the SDK ─────────────────────────────────────────► deliveries

Records gather for as long as `Config.delay` or until there are enough for a request. How far everything is delivered,
on disk, or lost for good is told to the worker, which keeps what is not.
"""

import logging
import os
import select
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast

from pythonjsonlogger.orjson import OrjsonFormatter

from service.exporter.client import Signal, otlp_client
from service.exporter.delivery import Deliveries, Delivery, Event, open_spool
from service.exporter.frames import Frame, FrameReader, write_frame
from service.exporter.lines import LineEncoder
from service.exporter.logs import LogEncoder
from service.exporter.sinks import LineWriter
from service.exporter.spans import SpanEncoder
from service.telemetry.record import Batch, Origin, Request, request

# Receivers of OTLP over gRPC refuse more than 4 MiB unless they are told otherwise.
LARGEST_REQUEST: Final = 4 * 2**20 - 64 * 1024
MOST_ROWS: Final = 512
MEMORY_BYTES: Final = 64 * 2**20


class Config(NamedTuple):
    """What the worker says of how things go out. Plain values."""

    signals: tuple[str, ...]  # those that are exported: "traces", "metrics", "logs"
    protocol: str
    timeout: float  # seconds of one attempt
    delay: float  # seconds that records gather
    flush_timeout: float  # seconds for the last requests, once the pipe has ended
    spool: str  # the folder of what waits on disk; "" for none
    spool_bytes: int
    log_level: str
    log_file: str  # "" for none
    log_file_bytes: int
    log_file_backups: int


class _Progress:
    """Knows up to which frame nothing is in memory any more."""

    def __init__(self, tell: Callable[[Frame], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._put: Counter[str] = Counter()
        self._gone: Counter[str] = Counter()
        self._marks: deque[tuple[int, dict[str, int]]] = deque()

    def put(self, signal: str, items: int) -> None:
        """So many items are about to be handed to their delivery."""
        with self._lock:
            self._put[signal] += items

    def mark(self, sequence: int) -> None:
        """All items of the frames up to this one have been put."""
        with self._lock:
            self._marks.append((sequence, dict(self._put)))
        self._settle()

    def report(self, event: Event) -> None:
        """Something happened to items; called by the deliveries' threads."""
        with self._lock:
            if event.kind in ("exported", "lost", "spooled"):
                self._gone[event.signal] += event.items
            elif event.kind == "unspooled":  # counted when it went to disk
                self._gone[event.signal] -= event.items
        self._tell(("event", *event))
        self._settle()

    def _settle(self) -> None:
        done = 0
        with self._lock:
            while self._marks and all(self._gone[s] >= n for s, n in self._marks[0][1].items()):
                done = self._marks.popleft()[0]
        if done:
            self._tell(("done", done))


class _Exporting:
    """One worker's telemetry, on its way."""

    def __init__(self, origin: Origin, config: Config, tell: Callable[[Frame], None]) -> None:
        self._config = config
        self._progress = _Progress(tell)
        self._spans, self._logs = SpanEncoder(origin), LogEncoder(origin)
        self._line_encoder = LineEncoder(origin)
        self._lines = LineWriter(config) if config.log_level in ("DEBUG", "INFO") else None
        spool = open_spool(Path(config.spool), config.spool_bytes, self._progress.report) if config.spool else None
        self._deliveries = Deliveries({signal: self._delivery(signal, spool) for signal in self._signals()}, spool)
        self._deliveries.start()
        self._requests: list[Request] = []
        self._batches: list[Batch] = []
        self._rows = self._sequence = 0
        self._due = 0.0

    def _signals(self) -> tuple[Signal, ...]:
        return cast("tuple[Signal, ...]", self._config.signals)

    def _delivery(self, signal: Signal, spool: Any) -> Delivery:  # noqa: ANN401  a Spool or none
        protocol = cast("Literal['http/protobuf', 'grpc']", self._config.protocol)
        client = otlp_client(signal, protocol=protocol, timeout_seconds=self._config.timeout)
        return Delivery(signal, client, report=self._progress.report, limit_bytes=MEMORY_BYTES, spool=spool)

    def take(self, frame: Frame) -> None:
        """Take one frame."""
        self._sequence, kind, *content = frame
        if kind == "otlp":
            signal, encoded, items = content
            self._put(signal, encoded, items)
            if not self._requests and not self._batches:
                self._progress.mark(self._sequence)
            return
        requests = list(map(request, content[0]))
        if self._lines:
            self._lines.put(self._line_encoder.encode(requests))
        if not self._due:
            self._due = time.monotonic() + self._config.delay
        self._requests += requests
        self._batches += map(Batch._make, content[1])
        self._rows += sum(len(one.answered) or 1 for one in requests)
        if self._rows >= MOST_ROWS:
            self.flush()

    def patience(self) -> float | None:
        """Seconds until something has to be flushed; `None` when nothing waits."""
        return max(0.0, self._due - time.monotonic()) if self._due else None

    def flush(self) -> None:
        """Encode what has gathered and hand it to the deliveries."""
        requests, batches = self._requests, self._batches
        self._requests, self._batches, self._rows, self._due = [], [], 0, 0.0
        if "traces" in self._config.signals:
            for encoded, items in self._spans.cut(requests, batches, limit=LARGEST_REQUEST):
                self._put("traces", encoded, items)
        if "logs" in self._config.signals and self._lines:
            for encoded, items in (
                *self._logs.audit(requests, LARGEST_REQUEST),
                *self._logs.access(requests, LARGEST_REQUEST),
            ):
                self._put("logs", encoded, items)
        self._progress.mark(self._sequence)

    def _put(self, signal: str, encoded: bytes, items: int) -> None:
        if signal in self._config.signals and items:
            self._progress.put(signal, items)
            self._deliveries[cast("Signal", signal)].put(encoded, items)

    def close(self) -> None:
        """Deliver what is left, or leave it on disk."""
        if self._requests or self._batches:
            self.flush()
        deadline = time.monotonic() + self._config.flush_timeout
        if self._lines:
            self._lines.close(deadline)
        self._deliveries.close(deadline)


def _log_as_the_service_does() -> None:
    """What this process itself has to say, JSON lines on standard output; OpenTelemetry's own complaints are told."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        OrjsonFormatter(
            ["levelname", "name", "message"], rename_fields={"levelname": "level", "name": "logger"}, timestamp=True
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


def run(records: int, status: int) -> None:
    """Serve one worker: frames come from the descriptor `records` and answers go to `status`."""
    _log_as_the_service_does()
    lock = threading.Lock()

    def tell(frame: Frame) -> None:
        try:
            with lock:
                write_frame(status, frame)
        except OSError:
            pass  # the worker is gone: what it left is still to be delivered

    exporting: _Exporting | None = None
    reader = FrameReader()
    while True:
        patience = exporting.patience() if exporting else None
        readable, _, _ = select.select([records], [], [], patience)
        if not readable:
            assert exporting is not None  # noqa: S101  only then is there something to wait for
            exporting.flush()
            continue
        if not (chunk := os.read(records, 2**20)):
            break
        for frame in reader.feed(chunk):
            if exporting is None:
                origin, config = frame
                exporting = _Exporting(Origin(*origin), Config(*config), tell)
            else:
                exporting.take(frame)
        if exporting and exporting.patience() == 0.0:
            exporting.flush()
    if exporting:
        exporting.close()
    tell(("end",))
