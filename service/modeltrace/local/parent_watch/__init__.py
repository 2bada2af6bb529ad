"""Run a module and stop it when the parent process ends: `python -m modeltrace.local.parent_watch MODULE …`.

The parent holds the other end of standard input and never writes to it. When the parent ends in any way, standard input
ends, and the module gets SIGTERM. This needs only pipes, neither the kernel's nor the module's cooperation.
"""

import os
import signal
import threading
import time

# Seconds between SIGTERM and the end of the process.
STOP_TIMEOUT = 8.0
STDIN = 0


def stop_with_parent() -> None:
    """Stop this process when standard input ends."""
    threading.Thread(target=_wait_and_stop, daemon=True, name="parent watch").start()


def _wait_and_stop() -> None:
    # os.read instead of sys.stdin: a thread waiting inside a buffered reader would block the interpreter's shutdown.
    while os.read(STDIN, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT)
    os._exit(1)
