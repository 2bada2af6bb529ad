"""Find the modules that a prediction passes, from the ASGI call to OTLP, a log line and a row of the store.

`python -m tests.helpers.prediction_path_program FOLDER` runs the programs of `bench.counted` for two numbers of
predictions, and writes the modules to FOLDER/modules.json. A module is on the path if its functions are called more
often for the larger number. Frames, export requests and transactions are small here, so this includes the modules that
run once for each of them.
"""

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final
from unittest.mock import patch

import modeltrace
from bench.counted import service, sidecar

PACKAGE: Final = Path(modeltrace.__file__).parent
# The first phase fills caches, the other two are compared.
PHASES: Final = (16, 16, 48)
ROWS: Final = 4  # of a frame, an export request and a transaction
# Fewer further calls than a call for each transaction are chance, as of a lock that another thread held.
MIN_CALLS: Final = (PHASES[2] - PHASES[1]) // ROWS - 2


def count_calls(program: Any, folder: Path) -> list[Counter[str]]:
    """Run a program and return the number of calls by module for each phase."""
    phases: list[Counter[str]] = []
    active = False

    def on_event(frame: FrameType, event: str, _: object) -> None:
        if active and event == "call":
            phases[-1][frame.f_code.co_filename] += 1

    @contextmanager
    def counting() -> Iterator[None]:
        nonlocal active
        phases.append(Counter())
        active = True
        try:
            yield
        finally:
            active = False

    threading.setprofile(on_event)
    sys.setprofile(on_event)
    try:
        with ExitStack() as stack:
            stack.enter_context(patch.object(sys, "argv", ["", str(folder)]))
            stack.enter_context(patch.object(program, "counting", counting))
            stack.enter_context(patch.object(program, "PHASES", PHASES))
            program.main()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return phases


def find_modules(folder: Path) -> set[str]:
    """Return the paths of the modules relative to the package."""
    modules: set[str] = set()
    with (
        patch("modeltrace.telemetry.export.queue.CHUNK_ROWS", ROWS),
        patch("modeltrace.sidecar.run.MAX_BATCH_ROWS", ROWS),
        patch("modeltrace.store.writer.MAX_TRANSACTION_ROWS", ROWS),
        patch("modeltrace.store.writer.PredictionWriter._enforce_retention"),  # runs periodically
    ):
        for program in (service, sidecar):
            _, few, many = count_calls(program, folder)
            paths = [Path(name) for name, calls in many.items() if calls - few[name] >= MIN_CALLS]
            modules |= {path.relative_to(PACKAGE).as_posix() for path in paths if path.is_relative_to(PACKAGE)}
    return modules


if __name__ == "__main__":
    output = Path(sys.argv[1])
    output.joinpath("modules.json").write_text(json.dumps(sorted(find_modules(output))))
