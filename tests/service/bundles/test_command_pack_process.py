"""`modeltrace pack` as a process of its own: what a shell sees."""

from pathlib import Path

import pytest

from tests.helpers.processes import run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"no model at all", "cannot be loaded as skops")],
    ids=["no file", "no model"],
)
def test_a_failure_is_one_line_and_an_exit_code(tmp_path: Path, content: bytes | None, said: str) -> None:
    """Nothing goes to stdout, one line to stderr, and the shell knows that it failed."""
    if content is not None:
        (tmp_path / "model.skops").write_bytes(content)

    done = run(["modeltrace", "pack", "model.skops", "--data", "train.csv"], cwd=tmp_path)

    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("modeltrace: model.skops")
    assert said in line
