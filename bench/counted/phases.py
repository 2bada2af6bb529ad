"""The phases of a program in which callgrind counts, delimited by calls of a function that nothing else calls.

`os.ctermid` calls `ctermid` of the C library, and with `--dump-before=ctermid` callgrind writes the instructions since
the previous call. Each program does the same work for several numbers of predictions. The difference between two of
them is the cost of predictions alone, because constant costs (event loop, shutdown) cancel out.
"""

import gc
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Predictions of each phase: the first fills caches, the other two are compared. They are multiples of the 64 rows of a
# frame, and less than the 512 rows that the sidecar encodes at a time.
PHASES: Final = (64, 64, 320)
MARK: Final = "ctermid"
# The prefix of the files of vgdb. It is set only if callgrind runs the program.
VGDB_PREFIX: Final = "BENCH_VGDB_PREFIX"
# Seconds for timers that must not fire in a phase, because their time would change the count.
NEVER: Final = 3600.0


def start_counting() -> None:
    """Turn the instrumentation of callgrind on. Without it imports run four times as fast.

    Does nothing if callgrind does not run the program.

    Raises:
        RuntimeError: vgdb could not turn the instrumentation on.
    """
    if VGDB_PREFIX not in os.environ:
        return
    prefix = f"--vgdb-prefix={os.environ[VGDB_PREFIX]}"
    # Without ptrace, which containers may not allow. Callgrind polls for commands only while this process runs code.
    command = ["vgdb", prefix, "--max-invoke-ms=0", f"--pid={os.getpid()}", "instrumentation", "on"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.001)
    if process.returncode:
        raise RuntimeError(f"vgdb could not turn the instrumentation on: it exited with {process.returncode}")


@contextmanager
def counting() -> Iterator[None]:
    """Count the block as one phase.

    The garbage collector is disabled, because one more collection would change the result by several percent.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    os.ctermid()
    try:
        yield
    finally:
        os.ctermid()
        gc.enable()
