"""The exporter process's path of a prediction: from a frame to OTLP, log lines and the prediction store.

`python -m bench.counted.sidecar FOLDER` takes the frames that `bench.counted.service` has left in FOLDER.
"""

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.counted.phases import NEVER, PHASES, counting, start_counting
from modeltrace.otlp.client import Success
from modeltrace.sidecar.run import run
from modeltrace.store import store  # noqa: F401  the store's writer imports it when it starts, which is not to be counted
from modeltrace.telemetry.export.protocol import SidecarConfig, hello, write_frame
from modeltrace.telemetry.records.prediction import Origin


class NullClient:
    """Has everything delivered, and sends nothing."""

    def __init__(self, signal: str, **_: Any) -> None:  # noqa: ANN401  what `otlp_client` takes
        self.signal = signal

    def send(self, request: bytes) -> Success:  # noqa: ARG002  the protocol's
        """Take a request."""
        return Success()

    def close(self) -> None:
        """Nothing is open."""


def open_frames(folder: Path, phase: int) -> int:
    """The descriptor of what a worker would write to its exporter process: how to deliver, then its records."""
    config = SidecarConfig(
        signals=dict.fromkeys(("traces", "metrics", "logs"), ("http/protobuf", NEVER)),
        schedule_delay=NEVER,
        flush_timeout=NEVER,
        spool_dir="",
        spool_max_bytes=0,
        log_level="INFO",
        log_file="",
        log_file_max_bytes=0,
        log_file_backup_count=0,
        store=(str(folder / f"predictions-{phase}.db"), 30.0, 8 * 2**30, "0"),
    )
    path = folder / f"stdin-{phase}"
    with path.open("wb") as file:
        write_frame(file.fileno(), hello(Origin(b"", "modeltrace"), config))
        file.write((folder / f"frames-{phase}").read_bytes())
    return os.open(path, os.O_RDONLY)


def main() -> None:
    """Run every phase."""
    folder = Path(sys.argv[1])
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    start_counting()
    # The store's writer commits what is there at its start, and the rest at its end: never when a timer says so.
    with (
        patch("modeltrace.store.writer.COMMIT_INTERVAL", NEVER),
        patch("modeltrace.sidecar.run.otlp_client", NullClient),
    ):
        for phase in range(len(PHASES)):
            records = open_frames(folder, phase)
            with counting():
                run(records, nowhere)
            os.close(records)


if __name__ == "__main__":
    main()
