"""Start real processes on free ports, wait for them, show their log on failure, and stop them."""

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

from tests.helpers.forkserver import ForkedProcess, start

T = TypeVar("T")


def free_port() -> int:
    """Return a loopback port that the system assigns to no other socket for a minute, but that a server can bind."""
    port: int = reserve()
    return port


def wait_until(condition: Callable[[], T | None], *, seconds: float = 240.0, description: str) -> T:
    """Call `condition` until its result is true, and return the result.

    Raises:
        AssertionError: the result was not true within `seconds`; the message contains the description.
    """
    deadline = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {description}")
        time.sleep(0.02)


@dataclass
class Process:
    """A running command and the file with its output."""

    popen: "ForkedProcess | subprocess.Popen[bytes]"
    output: Path

    @property
    def log(self) -> str:
        """Its output so far."""
        return self.output.read_text(errors="replace")

    def wait_for(self, url: str, seconds: float = 120.0) -> None:
        """Wait until `url` answers 200. The error contains the log."""

        def answers() -> bool:
            if self.popen.poll() is not None:
                raise AssertionError(f"exited with {self.popen.returncode}:\n{self.log}")
            try:
                return httpx.get(url, timeout=2).status_code == 200
            except httpx.HTTPError:
                return False

        try:
            wait_until(answers, seconds=seconds, description=url)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def wait_for_workers(self, number: int) -> None:
        """Wait until this number of workers of a service has started. The service is ready with the first of them."""
        wait_until(lambda: self.log.count("startup complete") == number, description="every worker")

    def stop(self, signum: int = signal.SIGTERM, seconds: float = 90.0) -> int:
        """Send a signal and return the exit code.

        Raises:
            AssertionError: the process had not ended after `seconds`. It is killed.
        """
        if self.popen.poll() is None:
            self.popen.send_signal(signum)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"still running {seconds} s after signal {signum}:\n{self.log}") from None


def clean_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a program under test: no OTEL_ or MODELTRACE_ variables, spool and store in `folder`.

    Separate spools prevent a program from sending records of an earlier test to a port that is used again.
    """
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MODELTRACE_"))},
        "PYTHONUNBUFFERED": "1",
        "MODELTRACE_SPOOL_DIR": str(folder / "spool"),
        "MODELTRACE_STORE": str(folder / "predictions.db"),
    }


@contextmanager
def running(
    arguments: Sequence[str], *, env: Mapping[str, str] | None = None, fresh: bool = False
) -> Iterator[Process]:
    """Run `python -m ARGUMENTS`, and end it at the end of the context.

    Args:
        arguments: the module's name and its arguments.
        env: variables added to `clean_environment`.
        fresh: start a new interpreter instead of a fork of the one that has imported everything.
    """
    # A sidecar may end after its service, and still write to the folder.
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        output = Path(folder, "output")
        output.touch()
        environment = {**clean_environment(Path(folder)), **(env or {})}
        popen = start_fresh(arguments, environment, output) if fresh else start(arguments, environment, output)
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


def start_fresh(arguments: Sequence[str], env: Mapping[str, str], output: Path) -> "subprocess.Popen[bytes]":
    """Run `python -m ARGUMENTS` in a new interpreter."""
    with output.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments], env=dict(env), stdout=sink, stderr=subprocess.STDOUT
        )


def run(
    arguments: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m ARGUMENTS` to its end, with `env` added to `clean_environment`, in the folder `cwd`.

    Raises:
        subprocess.TimeoutExpired: it has not ended after two minutes; it is killed.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        popen = start(arguments, {**clean_environment(Path(folder)), **(env or {})}, stdout, stderr, cwd)
        try:
            code = popen.wait(120)
        except subprocess.TimeoutExpired as error:
            popen.kill()
            popen.wait()
            error.output, error.stderr = stdout.read_text(errors="replace"), stderr.read_text(errors="replace")
            raise
        return subprocess.CompletedProcess(list(arguments), code, stdout.read_text(), stderr.read_text())
