"""The command `modeltrace pack`."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import joblib
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LinearRegression, LogisticRegression

from modeltrace.bundles.manifest import read_manifest
from modeltrace.cli.main import main
from tests.helpers.estimators import LABELS, iris_frame

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a model in two formats and its data in two formats."""
    data = iris_frame()
    estimator = LogisticRegression(max_iter=1000).fit(data, LABELS)
    skops.io.dump(estimator, tmp_path / "iris.skops")
    joblib.dump(estimator, tmp_path / "iris.joblib")
    data.assign(species=LABELS).to_csv(tmp_path / "train.csv", index=False)
    data.assign(species=LABELS).to_parquet(tmp_path / "train.parquet")
    return tmp_path


@dataclass(frozen=True)
class CompletedRun:
    """The result of a run of the command."""

    returncode: object
    stdout: str
    stderr: str


Run = Callable[..., CompletedRun]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `modeltrace pack` in the folder, through its console entry point."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> CompletedRun:
        monkeypatch.setattr(sys, "argv", ["modeltrace", "pack", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            sys.exit(main())
        return CompletedRun(exit_info.value.code or 0, *capsys.readouterr())

    return call


def test_a_skops_file_is_packed(run: Run, folder: Path) -> None:
    """The output describes the bundle, its SHA-256 to pin, and the next command."""
    result = run("iris.skops", "--data", "train.csv", "--target", "species", "--traffic", "train.parquet")

    manifest, digest = read_manifest(folder / "iris")
    assert result.returncode == 0, result.stderr
    assert digest in result.stdout
    assert "modeltrace up iris" in result.stdout
    assert all(feature.name in result.stdout for feature in manifest.features)
    assert "Test rows: 50, with labels" in result.stdout


def test_brackets_are_printed_unchanged(run: Run, folder: Path) -> None:
    """A name with a unit in brackets is shown in full."""
    data = iris_frame().add_suffix(" [cm]")
    skops.io.dump(LogisticRegression(max_iter=1000).fit(data, LABELS), folder / "units.skops")
    data.to_csv(folder / "units.csv", index=False)

    result = run("units.skops", "--data", "units.csv", "--name", "iris [/lab]")

    assert "petal_width [cm]" in result.stdout
    assert "Packed iris [/lab] 1.0.0" in result.stdout


def test_options_reach_the_bundle(run: Run, folder: Path) -> None:
    """Name, version, folder, range and format are those of the options."""
    result = run(
        *("iris.joblib", "--trust-pickle", "--data", "train.parquet", "--target", "species", "--out", "made/here"),
        *("--name", "flowers", "--version", "2.1", "--format", "joblib", "--range", "petal_width=0:5"),
    )

    manifest, _ = read_manifest(folder / "made" / "here")
    assert result.returncode == 0, result.stderr
    assert (manifest.name, manifest.version, manifest.artifact.format) == ("flowers", "2.1", "joblib")
    assert manifest.features[-1].valid_range == (0, 5)
    assert "MODELTRACE_TRUST_PICKLE=true modeltrace up" in result.stdout


def test_missing_prediction_intervals_are_stated(run: Run, folder: Path) -> None:
    """A classifier has none in spite of the option; a regressor without labels has none either."""
    classifier = run("iris.skops", "--data", "train.csv", "--target", "species", "--interval-level", "0.8")
    skops.io.dump(LinearRegression().fit(iris_frame(), range(len(LABELS))), folder / "sizes.skops")
    regressor = run("sizes.skops", "--data", "train.csv")

    assert "--interval-level has no effect: the bundle has no prediction intervals" in classifier.stderr
    assert "No prediction intervals" not in classifier.stdout
    assert "No prediction intervals: too few rows with a label" in regressor.stdout
    assert "--interval-level" not in regressor.stderr


def test_allowed_violations_and_privacy_are_shown(run: Run, folder: Path) -> None:
    """Both are stored and printed per feature."""
    result = run(
        *("iris.skops", "--data", "train.csv", "--target", "species", "--range", "petal_width=0:5"),
        *("--allow-violations", "petal_width=range", "--ignore-unknown"),
        *("--privacy", "petal_width=bucket", "--privacy", "sepal_width=drop"),
    )

    manifest, _ = read_manifest(folder / "iris")
    assert result.returncode == 0, result.stderr
    assert manifest.on_unknown == "count"
    assert manifest.features[-1].on_violation.range == "count"
    assert [feature.privacy for feature in manifest.features] == ["plain", "drop", "plain", "bucket"]
    assert "valid 0 to 5; allowed violations: range; privacy: bucket" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("iris.joblib", "--data", "train.csv"), "--trust-pickle"),
        (("iris.skops", "--data", "train.csv", "--target", "genus"), "--target genus: train.csv has no such column"),
        (("iris.skops", "--data", "nowhere.csv"), "nowhere.csv cannot be read"),
        (("iris.skops", "--data", "train.xlsx"), "must end in .csv, .tsv, .jsonl"),
        (("nowhere.skops", "--data", "train.csv"), "nowhere.skops"),
        (("train.csv", "--data", "train.csv"), "must end in .skops"),
        (("iris.skops", "--data", "train.csv", "--range", "petal_width=9"), "FEATURE=LOW:HIGH"),
        (("iris.skops", "--data", "train.csv", "--range", "petal_width=2:1"), "the lower one first"),
        (("iris.skops", "--data", "train.csv", "--range", "petal_width=2024-01-01/P1D"), "the column contains numbers"),
        (("iris.skops", "--data", "train.csv", "--range", "girth=0:1"), "--range girth: the"),
        (
            ("iris.skops", "--data", "train.csv", "--allow-violations", "petal_width=rage"),
            "petal_width=rage: the training data has no feature of that name",
        ),
        (("iris.skops", "--data", "train.csv", "--privacy", "petal_width"), "FEATURE=hash"),
        (("iris.skops", "--data", "train.csv", "--privacy", "girth=hash"), "--privacy girth: the"),
        (("iris.skops", "--data", "train.csv", "--max-length", f"girth={'9' * 5000}"), "FEATURE=CHARACTERS"),
        (("iris.skops", "--data", "train.csv", "--target", "species", "--name", "\x9b31m"), "name: contains a control"),
    ],
)
def test_an_error_is_one_message_and_an_exit_code(
    run: Run, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    """The message goes to stderr without a traceback, and nothing is written."""
    before = sorted(folder.iterdir())

    result = run(*arguments)

    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(folder.iterdir()) == before


def test_packing_twice_needs_force(run: Run, folder: Path) -> None:
    """An existing bundle is replaced only with --force."""
    again = ("iris.skops", "--data", "train.csv", "--target", "species")
    assert run(*again).returncode == 0

    assert "--force" in run(*again).stderr
    assert run(*again, "--force", "--version", "2").returncode == 0
    assert read_manifest(folder / "iris")[0].version == "2"


def test_held_out_rows_without_labels_are_accepted(run: Run, folder: Path) -> None:
    """Traffic can be replayed without true labels."""
    iris_frame().to_csv(folder / "rows.csv", index=False)

    result = run("iris.skops", "--data", "train.csv", "--target", "species", "--traffic", "rows.csv")

    assert "without labels" in result.stdout
    assert len(pd.read_parquet(folder / "iris" / "traffic.parquet").columns) == 4
