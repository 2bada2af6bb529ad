"""`modeltrace pack` as a process of its own: what a shell sees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def modeltrace(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end, in a folder, without a terminal."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "MODELTRACE_"))}
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"no model at all", "cannot be loaded as skops")],
    ids=["no file", "no model"],
)
def test_a_failure_is_one_line_and_an_exit_code(tmp_path: Path, content: bytes | None, said: str) -> None:
    """Nothing goes to stdout, one line to stderr, and the shell knows that it failed."""
    if content is not None:
        (tmp_path / "model.skops").write_bytes(content)

    done = modeltrace(tmp_path, "pack", "model.skops", "--data", "train.csv")

    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("modeltrace: model.skops")
    assert said in line
