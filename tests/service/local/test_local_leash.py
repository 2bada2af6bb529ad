"""A child never outlives its parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import wait_until

# A module that says where it stands, and ends in its own way at SIGTERM.
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

# A parent that starts it on a leash and waits.
PARENT = """
import subprocess, sys
command = [sys.executable, "-m", "modeltrace.local.parent_watch", "leashed", sys.argv[1]]
child = subprocess.Popen(command, stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where `leashed` is a module."""
    (tmp_path / "leashed.py").write_text(CHILD)
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}


def gone(pid: int) -> bool:
    """Whether there is no such process, or only what its parent has not yet collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path, environment: dict[str, str]) -> None:
    """A child whose parent got SIGKILL gets SIGTERM, and ends in its own way."""
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(out)], env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_until(out.exists, description="the child to run")
        parent.kill()
    wait_until(lambda: gone(child), description="the child to end")
    assert out.with_suffix(".stopped").read_text() == "stopped"


def test_a_leashed_module_runs_as_main_with_its_own_arguments(tmp_path: Path, environment: dict[str, str]) -> None:
    """On a leash a module sees what `python -m` would show it."""
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "modeltrace.local.parent_watch", "leashed", str(out)],
        env=environment,
        stdin=subprocess.PIPE,
    ) as child:
        wait_until(out.exists, description="the child to run")
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    assert out.read_text() == f"__main__ {[str(out)]}"
