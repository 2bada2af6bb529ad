"""A run that was interrupted is continued: no row is lost, written twice, or predicted again without need."""

import fcntl
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from modeltrace.scoring.config import PartialResultError, ScoreConfig, parts_folder
from modeltrace.scoring.results import Summary
from modeltrace.scoring.run import score_file
from modeltrace.scoring.scorer import InputRow, Outcome, model_scorer
from tests.helpers.mixed_model import MixedModel
from tests.helpers.processes import running, wait_until


class Interrupted(BaseException):
    """Ends a run at any point."""


class InterruptedScorer:
    """Predicts a number of chunks, then fails; stores the numbers of all rows that it got."""

    def __init__(self, mixed: MixedModel, chunks: int | None = None) -> None:
        self._predict = model_scorer(mixed.model)
        self._chunks = chunks
        self.numbers: list[int] = []

    def __call__(self, rows: Sequence[InputRow]) -> list[Outcome]:
        """Predict a chunk."""
        if self._chunks is not None:
            self._chunks -= 1
            if self._chunks < 0:
                raise Interrupted
        self.numbers += [row.number for row in rows]
        return self._predict(rows)


def run(mixed: MixedModel, scorer: InterruptedScorer, file: Path, out: Path, **options: Any) -> Summary:
    """Score the file with this scorer."""
    return score_file(ScoreConfig(file=file, out=out, **{"chunk_rows": 16, **options}), mixed.model, scorer)


@pytest.fixture
def file(mixed: MixedModel, tmp_path: Path) -> Path:
    """All rows; one of them is not valid."""
    return mixed.write(tmp_path / "rows.csv", mixed.table.assign(age=mixed.table.age.where(mixed.table.index != 40)))


@pytest.fixture
def complete(mixed: MixedModel, file: Path, tmp_path: Path) -> pd.DataFrame:
    """The results of a run without interruption."""
    run(mixed, InterruptedScorer(mixed), file, tmp_path / "complete.csv")
    return pd.read_csv(tmp_path / "complete.csv")


def assert_equal(out: Path, complete: pd.DataFrame) -> None:
    """Check the results; the size of a chunk may change the last digit of a probability."""
    pd.testing.assert_frame_equal(pd.read_csv(out), complete, rtol=0, atol=1e-12)


@pytest.mark.slow
@given(
    interruptions=st.lists(st.integers(0, 6), max_size=3), sizes=st.lists(st.integers(30, 99), min_size=4, max_size=4)
)
@settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_results_do_not_depend_on_interruptions(
    mixed: MixedModel, file: Path, complete: pd.DataFrame, interruptions: list[int], sizes: list[int]
) -> None:
    """Whatever the interruptions and the chunk sizes, the results are the same, and no complete chunk is repeated."""
    out = file.with_name("out.csv")
    out.unlink(missing_ok=True)
    numbers: list[int] = []
    for chunks, size in zip(interruptions, sizes, strict=False):
        scorer = InterruptedScorer(mixed, chunks)
        try:
            run(mixed, scorer, file, out, chunk_rows=size, force=True)
        except Interrupted:
            assert parts_folder(out).is_dir()
        else:  # it was complete before the interruption
            numbers = []
            continue
        numbers += scorer.numbers
    last = InterruptedScorer(mixed)

    summary = run(mixed, last, file, out, chunk_rows=sizes[-1], force=True)

    assert_equal(out, complete)
    assert numbers + last.numbers == list(range(1, 301))
    assert (summary.rows, summary.predicted, dict(summary.rejected)) == (300, 299, {("age", "missing"): 1})
    assert [row.row for row in summary.examples] == [41]
    assert not parts_folder(out).exists()


