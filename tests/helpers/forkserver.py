"""Start programs of the project in separate processes without importing their packages each time.

The fork server of `multiprocessing` imports the packages once. Each program is a fork of it: a real process with its
own memory, environment, signals and exit code. Tests that need a new interpreter use `running(…, fresh=True)` or
subprocess.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

PRELOADED = "tests.helpers.preload"


def fork_server() -> ForkServerContext:
    """Return the context whose processes are forks of the preloaded process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    return context


class ForkedProcess:
    """A program that runs in a fork, with the part of `subprocess.Popen` that the tests use."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The process ID."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; `None` while the process runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or `None` while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended and return its exit code.

        Raises:
            subprocess.TimeoutExpired: the process still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        """Send a signal if the process runs."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        """Send SIGTERM if the process runs."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL if the process runs."""
        self._process.kill()


def start(
    arguments: Sequence[str],
    env: Mapping[str, str],
    stdout: Path,
    stderr: Path | None = None,
    cwd: Path | None = None,
) -> ForkedProcess:
    """Run `python -m ARGUMENTS` in a fork.

    Args:
        arguments: the module's name and its arguments.
        env: the complete environment.
        stdout: the file for standard output.
        stderr: the file for standard error; by default `stdout`.
        cwd: the working folder; by default that of this process.
    """
    process = fork_server().Process(
        target=_run_module,
        args=(list(arguments), dict(env), str(stdout), str(stderr) if stderr else None, str(cwd or Path.cwd())),
        name=" ".join(arguments[:2]),
    )
    process.start()
    return ForkedProcess(process)


def _run_module(arguments: Sequence[str], env: dict[str, str], stdout: str, stderr: str | None, cwd: str) -> None:
    """Replace environment, folder and standard streams, then run the module as `__main__`."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if stderr else 1, 2)
    # Line-buffered, because tests read the output while the program runs.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  open until the process ends
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115  see above
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115  see above
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = list(arguments)
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    finally:
        # multiprocessing exits with os._exit, which skips exit handlers.
        atexit._run_exitfuncs()
