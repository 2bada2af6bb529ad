"""`python -m modeltrace.sidecar DESCRIPTOR`: started by a worker, ends when the worker closes its pipe or dies.

Frames come in on standard input; what became of them goes out on the descriptor named. Standard output is the worker's
own: the log lines of predictions go there.
"""

import os
import signal
import sys

from modeltrace.sidecar.run import run

NICE_INCREMENT = 5


def main() -> None:
    """Run until standard input ends."""
    # Both come to the whole group of processes when somebody presses Ctrl-C or stops a container. The worker's last
    # records are still to come then: its pipe says when it is over.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)  # inputs of predictions are in what it writes
    os.nice(NICE_INCREMENT)  # where there is but one core, predictions go first
    run(sys.stdin.fileno(), int(sys.argv[1]))


if __name__ == "__main__":
    main()
