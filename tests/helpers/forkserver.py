"""Programs of the project in processes of their own, without the seconds that importing their packages takes.

A fork server, Python's own (`multiprocessing`), imports the packages once. Each program is then a fork of it:
a real process with its own memory, environment, signals and exit code. Behaviour of a new interpreter is tested with
`running(…, fresh=True)` (tests/contract/conftest.py) or with subprocess.
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
    """The context whose processes are forked from the preloaded one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    return context


class ForkedProcess:
    """A program that runs in a fork, with the part of `subprocess.Popen` that the tests use."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process ID."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
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
        env: the whole environment.
        stdout: the file that its output goes to.
        stderr: another file for standard error; by default it goes to `stdout`, too.
        cwd: its working folder; this process's by default.
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
    # Line by line, as with PYTHONUNBUFFERED: a test reads the output while the program runs.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  the process's own, to its end
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115  the same
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115  the same
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = list(arguments)
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    finally:
        # multiprocessing exits with os._exit, which skips exit handlers.
        atexit._run_exitfuncs()
