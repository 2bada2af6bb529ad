"""Real processes for the tests: started on free ports, waited for, their log shown on failure, TERM then KILL."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import httpx
from ephemeral_port_reserve import reserve

T = TypeVar("T")


def free_port() -> int:
    """A loopback port that the system gives to nobody else for a minute: a server that names it may still bind it."""
    port: int = reserve()
    return port


def until(question: Callable[[], T | None], *, seconds: float = 30.0, what: str) -> T:
    """Ask until the answer is truthy.

    Raises:
        AssertionError: it did not become so in time; the message says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        if answer := question():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


@dataclass
class Process:
    """A running command and the file that its output goes to."""

    popen: "subprocess.Popen[bytes]"
    output: Path

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(errors="replace")

    def wait_for(self, url: str, seconds: float = 120.0) -> None:
        """Return when `url` answers 200; show the log if it does not."""

        def answers() -> bool:
            if self.popen.poll() is not None:
                raise AssertionError(f"exited with {self.popen.returncode}:\n{self.log}")
            try:
                return httpx.get(url, timeout=2).status_code == 200
            except httpx.HTTPError:
                return False

        try:
            until(answers, seconds=seconds, what=url)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def wait_for_workers(self, number: int) -> None:
        """Return when that many workers of a service have started; it is ready with the first of them."""
        until(lambda: self.log.count("startup complete") == number, seconds=60, what="every worker")

    def stop(self, signum: int = signal.SIGTERM, seconds: float = 10.0) -> int:
        """Send a signal, KILL after `seconds`; the return code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signum)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"still there {seconds} s after signal {signum}:\n{self.log}") from None


@contextmanager
def running(arguments: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run `python -m …` in a clean environment: nothing of OTEL_* or MODELTRACE_* leaks in."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MODELTRACE_"))}
    # An exporter process may outlive its service by a moment, and still write there.
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        output = Path(folder, "output")
        # What one test could not deliver must never be sent by another, to a port that has a new owner; and nothing
        # that a test predicts is kept in the user's data folder.
        own = {
            "PYTHONUNBUFFERED": "1",
            "MODELTRACE_SPOOL": str(Path(folder, "spool")),
            "MODELTRACE_STORE": str(Path(folder, "predictions.db")),
        }
        with output.open("wb") as sink:
            popen = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**clean, **own, **(env or {})},
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        process = Process(popen, output)
        try:
            yield process
        finally:
            if popen.poll() is None:
                popen.terminate()
                try:
                    popen.wait(10)
                except subprocess.TimeoutExpired:
                    popen.kill()
                    popen.wait()
