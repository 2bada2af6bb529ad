"""Run a module and stop it when the parent process ends: `python -m modeltrace.local.parent_watch MODULE …`.

The parent holds the other end of standard input and never writes to it. When it ends, in whatever way, standard input
ends, and the module gets the SIGTERM that the parent can no longer send. That works wherever there are pipes; nothing
has to be asked of the kernel, and nothing of the module.
"""

import os
import signal
import threading
import time

# Seconds from SIGTERM to the end, come what may.
STOP_TIMEOUT = 8.0
STDIN = 0


def stop_with_parent() -> None:
    """Have this process end when standard input does."""
    threading.Thread(target=_wait_and_stop, daemon=True, name="leash").start()


def _wait_and_stop() -> None:
    # os.read, not sys.stdin: a thread that waits inside a buffered reader would block the interpreter's own end.
    while os.read(STDIN, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT)
    os._exit(1)
