"""Runs a module like `python -m` does, for no longer than its parent lives: `python -m service.client.leash MODULE …`.

The parent holds the other end of standard input and never writes to it. When it ends, in whatever way, standard input
ends, and the module gets the SIGTERM that the parent can no longer send. That works wherever there are pipes; nothing
has to be asked of the kernel, and nothing of the module.
"""

import os
import runpy
import signal
import sys
import threading
import time

# Seconds from SIGTERM to the end, come what may.
GRACE = 8.0


def main() -> None:
    """Run the module that the first argument names with the others as its own."""
    threading.Thread(target=_end_with_parent, daemon=True, name="leash").start()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    # os.read, not sys.stdin: a thread that waits inside a buffered reader would block the interpreter's own end.
    while os.read(sys.__stdin__.fileno() if sys.__stdin__ else 0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


if __name__ == "__main__":
    main()
