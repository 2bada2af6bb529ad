"""`modeltrace evaluate`: a file scored here or by a service, and the prediction store, give equal metrics."""

import json
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import pandas as pd
import pytest
from sklearn import metrics
from sklearn.linear_model import LinearRegression, LogisticRegression
from typer.testing import CliRunner

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.cli.evaluate_file import NoDataError
from modeltrace.cli.main import app
from modeltrace.client.service import UnreachableError
from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.periods import TooManyPeriodsError
from modeltrace.evaluation.scored_rows import LabelError, to_model_label
from modeltrace.inference.pipeline import model_info
from modeltrace.inference.predict_rows import score
from modeltrace.store.rows import StoredLabel, to_json
from modeltrace.store.store import open_store
from modeltrace.traffic.rows import RowSourceError
from tests.helpers.factories import TIME, stored_row
from tests.helpers.held_out import set_held_out
from tests.helpers.processes import free_port, wait_until
from tests.helpers.services import ID_KEY, running_service

HOUR = 3600 * 10**9
DAY = 24 * HOUR


def run(*arguments: str) -> str:
    """Run the command and return its output on both streams.

    Raises:
        ModeltraceError: the error of the command, which the command line prints as one line.
    """
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})
    if isinstance(result.exception, ModeltraceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def evaluate_as_json(*arguments: str) -> dict[str, Any]:
    """Return the metrics of the only model, without those that depend on the source of the predictions."""
    (metrics_of_model,) = json.loads(run(*arguments, "--json"))
    metrics_of_model.pop("label_delays")
    if metrics_of_model["concept_drift"]:
        metrics_of_model["concept_drift"].pop("drift_predictions")
    return metrics_of_model


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, example: Path) -> dict[str, Path]:
    """The test rows of the example with some wrong and missing labels, in each file format."""
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
def missing_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a store that does not exist, set in the environment."""
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "s.db"))
    return tmp_path / "s.db"


def test_file_scored_here_has_the_metrics_of_scikit_learn(
    labelled: dict[str, Path], example: Path, missing_store: Path
) -> None:
    """Each format gives equal metrics; rows without a label count only as predictions; nothing is stored."""
    table = pd.read_parquet(labelled["parquet"])
    answers = score(load_bundle(example), table.drop(columns="target").to_dict(orient="records"))
    known = table.target.notna().to_numpy()
    y_pred = [answer.label for answer, has_label in zip(answers, known, strict=True) if has_label]  # type: ignore[union-attr]  # all fit

    by_format = {
        kind: evaluate_as_json(file, "--target", "target", "--bundle", example) for kind, file in labelled.items()
    }

    assert by_format["csv"] == by_format["parquet"] == by_format["jsonl"]
    result = by_format["parquet"]
    assert (result["predictions"], result["labels"]) == (len(table), len(table) - 2)
    assert result["classification"]["accuracy"] == metrics.accuracy_score(table.target[known], y_pred)
    assert not missing_store.exists()


@pytest.mark.slow
def test_all_three_sources_give_equal_metrics(
    labelled: dict[str, Path], example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sources are a file scored here, a file scored by a service with labels sent, and the service's store."""
    store = tmp_path / "s.db"
    env = {
        "MODELTRACE_STORE": str(store), "MODELTRACE_ID_KEY": ID_KEY,
        "OTEL_SDK_DISABLED": "true",
    }  # fmt: skip
    monkeypatch.setenv("MODELTRACE_STORE", str(store))
    file = labelled["parquet"]
    scored_here = evaluate_as_json(file, "--target", "target", "--bundle", example)
    with running_service(example, seconds=240, **env) as (_, url):
        scored_by_service = evaluate_as_json(
            file, "--target", "target", "--url", url.removeprefix("http://"), "--feedback"
        )
        with open_store(str(store), create=False) as opened:
            wait_until(lambda: opened.counts().predictions == scored_here["predictions"], description="the rows")
    stored = evaluate_as_json("--since", "1h", "--bundle", example)

    assert scored_by_service == scored_here
    assert stored == scored_here


def test_text_output(labelled: dict[str, Path], example: Path) -> None:
    """The text names the metrics of classes, confusion, calibration and drift."""
    output = run(labelled["csv"], "--target", "target", "--bundle", example)

    assert "1,000 predictions, 998 with a label (99.8%)" in output
    for text in ("accuracy 0.", "precision", "malignant", "calibration error", "concept drift: stable"):
        assert text in output


@pytest.fixture
def numbers(tmp_path: Path) -> tuple[Path, Path]:
    """The bundle of a regressor, and labelled rows."""
    table = pd.DataFrame({"a": [float(n) for n in range(60)]}).assign(b=lambda t: t.a % 7)
    estimator = LinearRegression().fit(table, 3 * table.a + table.b)
    file = tmp_path / "rows.csv"
    table.assign(price=3 * table.a + table.b + 0.5).to_csv(file, index=False)
    return pack(estimator, table, name="price", out=tmp_path / "price"), file


