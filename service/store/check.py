"""Opens the prediction store once, in a process of its own: `python -m service.store.check`.

A service that cannot store predictions must not start. What opens the store takes a tenth of a start to import, and
the service itself does not need it afterwards, because the exporter process writes. So this process does it while the
service imports what it does need.

    service ─ stdin: what MODELTRACE_STORE says, which may hold a password ─► this process
            ◄─ stdout: what is wrong; exit code 0 when nothing is ─
"""

import subprocess
import sys
from contextlib import suppress

from service.errors import StoreError


class StoreCheck:
    """A look at the store that is under way."""

    def __init__(self, said: str | None) -> None:
        """Start it. `said` is what MODELTRACE_STORE says; without a store, `None`, there is nothing to look at."""
        self._process: subprocess.Popen[bytes] | None = None
        if said is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service.store.check"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert self._process.stdin is not None  # noqa: S101  a pipe, see above
            with suppress(BrokenPipeError), self._process.stdin as said_there:  # else its exit code says enough
                said_there.write(said.encode())

    def finish(self) -> None:
        """Wait for it.

        Raises:
            StoreError: the store cannot be written to; the message names MODELTRACE_STORE.
        """
        if self._process is None:
            return
        with self._process as process:
            assert process.stdout is not None  # noqa: S101  a pipe, by the constructor
            wrong = process.stdout.read().decode()
        if process.returncode:
            raise StoreError(wrong or f"MODELTRACE_STORE: opening it ended with exit code {process.returncode}")


def main() -> None:
    """Open the store that standard input names, and make it where there is none."""
    from service.store.store import open_store  # noqa: PLC0415  the service imports this module, too

    try:
        open_store(sys.stdin.buffer.read().decode()).close()
    except StoreError as error:
        sys.stdout.buffer.write(str(error).encode())
        sys.exit(1)


if __name__ == "__main__":
    main()
