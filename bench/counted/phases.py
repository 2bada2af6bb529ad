"""Where callgrind begins and ends to count: between two calls of a function that nothing else calls.

`os.ctermid` calls the C library's `ctermid`, and `--dump-before=ctermid` has callgrind write down what it has counted
since the call before. Each program does the same work for several numbers of predictions. The difference between two
of them is the cost of predictions alone: what is the same for any number (an event loop, a stop) cancels out.
"""

import gc
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Predictions of each phase: the first fills caches, the other two are compared. Multiples of the 64 rows of a frame,
# and fewer than the 512 rows that the exporter process encodes at a time.
PHASES: Final = (64, 64, 320)
MARK: Final = "ctermid"
# The prefix of vgdb's files, which tells a program that callgrind runs it.
VGDB_PREFIX: Final = "BENCH_VGDB_PREFIX"
# Seconds that no phase takes, for timers whose moment would otherwise decide what is counted.
NEVER: Final = 3600.0


def start_counting() -> None:
    """Have callgrind count from here on: imports that are not counted take a quarter of the time.

    Does nothing in a program that runs by itself.

    Raises:
        RuntimeError: vgdb, which asks callgrind to, has failed.
    """
    if VGDB_PREFIX not in os.environ:
        return
    prefix = f"--vgdb-prefix={os.environ[VGDB_PREFIX]}"
    # Without ptrace, which containers may not have. Callgrind looks for commands while this process runs, so it must.
    command = ["vgdb", prefix, "--max-invoke-ms=0", f"--pid={os.getpid()}", "instrumentation", "on"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.001)
    if process.returncode:
        raise RuntimeError(f"vgdb could not have callgrind count: it exited with {process.returncode}")


@contextmanager
def counting() -> Iterator[None]:
    """What is done in the block is a phase of its own.

    The garbage collector does not run in it: one collection more or less would change the result by percents.
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
