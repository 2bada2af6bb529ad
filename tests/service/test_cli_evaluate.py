"""`modeltrace evaluate`: a labelled file scored here or by a service, and the store, give the same figures."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn import metrics
from sklearn.linear_model import LinearRegression, LogisticRegression
from typer.testing import CliRunner

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.cli.evaluate import NoDataError
from modeltrace.cli.main import app
from modeltrace.client.service import UnreachableError
from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.scored_rows import LabelError, to_model_label
from modeltrace.inference.scoring import Scorer
from modeltrace.store.store import open_store
from modeltrace.traffic.rows import RowSourceError
from tests.helpers.processes import free_port, wait_until
from tests.helpers.services import ID_KEY, running_service


def run(*arguments: str) -> str:
    """Run it; what it prints on both outputs.

    Raises:
        ModeltraceError: it ended with that; the command line makes one line of it.
    """
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})
    if isinstance(result.exception, ModeltraceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def figures(*arguments: str) -> dict[str, Any]:
    """What it says of the one model, for machines; without what depends on how it was asked."""
    (found,) = json.loads(run(*arguments, "--json"))
    found.pop("label_delays")
    if found["concept_drift"]:
        found["concept_drift"].pop("drift_predictions")
    return found


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, example: Path) -> dict[str, Path]:
    """The example's held-out rows with wrong labels here and there, in every format that is read."""
    table = pd.read_parquet(example / "traffic.parquet")
    table.loc[table.index[::9], "target"] = "benign"
    table.loc[table.index[3:5], "target"] = None
    folder = tmp_path_factory.mktemp("labelled")
    files = {kind: folder / f"rows.{kind}" for kind in ("parquet", "csv", "jsonl")}
    table.to_parquet(files["parquet"])
    table.to_csv(files["csv"], index=False)
    table.to_json(files["jsonl"], orient="records", lines=True, double_precision=15)
    return files


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there is no store."""
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "s.db"))
    return tmp_path / "s.db"


def test_a_file_scored_here_has_scikit_learns_figures(labelled: dict[str, Path], example: Path, nowhere: Path) -> None:
    """From each format the same; rows without a label are predictions, and in no other figure. Nothing is stored."""
    table = pd.read_parquet(labelled["parquet"])
    answers = Scorer(load_bundle(example)).predict(table.drop(columns="target").to_dict(orient="records"))
    known = table.target.notna().to_numpy()
    y_pred = [one.label for one, there in zip(answers, known, strict=True) if there]  # type: ignore[union-attr]  # all fit

    found = {kind: figures(file, "--target", "target", "--bundle", example) for kind, file in labelled.items()}

    assert found["csv"] == found["parquet"] == found["jsonl"]
    one = found["parquet"]
    assert (one["predictions"], one["labels"]) == (len(table), len(table) - 2)
    assert one["classification"]["accuracy"] == metrics.accuracy_score(table.target[known], y_pred)
    assert not nowhere.exists()


@pytest.mark.slow
def test_all_three_ways_give_the_same_figures(
    labelled: dict[str, Path], example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scored beside the service, sent through it with the labels after, and read from the store that it wrote."""
    store = tmp_path / "s.db"
    env = {
        "MODELTRACE_STORE": str(store), "MODELTRACE_ID_KEY": ID_KEY,
        "OTEL_SDK_DISABLED": "true",
    }  # fmt: skip
    monkeypatch.setenv("MODELTRACE_STORE", str(store))
    file = labelled["parquet"]
    beside = figures(file, "--target", "target", "--bundle", example)
    with running_service(example, seconds=240, **env) as (_, url):
        through = figures(file, "--target", "target", "--url", url.removeprefix("http://"), "--feedback")
        with open_store(str(store), create=False) as opened:
            wait_until(lambda: opened.counts().predictions == beside["predictions"], description="the rows")
    stored = figures("--since", "1h")

    assert through == beside
    assert stored == beside


def test_a_terminal_shows_a_few_calm_lines(labelled: dict[str, Path], example: Path) -> None:
    """Classes, confusion, calibration and drift, each by its name."""
    said = run(labelled["csv"], "--target", "target", "--bundle", example)

    assert "1,000 predictions, 998 with a label (99.8%)" in said
    for word in ("accuracy 0.", "precision", "malignant", "calibration error", "concept drift: stable"):
        assert word in said


