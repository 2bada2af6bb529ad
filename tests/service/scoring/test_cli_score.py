"""`modeltrace score`: exit codes and output."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from modeltrace.cli.main import app
from modeltrace.errors import BundleError, SettingsError
from modeltrace.scoring import job
from modeltrace.scoring.config import PartialResultError, parts_folder
from modeltrace.tables.reader import TableError
from tests.helpers.mixed_model import MixedModel


def score(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["score", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def file(mixed: MixedModel, tmp_path: Path) -> Path:
    """Ten rows; two of them are not valid."""
    ages = [30, None, 31, 32, 33, None, 34, 35, 36, 37]
    return mixed.write(tmp_path / "rows.csv", mixed.table.head(10).assign(age=ages))


def test_summary(mixed: MixedModel, file: Path, tmp_path: Path) -> None:
    """The summary has the number of rows, the reasons why rows are rejected, and the first of them; exit code 0."""
    result = score(file, "--bundle", mixed.bundle, "--out", tmp_path / "out.csv", "--keep", "id")

    assert result.exit_code == 0, result.output
    assert f"8 of 10 rows predicted, written to {tmp_path / 'out.csv'}" in result.stdout
    assert result.stderr.splitlines() == [
        "2 rows have no prediction:",
        "  2 missing in age",
        "  row 2: age: missing, and the model does not accept a missing value",
        "  row 6: age: missing, and the model does not accept a missing value",
    ]
    assert pd.read_csv(tmp_path / "out.csv").id.tolist() == mixed.table.id.head(10).tolist()


def test_summary_as_json(mixed: MixedModel, file: Path, tmp_path: Path) -> None:
    """Standard output is one JSON object."""
    result = score(file, "--bundle", mixed.bundle, "--out", tmp_path / "out.csv", "--json")

    summary: dict[str, Any] = json.loads(result.stdout)
    assert (summary["rows"], summary["predicted"]) == (10, 8)
    assert summary["rejected"] == [{"column": "age", "reason": "missing", "rows": 2}]
    assert [row["row"] for row in summary["examples"]] == [2, 6]


def test_strict(mixed: MixedModel, file: Path, tmp_path: Path) -> None:
    """With --strict, a rejected row makes the exit code 1, and the results are written."""
    result = score(file, "--bundle", mixed.bundle, "--out", tmp_path / "out.csv", "--strict")

    assert result.exit_code == 1
    assert len(pd.read_csv(tmp_path / "out.csv")) == 10
    good = mixed.write(tmp_path / "good.csv")
    assert score(good, "--bundle", mixed.bundle, "--out", tmp_path / "b.csv", "--strict").exit_code == 0


def test_options_that_do_not_fit(mixed: MixedModel, file: Path, tmp_path: Path) -> None:
    """IDs and tags belong to recorded predictions, and a tag has the name of its column."""
    command = (file, "--bundle", mixed.bundle, "--out", tmp_path / "out.csv")
    for options in (("--id-column", "id"), ("--tags", "plan")):
        result = score(*command, *options)
        assert (result.exit_code, "add --telemetry" in result.stderr) == (2, True)
    result = score(*command, "--telemetry", "--tags", "größe")
    assert (result.exit_code, "rename the column" in result.stderr) == (2, True)
    result = score(*command, "--telemetry", "--id-column", "customer")
    assert isinstance(result.exception, TableError)
    assert str(result.exception) == f"{file} lacks the column customer"


def test_no_row_is_predicted(mixed: MixedModel, file: Path, tmp_path: Path) -> None:
    """If every row is rejected, the exit code is 1; a file without rows is no failure."""
    bad = mixed.write(tmp_path / "bad.csv", pd.read_csv(file).assign(age="old"))
    empty = mixed.write(tmp_path / "empty.csv", pd.read_csv(file).head(0))

    assert score(bad, "--bundle", mixed.bundle, "--out", tmp_path / "out.csv").exit_code == 1
    assert score(empty, "--bundle", mixed.bundle, "--out", tmp_path / "empty-out.csv").exit_code == 0


def test_bundle_is_a_source(mixed: MixedModel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--bundle takes a folder of bundles and a version, and its default is MODELTRACE_BUNDLE."""
    for name, source in (("a", mixed.bundle.parent), ("b", f"{mixed.bundle.parent}@1.0.0")):
        assert score(file, "--bundle", source, "--out", tmp_path / f"{name}.csv").exit_code == 0
    assert isinstance(score(file, "--out", tmp_path / "c.csv").exception, SettingsError)
    monkeypatch.setenv("MODELTRACE_BUNDLE", str(mixed.bundle))
    assert score(file, "--out", tmp_path / "c.csv").exit_code == 0
    assert isinstance(score(file, "--bundle", tmp_path / "none", "--out", tmp_path / "d.csv").exception, BundleError)


def test_errors_are_raised(mixed: MixedModel, file: Path, tmp_path: Path) -> None:
    """An error that ends the run is the error of the command."""
    out = tmp_path / "out.csv"
    out.touch()
    assert isinstance(score(file, "--bundle", mixed.bundle, "--out", out).exception, PartialResultError)
    missing = score(tmp_path / "none.csv", "--bundle", mixed.bundle, "--out", tmp_path / "new.csv")
    assert isinstance(missing.exception, TableError)
    assert "interrupted" not in missing.output


def test_interrupt(mixed: MixedModel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C, the exit code is 130, and the message says that the same command continues."""
    out = tmp_path / "out.csv"
    command = (file, "--bundle", mixed.bundle, "--out", out)

    def interrupt(*_: object, **__: object) -> None:
        parts_folder(out).mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "score_file", interrupt)
        result = score(*command)

    assert result.exit_code == 130
    assert f"the same command continues from {parts_folder(out)}" in result.stderr
    assert score(*command).exit_code == 0
