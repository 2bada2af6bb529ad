"""Child processes of `up`, which end with their parent."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Maximum size of `stderr_tail`.
TAIL_LINES = 8
TAIL_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """A child process. `log_file` receives its stderr."""

    name: str
    process: Process
    log_file: Path

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self.process.returncode is None

    async def stop(self, seconds: float) -> None:
        """Send SIGTERM, and SIGKILL if the process has not ended after `seconds`."""
        if self.running:
            with suppress(ProcessLookupError):
                self.process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.process.wait()
        self.kill()
        await self.process.wait()

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.running:
            with suppress(ProcessLookupError):
                self.process.kill()

    def stderr_tail(self) -> str:
        """Return the last lines of its stderr."""
        with self.log_file.open("rb") as file:
            file.seek(max(0, self.log_file.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return "\n".join([line for line in text.splitlines() if line.strip()][-TAIL_LINES:])


async def start_child(
    name: str, arguments: Sequence[str], *, env: Mapping[str, str], log_file: Path, pipe_stdout: bool = False
) -> ChildProcess:
    """Start `python -m ARGUMENTS` so that it ends with this process (`parent_watch`).

    The child runs in its own session: Ctrl-C in the terminal reaches only `up`, which stops its children in order.

    Args:
        name: the name of the process in messages.
        arguments: a module and its arguments.
        env: the environment.
        log_file: the file for stderr. An existing file is overwritten.
        pipe_stdout: whether the caller reads stdout (`child.process.stdout`); otherwise it is discarded.
    """
    log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
        os.fchmod(sink.fileno(), 0o600)  # an existing file may have another mode
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "modeltrace.local.parent_watch",
            *arguments,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if pipe_stdout else subprocess.DEVNULL,
            stderr=sink,
            start_new_session=True,
        )
    return ChildProcess(name, process, log_file)
