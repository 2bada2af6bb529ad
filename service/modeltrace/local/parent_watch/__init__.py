"""Run a module and stop it when the parent process ends: `python -m modeltrace.local.parent_watch MODULE …`.

The standard input of this process is a pipe from the parent. The parent never writes to it. When the parent ends for
any reason, standard input ends, and this process sends SIGTERM to itself. The method needs no support of the module and
no other feature of the operating system.
"""

import os
import signal
import threading
import time

# Seconds after SIGTERM until the process is ended by force.
STOP_TIMEOUT = 8.0
STDIN = 0


def stop_with_parent() -> None:
    """Stop this process when standard input ends."""
    threading.Thread(target=_wait_and_stop, daemon=True, name="parent watch").start()


def _wait_and_stop() -> None:
    # Use os.read instead of sys.stdin: a thread that waits in a buffered reader blocks the interpreter's shutdown.
    while os.read(STDIN, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT)
    os._exit(1)