def test_regressor_has_error_metrics_and_an_error_rate_with_a_tolerance(numbers: tuple[Path, Path]) -> None:
    """Without a tolerance the errors themselves are observed."""
    bundle, file = numbers
    arguments = (str(file), "--target", "price", "--bundle", str(bundle))

    result, with_tolerance = evaluate_as_json(*arguments), evaluate_as_json(*arguments, "--tolerance", "0.1")

    assert result["regression"]["mean_absolute_error"] == pytest.approx(0.5)
    assert result["regression"]["absolute_error_quantiles"] == pytest.approx({"0.5": 0.5, "0.95": 0.5})
    assert (result["concept_drift"]["level"], result["concept_drift"]["error_rate"]) == ("stable", None)
    assert with_tolerance["concept_drift"]["error_rate"] == 1.0
    text = run(*arguments)
    assert "mean absolute error 0.5" in text
    assert "median absolute error 0.5, 95% quantile 0.5" in text
    assert "compared with held-out rows: no held-out reference" in text


def test_errors_are_compared_with_those_for_held_out_rows(
    labelled: dict[str, Path], example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file and a store give the same comparison with the errors in the bundle."""
    bundle = set_held_out(Path(copytree(example, tmp_path / "bundle")), rows=2000, accuracy=0.999)
    file, store = labelled["parquet"], tmp_path / "s.db"
    monkeypatch.setenv("MODELTRACE_STORE", str(store))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # which has no bundle of the example
    monkeypatch.delenv("MODELTRACE_BUNDLE", raising=False)
    from_file = evaluate_as_json(file, "--target", "target", "--bundle", bundle)
    table, model = pd.read_parquet(file), load_bundle(bundle)
    answers = score(model, table.drop(columns="target").to_dict(orient="records"))
    rows = [
        stored_row(f"{number:04}", time=TIME + number, model=model_info(model), label=to_json(answer.label))  # type: ignore[union-attr]  # all fit
        for number, answer in enumerate(answers)
    ]
    with open_store(str(store)) as opened:
        opened.add_predictions(rows)
        opened.add_labels(
            [
                StoredLabel(row.prediction_id, true, TIME, TIME)
                for row, true in zip(rows, table.target, strict=True)
                if isinstance(true, str)
            ]
        )

    from_store, without_bundle = evaluate_as_json("--bundle", bundle), evaluate_as_json()

    assert from_file["baseline"]["state"] == "worse"
    assert from_file["baseline"]["baseline_error"] == pytest.approx(0.001)
    assert from_store["baseline"] == from_file["baseline"]
    assert without_bundle["baseline"] is None
    monkeypatch.chdir(tmp_path)  # which contains the bundle
    assert evaluate_as_json()["baseline"] == from_file["baseline"]
    assert "compared with held-out rows: worse; error rate" in run("--bundle", bundle)


def test_rows_that_violate_the_schema_are_excluded_and_counted(tmp_path: Path) -> None:
    """The other rows are evaluated, as by `modeltrace score`; without valid rows there is an error."""
    table = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})
    bundle = pack(LogisticRegression().fit(table, [0, 0, 1, 1]), table, name="m", out=tmp_path / "m")
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 0.0, "y": 0}\n{"a": "?", "y": 0}\n{"a": 3.0, "y": "1"}\n{"y": 1}\nno JSON\n{"a": 1.0}\n')

    output = run(file, "--target", "y", "--bundle", bundle)

    assert "3 of 6 rows violate the feature schema" in output
    assert "3 predictions, 2 with a label" in output
    file.write_text('{"a": "?", "y": 0}\n')
    with pytest.raises(NoDataError, match="no rows that the model accepts"):
        run(file, "--target", "y", "--bundle", bundle)


@pytest.mark.parametrize(
    ("label", "classes", "expected"),
    [
        (1, ["0", "1"], "1"), ("1", [0, 1], 1), (1.0, [0, 1], 1), ("True", [False, True], True),
        (0, [False, True], False), (True, ["false", "True"], "True"), (None, ["a"], None), (7, None, 7),
    ],
)  # fmt: skip
def test_label_of_a_file_is_converted_to_its_class(
    label: object, classes: list[object] | None, expected: object
) -> None:
    """Files do not distinguish 1, "1" and true; the classes of the bundle do."""
    assert repr(to_model_label(label, classes)) == repr(expected)


@pytest.mark.parametrize(("label", "classes"), [("c", ["a", "b"]), (2, [0, 1]), ("7", None), (True, None)])
def test_label_that_is_not_a_class_is_an_error(label: object, classes: list[object] | None) -> None:
    """The message names the label."""
    with pytest.raises(LabelError, match=r"the label .* (not one of the model's classes|is not a number)"):
        to_model_label(label, classes)


def test_error_messages(labelled: dict[str, Path], example: Path, tmp_path: Path, missing_store: Path) -> None:
    """A missing column, service or store, invalid JSON, and a model without predictions are errors."""
    with pytest.raises(RowSourceError, match="lacks the column truth"):
        run(labelled["csv"], "--target", "truth", "--bundle", example)
    with pytest.raises(UnreachableError, match="modeltrace serve"):
        run(labelled["csv"], "--target", "target", "--url", f"127.0.0.1:{free_port()}")
    (tmp_path / "rows.jsonl").write_text("{\n")
    with pytest.raises(NoDataError, match=r"rows\.jsonl has no rows that the model accepts"):
        run(tmp_path / "rows.jsonl", "--target", "target", "--bundle", example)
    with pytest.raises(ModeltraceError, match="there is no prediction store"):
        run("--since", "7d")
    open_store(str(missing_store)).close()
    for mode in (("--expected", "--since", "2100-01-01"), ("--worst", "3", "--since", "2100-01-01")):
        with pytest.raises(NoDataError, match=r"no predictions in .* match --since"):
            run(*mode)
    with pytest.raises(NoDataError, match="no predictions in"):
        run("--name", "another")


@pytest.mark.parametrize(
    "arguments",
    [
        ("rows.csv",), ("rows.csv", "--target", "y"), ("--target", "y"),
        ("rows.csv", "--target", "y", "--url", "u", "--bundle", "b"),
        ("rows.csv", "--target", "y", "--bundle", "b", "--since", "7d"),
        ("rows.csv", "--target", "y", "--bundle", "b", "--version", "1"),
    ],
)  # fmt: skip
def test_incompatible_options_are_a_usage_error(arguments: tuple[str, ...]) -> None:
    """The exit code is 2."""
    assert CliRunner().invoke(app, ["evaluate", *arguments]).exit_code == 2


@pytest.fixture
def two_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A store with a prediction for each hour of two days, the last third of them wrong; as pairs of both labels."""
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "s.db"))
    pairs = [("a" if hour % 2 else "b", "b" if hour >= 32 or not hour % 2 else "a") for hour in range(48)]
    start = TIME - TIME % DAY
    rows = [
        stored_row(f"{hour:02}", time=start + hour * HOUR, label=to_json(label), tags=f'{{"half":"{hour % 2}"}}')
        for hour, (label, _) in enumerate(pairs)
    ]
    with open_store(str(tmp_path / "s.db")) as store:
        store.add_predictions(rows)
        store.add_labels(
            [
                StoredLabel(row.prediction_id, true, row.time, row.time)
                for row, (_, true) in zip(rows, pairs, strict=True)
            ]
        )
    return pairs


