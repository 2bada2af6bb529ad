"""Run the sidecar: `python -m modeltrace.sidecar DESCRIPTOR`.

A worker starts the sidecar. The sidecar ends when the worker closes the pipe or dies. It reads frames from standard
input, and writes acknowledgements and events to the file descriptor DESCRIPTOR. It writes log lines to the standard
output of the worker.
"""

import os
import signal
import sys

from modeltrace.sidecar.run import run

NICE_INCREMENT = 5


def main() -> None:
    """Run until standard input ends."""
    # Ctrl-C and the stop of a container may send these signals to all processes. The worker then still sends records,
    # so the sidecar ignores the signals and ends when the pipe is closed.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)  # its files contain the inputs of predictions
    os.nice(NICE_INCREMENT)  # on a single core, predictions take precedence
    run(sys.stdin.fileno(), int(sys.argv[1]))


if __name__ == "__main__":
    main()
