"""A child process ends when its parent ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import wait_until

# A module that writes its name and arguments, and handles SIGTERM.
CHILD = """
import pathlib, signal, sys, time
out = pathlib.Path(sys.argv[1])
def stop(*_):
    out.with_suffix(".stopped").write_text("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
out.with_suffix(".tmp").write_text(f"{__name__} {sys.argv[1:]}")
out.with_suffix(".tmp").rename(out)
while True:
    time.sleep(0.05)
"""

# A parent that starts the module with parent_watch and waits.
PARENT = """
import subprocess, sys
command = [sys.executable, "-m", "modeltrace.local.parent_watch", "watched", sys.argv[1]]
child = subprocess.Popen(command, stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which `watched` is a module."""
    (tmp_path / "watched.py").write_text(CHILD)
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}


def has_ended(pid: int) -> bool:
    """Return whether a process does not exist or is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_child_ends_when_its_parent_is_killed(tmp_path: Path, environment: dict[str, str]) -> None:
    """A child whose parent got SIGKILL gets SIGTERM, which it can handle."""
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(out)], env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_until(out.exists, description="the child to run")
        parent.kill()
    wait_until(lambda: has_ended(child), description="the child to end")
    assert out.with_suffix(".stopped").read_text() == "stopped"


def test_watched_module_runs_as_main_with_its_own_arguments(tmp_path: Path, environment: dict[str, str]) -> None:
    """The module has the same `__name__` and arguments as with `python -m`."""
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "modeltrace.local.parent_watch", "watched", str(out)],
        env=environment,
        stdin=subprocess.PIPE,
    ) as child:
        wait_until(out.exists, description="the child to run")
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    assert out.read_text() == f"__main__ {[str(out)]}"
