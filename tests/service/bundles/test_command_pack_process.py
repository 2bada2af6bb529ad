"""`modeltrace pack` as a process, as a shell sees it."""

from pathlib import Path

import pytest

from tests.helpers.processes import run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "No such file"), (b"no model at all", "cannot be loaded as skops")],
    ids=["no file", "no model"],
)
def test_a_failure_is_one_line_and_an_exit_code(tmp_path: Path, content: bytes | None, expected: str) -> None:
    """stdout is empty, stderr has one line, and the exit code is 1."""
    if content is not None:
        (tmp_path / "model.skops").write_bytes(content)

    result = run(["modeltrace", "pack", "model.skops", "--data", "train.csv"], cwd=tmp_path)

    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("modeltrace: model.skops")
    assert expected in line
