"""Runs the sidecar: starts the process, exchanges frames with it, and replaces it if it dies.

A new sidecar receives the unacknowledged frames of the previous one. If a sidecar dies, frames beyond the memory limit
are lost and counted. Items that the previous sidecar has sent may be delivered twice.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from modeltrace.telemetry.export.protocol import (
    DONE,
    GONE,
    LINES_WRITTEN,
    READY,
    Frame,
    SidecarConfig,
    SidecarEvent,
    hello,
    read_frames,
    write_frame,
)
from modeltrace.telemetry.export.unacknowledged import FrameItems, UnacknowledgedFrames
from modeltrace.telemetry.records.prediction import Origin

logger = logging.getLogger("modeltrace.telemetry")

# Seconds. A sidecar that dies before MIN_SIDECAR_LIFETIME is replaced after a pause of the same length; during a
# shutdown, after MIN_RESTART_PAUSE.
MIN_SIDECAR_LIFETIME: Final = 1.0
MIN_RESTART_PAUSE: Final = 0.1


class Sidecar(Protocol):
    """The interface of `SidecarProcess`, which tests and benches replace."""

    def write(self, frame: Frame) -> None:
        """Send a frame. Blocks while the pipe is full.

        Raises:
            OSError: the process has ended.
        """

    def stop(self, deadline: float) -> bool:
        """Close the pipe, wait for the end of the process until the deadline, and return whether it ended."""


StartSidecar = Callable[[Callable[[SidecarEvent], None]], Sidecar]


class SidecarProcess:
    """One run of `python -m modeltrace.sidecar`."""

    def __init__(self, origin: Origin, config: SidecarConfig, on_event: Callable[[SidecarEvent], None]) -> None:
        """Start the process. A separate thread calls `on_event` with each event.

        Raises:
            OSError: the process cannot be started.
        """
        events, events_of_sidecar = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603  this Python and our own module
                [sys.executable, "-m", "modeltrace.sidecar", str(events_of_sidecar)],
                stdin=subprocess.PIPE,
                pass_fds=[events_of_sidecar],
                bufsize=0,
            )
        finally:
            os.close(events_of_sidecar)
        self._listener = threading.Thread(
            target=self._listen, args=(events, on_event), daemon=True, name="sidecar-events"
        )
        self._listener.start()
        self.write(hello(origin, config))

    def write(self, frame: Frame) -> None:
        """Send a frame. Blocks while the pipe is full.

        Raises:
            OSError: the process has ended.
        """
        assert self._process.stdin is not None  # noqa: S101  a pipe, by the constructor
        write_frame(self._process.stdin.fileno(), frame)

    def stop(self, deadline: float) -> bool:
        """Close the pipe and wait for the end of the process and for its last event.

        Returns:
            Whether both happened before the monotonic `deadline`. If not, the process ends at its own deadline.
        """
        assert self._process.stdin is not None  # noqa: S101  a pipe, by the constructor
        self._process.stdin.close()
        self._listener.join(max(0.0, deadline - time.monotonic()))
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return not self._listener.is_alive()

    @staticmethod
    def _listen(events: int, on_event: Callable[[SidecarEvent], None]) -> None:
        try:
            for kind, *fields in read_frames(events):
                on_event(SidecarEvent(kind, tuple(fields)))
        finally:
            os.close(events)
            on_event(SidecarEvent(GONE))


class SidecarSupervisor:
    """Runs one sidecar at a time. One thread calls all methods except `begin_stop`; events arrive on another thread."""

    def __init__(
        self,
        start_sidecar: StartSidecar,
        *,
        max_bytes: int,
        on_event: Callable[[SidecarEvent], None],
        on_lost: Callable[[FrameItems], None],
    ) -> None:
        """Create a supervisor without a sidecar.

        Args:
            start_sidecar: starts a process that calls its argument with each event.
            max_bytes: limit of the bytes of unacknowledged frames in memory.
            on_event: called with each event, on the thread that reads events.
            on_lost: called with lost items.
        """
        self._start_sidecar = start_sidecar
        self._on_event = on_event
        self._on_lost = on_lost
        self._unacknowledged = UnacknowledgedFrames(max_bytes)
        self._sidecar: Sidecar | None = None
        self._started_at = 0.0
        self._generation = 0
        self._gone = False
        self._deadline = 0.0
        self.ready = threading.Event()
        self.stopping = threading.Event()
        self.restarts = 0

    def begin_stop(self, deadline: float) -> None:
        """Shorten pauses between restarts, and stop replacing sidecars at the monotonic `deadline`."""
        self._deadline = deadline
        self.stopping.set()

    def start(self) -> None:
        """Start the first sidecar."""
        if not self._start():
            self._replace()

    def replace_if_gone(self) -> None:
        """Start another sidecar if the last one has ended."""
        if self._gone:
            self._replace()

    def send(self, kind: str, content: tuple[object, ...], size: int, items: FrameItems) -> None:
        """Send a frame of `size` bytes, and keep it until it is acknowledged."""
        frame = self._unacknowledged.add(kind, content, size, items)
        try:
            if self._sidecar is None:
                raise BrokenPipeError
            self._sidecar.write(frame)
        except OSError:
            self._replace()

    def stop(self) -> bool:
        """Stop the sidecar after it has delivered its items. Return whether it ended by the deadline."""
        ended = self._stop_sidecar()
        if ended and self._unacknowledged.has_undelivered() and self._replace():  # the sidecar died
            ended = self._stop_sidecar()
        if ended:
            self._report_lost(self._unacknowledged.pop_undelivered())
        return ended

    def _stop_sidecar(self) -> bool:
        return self._sidecar is None or self._sidecar.stop(self._deadline)

    def _start(self) -> bool:
        self._started_at = time.monotonic()
        self._generation += 1
        self._gone = False
        try:
            self._sidecar = self._start_sidecar(partial(self._receive, self._generation))
        except OSError:
            logger.exception("the sidecar could not be started")
            self._sidecar = None
            return False
        return True

    def _replace(self) -> bool:
        """Start sidecars until one accepts all unacknowledged frames; during a shutdown, until the deadline."""
        while True:
            self.restarts += 1
            self._report_lost(self._unacknowledged.pop_evicted())
            logger.warning("the sidecar died; starting another one (%d so far)", self.restarts)
            died_early = time.monotonic() - self._started_at < MIN_SIDECAR_LIFETIME
            if died_early and self.stopping.wait(MIN_SIDECAR_LIFETIME):
                time.sleep(MIN_RESTART_PAUSE)
            if self._start() and self._resend():
                return True
            if self.stopping.is_set() and time.monotonic() > self._deadline:
                return False

    def _resend(self) -> bool:
        assert self._sidecar is not None  # noqa: S101  just started
        try:
            for frame in self._unacknowledged.frames_to_resend():
                self._sidecar.write(frame)
        except OSError:
            return False
        return True

    def _report_lost(self, lost: Iterable[FrameItems]) -> None:
        for items in lost:
            self._on_lost(items)

    def _receive(self, generation: int, event: SidecarEvent) -> None:
        """Handle an event of the sidecar of that generation, on the thread that reads its events."""
        if event.kind == GONE:
            self._gone = generation == self._generation
        elif event.kind == READY:
            self.ready.set()
        elif event.kind in (LINES_WRITTEN, DONE):
            self._unacknowledged.acknowledge(event.kind, *event.fields)
        self._on_event(event)
