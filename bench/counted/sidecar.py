"""The path of a prediction in the sidecar: from a frame to OTLP, log lines and the prediction store.

`python -m bench.counted.sidecar FOLDER` reads the frames that `bench.counted.service` has written to FOLDER.
"""

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.counted.phases import NEVER, PHASES, counting, start_counting
from modeltrace.otlp.client import Success
from modeltrace.sidecar.run import run
from modeltrace.store import store  # noqa: F401  imported here so that the import at the start of the store writer is not counted
from modeltrace.telemetry.export.protocol import SidecarConfig, hello, write_frame
from modeltrace.telemetry.records.prediction import Origin


class NullClient:
    """An OTLP client that reports success and sends nothing."""

    def __init__(self, signal: str, **_: Any) -> None:  # noqa: ANN401  the parameters of `otlp_client`
        self.signal = signal

    def send(self, request: bytes, timeout_factor: int = 1) -> Success:  # noqa: ARG002  part of the interface
        """Report the request as delivered."""
        return Success()

    def close(self) -> None:
        """Do nothing, because no connection is open."""


def open_frames(folder: Path, phase: int) -> int:
    """Open the input that a worker would write to its sidecar: the configuration, followed by frames of records."""
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
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, sys.stdout.fileno())
    start_counting()
    # No timer: the store writer commits the rows that are there at its start, and the others at its end.
    with (
        patch("modeltrace.store.writer.COMMIT_INTERVAL", NEVER),
        patch("modeltrace.sidecar.run.otlp_client", NullClient),
    ):
        for phase in range(len(PHASES)):
            records = open_frames(folder, phase)
            with counting():
                run(records, null_device)
            os.close(records)


if __name__ == "__main__":
    main()
