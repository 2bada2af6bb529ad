"""Run the sidecar: `python -m modeltrace.sidecar DESCRIPTOR`.

A worker starts it. It ends when the worker closes its pipe or dies. It reads frames from standard input and writes
acknowledgements and events to the file descriptor given. It shares standard output with the worker, for log lines.
"""

import os
import signal
import sys

from modeltrace.sidecar.run import run

NICE_INCREMENT = 5


def main() -> None:
    """Run until standard input ends."""
    # Ctrl-C and a container's stop send both signals to the whole process group. The worker still has records to send
    # then; the end of its pipe ends the sidecar.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)  # its files contain the inputs of predictions
    os.nice(NICE_INCREMENT)  # on a single core, predictions take precedence
    run(sys.stdin.fileno(), int(sys.argv[1]))


if __name__ == "__main__":
    main()
