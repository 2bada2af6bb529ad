"""Starts the exporter process beside this one and talks to it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from modeltrace.telemetry.export.config import SidecarConfig
from modeltrace.telemetry.export.frames import read_frames, write_frame
from modeltrace.telemetry.export.queue import SidecarEvent
from modeltrace.telemetry.records.prediction import Origin


class SidecarProcess:
    """One run of `python -m modeltrace.sidecar`."""

    def __init__(self, origin: Origin, config: SidecarConfig, on_event: Callable[[SidecarEvent], None]) -> None:
        """Start it; `hear` is called, on a thread of its own, with whatever it says.

        Raises:
            OSError: no process can be started.
        """
        answers, status = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603  this Python and our own module
                [sys.executable, "-m", "modeltrace.sidecar", str(status)],
                stdin=subprocess.PIPE,
                pass_fds=[status],
                bufsize=0,
            )
        finally:
            os.close(status)
        self._listener = threading.Thread(
            target=self._listen, args=(answers, on_event), daemon=True, name="telemetry-exporter"
        )
        self._listener.start()
        self.write((tuple(origin), tuple(config)))

    def write(self, frame: tuple[object, ...]) -> None:
        """Send a frame; blocks while the pipe is full.

        Raises:
            OSError: it is dead.
        """
        assert self._process.stdin is not None  # noqa: S101  a pipe, by the constructor
        write_frame(self._process.stdin.fileno(), frame)

    def stop(self, deadline: float) -> bool:
        """Close the pipe and wait until it has ended and everything it said is heard; whether that came in time."""
        assert self._process.stdin is not None  # noqa: S101  a pipe, by the constructor
        self._process.stdin.close()
        self._listener.join(max(0.0, deadline - time.monotonic()))
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False  # it ends by itself, at its own deadline
        return not self._listener.is_alive()

    @staticmethod
    def _listen(answers: int, hear: Callable[[SidecarEvent], None]) -> None:
        try:
            for kind, *details in read_frames(answers):
                hear(SidecarEvent(kind, tuple(details)))
        finally:
            os.close(answers)
            hear(SidecarEvent("gone", ()))
