"""Starts a sidecar process and exchanges frames with it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from modeltrace.telemetry.export.protocol import (
    GONE,
    Frame,
    SidecarConfig,
    SidecarEvent,
    hello,
    read_frames,
    write_frame,
)
from modeltrace.telemetry.records.prediction import Origin


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
