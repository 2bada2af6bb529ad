"""Child processes of `up`: started apart from the terminal, stopped one by one, never left behind."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 8
TAIL_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """A running child: its name for a person, and the file that takes what it says on stderr."""

    name: str
    process: Process
    log_file: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.returncode is None

    async def stop(self, seconds: float) -> None:
        """Ask it to end (SIGTERM); make it end (SIGKILL) after `seconds`."""
        if self.running:
            with suppress(ProcessLookupError):
                self.process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.process.wait()
        self.kill()
        await self.process.wait()

    def kill(self) -> None:
        """Make it end at once."""
        if self.running:
            with suppress(ProcessLookupError):
                self.process.kill()

    def stderr_tail(self) -> str:
        """The end of what it said on stderr."""
        with self.log_file.open("rb") as file:
            file.seek(max(0, self.log_file.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return "\n".join([line for line in text.splitlines() if line.strip()][-TAIL_LINES:])


async def start_child(
    name: str, arguments: Sequence[str], *, env: Mapping[str, str], log_file: Path, pipe_stdout: bool = False
) -> ChildProcess:
    """Start `python -m ARGUMENTS` on a leash.

    It gets a process group of its own, so that Ctrl-C in the terminal reaches `up` alone, which stops its children in
    order. Its stderr goes to `log`, which is begun anew.

    Args:
        name: what a person calls it.
        arguments: a module and its arguments.
        env: its environment.
        log_file: the file for its stderr.
        pipe_stdout: whether its stdout is read by the caller (`child.process.stdout`); otherwise it is dropped.
    """
    log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
        os.fchmod(sink.fileno(), 0o600)  # where it was there already
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