@pytest.fixture
def numbers(tmp_path: Path) -> tuple[Path, Path]:
    """A regressor's bundle, and labelled rows."""
    table = pd.DataFrame({"a": [float(n) for n in range(60)]}).assign(b=lambda t: t.a % 7)
    estimator = LinearRegression().fit(table, 3 * table.a + table.b)
    file = tmp_path / "rows.csv"
    table.assign(price=3 * table.a + table.b + 0.5).to_csv(file, index=False)
    return pack(estimator, table, name="price", out=tmp_path / "price"), file


def test_a_regressor_has_distances_and_drift_by_a_tolerance(numbers: tuple[Path, Path]) -> None:
    """Without one nothing is searched for drift."""
    bundle, file = numbers
    arguments = (str(file), "--target", "price", "--bundle", str(bundle))

    found, strict = figures(*arguments), figures(*arguments, "--tolerance", "0.1")

    assert found["regression"]["mean_absolute_error"] == pytest.approx(0.5)
    assert found["concept_drift"] is None
    assert strict["concept_drift"]["error_rate"] == 1.0
    assert "mean absolute error 0.5" in run(*arguments)


def test_rows_that_break_the_schema_are_counted_and_left_out(tmp_path: Path) -> None:
    """The others are scored all the same; without any there is nothing to say."""
    table = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})
    bundle = pack(LogisticRegression().fit(table, [0, 0, 1, 1]), table, name="m", out=tmp_path / "m")
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 0.0, "y": 0}\n{"a": "?", "y": 0}\n{"a": 3.0, "y": "1"}\n')

    said = run(file, "--target", "y", "--bundle", bundle)

    assert "1 of 3 rows break the feature schema" in said
    assert "2 predictions, 2 with a label" in said
    file.write_text('{"a": "?", "y": 0}\n')
    with pytest.raises(NoDataError, match="no rows that the model answers"):
        run(file, "--target", "y", "--bundle", bundle)


@pytest.mark.parametrize(
    ("label", "classes", "expected"),
    [
        (1, ["0", "1"], "1"), ("1", [0, 1], 1), (1.0, [0, 1], 1), ("True", [False, True], True),
        (0, [False, True], False), (True, ["false", "True"], "True"), (None, ["a"], None), (7, None, 7),
    ],
)  # fmt: skip
def test_a_files_label_is_the_class_that_it_means(
    label: object, classes: list[object] | None, expected: object
) -> None:
    """Files do not tell 1 from "1" and true; the bundle's classes do."""
    assert repr(to_model_label(label, classes)) == repr(expected)


@pytest.mark.parametrize(("label", "classes"), [("c", ["a", "b"]), (2, [0, 1]), ("7", None), (True, None)])
def test_a_label_that_the_model_never_answers_is_an_error(label: object, classes: list[object] | None) -> None:
    """The message says which, and what there is."""
    with pytest.raises(LabelError, match=r"the label .* (not one of the model's classes|is not a number)"):
        to_model_label(label, classes)


def test_what_does_not_work_is_said_in_one_line(
    labelled: dict[str, Path], example: Path, tmp_path: Path, nowhere: Path
) -> None:
    """No column, no service, no JSON, no predictions of that model: what, where, what to do."""
    with pytest.raises(RowSourceError, match="lacks the column truth"):
        run(labelled["csv"], "--target", "truth", "--bundle", example)
    with pytest.raises(UnreachableError, match="modeltrace serve"):
        run(labelled["csv"], "--target", "target", "--url", f"127.0.0.1:{free_port()}")
    (tmp_path / "rows.jsonl").write_text("{\n")
    with pytest.raises(RowSourceError, match=r"rows\.jsonl cannot be read"):
        run(tmp_path / "rows.jsonl", "--target", "target", "--bundle", example)
    with pytest.raises(ModeltraceError, match="there is no prediction store"):
        run("--since", "7d")
    open_store(str(nowhere)).close()
    with pytest.raises(NoDataError, match="no such predictions"):
        run("--model", "another")


@pytest.mark.parametrize(
    "arguments",
    [
        ("rows.csv",), ("rows.csv", "--target", "y"), ("--bundle", "x"),
        ("rows.csv", "--target", "y", "--url", "u", "--bundle", "b"),
        ("rows.csv", "--target", "y", "--bundle", "b", "--since", "7d"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_a_usage_error(arguments: tuple[str, ...]) -> None:
    """Exit code 2."""
    assert CliRunner().invoke(app, ["evaluate", *arguments]).exit_code == 2