def test_interruption_while_the_results_are_written(
    mixed: MixedModel, file: Path, complete: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are predicted, and the file is incomplete: the next run writes it and predicts nothing."""
    out, last = file.with_name("out.csv"), InterruptedScorer(mixed)

    def fail(_: Summary, __: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Summary, "add", fail)
        with pytest.raises(Interrupted):
            run(mixed, InterruptedScorer(mixed), file, out)
    assert not out.exists()

    assert run(mixed, last, file, out).rows == 300

    assert_equal(out, complete)
    assert last.numbers == []


def test_part_that_was_not_complete_is_ignored(mixed: MixedModel, file: Path, complete: pd.DataFrame) -> None:
    """A kill while a part is written leaves a temporary file."""
    out = file.with_name("out.csv")
    with pytest.raises(Interrupted):
        run(mixed, InterruptedScorer(mixed, 2), file, out)
    (parts_folder(out) / "part-00000002.tmp").write_bytes(b"half a par")

    run(mixed, InterruptedScorer(mixed), file, out)

    assert_equal(out, complete)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("rows", "input file"),
        ("model", "model"),
        ("keep", "--keep"),
        ("probabilities", "--probabilities"),
        ("telemetry", "--telemetry"),
        ("json", "run.json"),
    ],
)
def test_parts_of_another_run_are_not_used(mixed: MixedModel, file: Path, change: str, name: str) -> None:
    """If the file, the model or an option has changed, the error names it; --restart discards the parts."""
    out, options = file.with_name("out.csv"), {}
    with pytest.raises(Interrupted):
        run(mixed, InterruptedScorer(mixed, 2), file, out)
    other = mixed
    if change == "rows":
        file.write_bytes(file.read_bytes() + file.read_bytes().splitlines()[-1] + b"\n")
    elif change == "model":
        model = mixed.model
        other = MixedModel(mixed.estimator, mixed.bundle, type(model)(**{**vars(model), "hash": "0" * 64}), mixed.table)
    elif change == "json":
        (parts_folder(out) / "run.json").write_text("[]")
    else:
        options = {"keep": ("id",)} if change == "keep" else {change: True}

    with pytest.raises(PartialResultError, match=f"2 parts of an interrupted run with another {name}. .*--restart"):
        run(other, InterruptedScorer(mixed), file, out, **options)
    again = InterruptedScorer(mixed)
    summary = run(other, again, file, out, restart=True, **options)

    assert summary.rows == len(again.numbers) == 300 + (change == "rows")


def test_two_processes_do_not_write_the_same_results(mixed: MixedModel, file: Path) -> None:
    """The second is rejected while the first has the lock."""
    out = file.with_name("out.csv")
    with pytest.raises(Interrupted):
        run(mixed, InterruptedScorer(mixed, 2), file, out)

    with (parts_folder(out) / "run.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PartialResultError, match=r"another process is writing .*out\.csv"):
            run(mixed, InterruptedScorer(mixed), file, out)

    assert run(mixed, InterruptedScorer(mixed), file, out).rows == 300


def test_existing_results_are_replaced_only_on_request(mixed: MixedModel, file: Path) -> None:
    """The existing file stays until the new one is complete. Only the user can read the results and the parts."""
    out = file.with_name("out.csv")
    out.write_text("precious")
    with pytest.raises(PartialResultError, match=r"out\.csv exists already; --force replaces it"):
        run(mixed, InterruptedScorer(mixed), file, out)
    with pytest.raises(Interrupted):
        run(mixed, InterruptedScorer(mixed, 3), file, out, force=True)

    assert out.read_text() == "precious"
    assert {path.stat().st_mode & 0o077 for path in (parts_folder(out), *parts_folder(out).iterdir())} == {0}
    run(mixed, InterruptedScorer(mixed), file, out)
    assert pd.read_csv(out).row.tolist() == list(range(1, 301))
    assert out.stat().st_mode & 0o077 == 0


def test_results_in_a_folder_that_cannot_be_written(mixed: MixedModel, file: Path) -> None:
    """The message names the folder and the reason."""
    with pytest.raises(PartialResultError, match=r"none/\.out\.csv\.parts cannot be written: No such file"):
        run(mixed, InterruptedScorer(mixed), file, file.with_name("none") / "out.csv")


@pytest.mark.slow
def test_killed_process_is_continued(mixed: MixedModel, tmp_path: Path) -> None:
    """After SIGKILL, the same command completes the results: each row once, each as the estimator predicts it."""
    repeats = 100
    file, out = mixed.write(tmp_path / "rows.csv", pd.concat([mixed.table] * repeats)), tmp_path / "out.parquet"
    command = ["modeltrace", "score", str(file), "--bundle", str(mixed.bundle), "--out", str(out), "--json"]
    with running(command) as process:
        wait_until(lambda: [*parts_folder(out).glob("part-*.parquet")][2:], description="three parts")
        process.stop(signal.SIGKILL)
    assert not out.exists()
    with running(command) as process:
        assert process.popen.wait(240) == 0, process.log
        assert json.loads(process.log.splitlines()[-1])["predicted"] == 300 * repeats

    results = pd.read_parquet(out)
    assert results.row.tolist() == list(range(1, 300 * repeats + 1))
    assert results.label.tolist() == mixed.labels * repeats