@pytest.mark.slow
def test_metrics_of_each_day_and_hour(two_days: list[tuple[str, str]]) -> None:
    """Each period has the metrics of its predictions alone; the first and the last end where the selection ends."""
    start = TIME - TIME % DAY
    since, until = start + 12 * HOUR, start + 40 * HOUR

    days = json.loads(run("--since", iso(since), "--until", iso(until), "--over", "day", "--json"))
    hours = json.loads(run("--since", iso(since), "--over", "hour", "--json"))

    assert [(day["period"]["since_ns"], day["period"]["until_ns"]) for day in days] == [
        (since, start + DAY),
        (start + DAY, until),
    ]
    for day, pairs in zip(days, (two_days[12:24], two_days[24:40]), strict=True):
        predicted, true = zip(*pairs, strict=True)
        assert day["classification"]["accuracy"] == metrics.accuracy_score(true, predicted)
        assert day["classification"]["macro"]["f1"] == pytest.approx(metrics.f1_score(true, predicted, average="macro"))
        assert day["concept_drift"] is None
    assert [hour["predictions"] for hour in hours] == [1] * 36


@pytest.mark.usefixtures("two_days")
def test_text_of_periods_is_a_table_for_each_segment() -> None:
    """With --by, each value of the tag has a table; a row has the start of its period."""
    lines = [" ".join(line.split()) for line in run("--over", "day", "--by", "half").splitlines()]
    day = f"{datetime.fromtimestamp((TIME - TIME % DAY) // 10**9, UTC):%Y-%m-%d %H:%M}"

    assert [line for line in lines if line.startswith("breast-cancer")] == [
        f"breast-cancer 1.0.0, half={half}" for half in "01"
    ]
    assert sum(line.startswith(f"{day} 12 12 1.0000") for line in lines) == 2


@pytest.mark.usefixtures("two_days")
def test_too_many_periods_are_an_error(tmp_path: Path) -> None:
    """The message says how to select fewer."""
    with open_store(str(tmp_path / "s.db")) as store:
        store.add_predictions([stored_row("late", time=TIME + 1000 * HOUR)])

    with pytest.raises(TooManyPeriodsError, match=r"1,0\d\d hours; 1,000 can be .* or --over day"):
        run("--over", "hour")


def iso(time_ns: int) -> str:
    """Return a time as the command line accepts it."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
