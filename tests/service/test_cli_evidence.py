"""`modeltrace evidence` lists the predictions in the bins of a drifted feature."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.bundles.registry.search_paths import example_folder
from modeltrace.cli.main import app
from modeltrace.errors import ModeltraceError
from modeltrace.monitoring.drilldown import DrilldownError, drill_down
from modeltrace.store.rows import RowBuilder
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.factories import AnsweredRequest, answered_row

TIME = 1_800_000_000 * 10**9
SINCE = "2027-01-15"
ROWS = 600


@dataclass(frozen=True)
class Case:
    """A bundle, and a store with its predictions."""

    bundle: Path
    store: Path
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> str:
        """Run the command and return its output.

        Raises:
            ModeltraceError: the error of the command.
        """
        self.monkeypatch.setenv("MODELTRACE_STORE", str(self.store))
        call = ["evidence", *arguments, "--since", SINCE, "--bundle", str(self.bundle)]
        result = CliRunner().invoke(app, call, env={"COLUMNS": "200"})
        if isinstance(result.exception, ModeltraceError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run the command with --json and return the parsed output."""
        result: dict[str, Any] = json.loads(self.run(*arguments, "--json"))
        return result


def trace_id(number: int) -> bytes:
    """Return the trace ID of a request."""
    return (number + 1).to_bytes(16)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and a store in which a third of the ages are far outside the training range. All labels are equal."""
    folder = tmp_path_factory.mktemp("recorded")
    rng = np.random.default_rng(0)
    training = pd.DataFrame({"age": rng.normal(40, 12, 500), "income": rng.normal(3, 1, 500)})
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    target = pd.Series(np.where(training.age + 10 * rng.normal(size=500) > 40, "old", "young"), name="group")
    bundle = pack(estimator.fit(training.to_numpy(), target), training, target, name="toy", out=folder / "bundle")
    digest = json.loads((bundle / "model.json").read_text())["artifact"]["sha256"]
    info = ModelInfo("toy", "1.0.0", digest, ("age", "income"))
    rows = []
    for number in range(ROWS):
        inputs = (100.0 + number if number % 3 == 0 else float(training.age[number % 500]), 3.0 + number % 2)
        for model in (info, info._replace(version="2.0.0")) if number < 50 else (info,):
            row = answered_row(f"p{number}-{model.version}", label="old", inputs=inputs, time=TIME + number * 10**9)
            rows += RowBuilder("0.1.0").build(AnsweredRequest([row], trace_id=trace_id(number), model=model))
    with open_store(str(folder / "predictions.db")) as opened:
        opened.add_predictions(rows)
    return folder


@pytest.fixture
def case(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A copy of the recorded bundle and store."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    return Case(tmp_path / "bundle", tmp_path / "predictions.db", monkeypatch)


def test_bins_with_increased_share_have_their_newest_traces(case: Case) -> None:
    """Bins are sorted by increase and traces by time; other bins have no traces; other versions are excluded."""
    result = case.json("age", "--limit", "5")

    assert (result["model"]["version"], result["rows"]) == ("1.0.0", ROWS)
    first = result["bins"][0]
    assert (first["name"], first["count"]) == (
        "13",
        sum(bin_["count"] for bin_ in result["bins"] if bin_["name"] == "13"),
    )
    assert first["window_share"] > 0.3 > first["training_share"] == 0
    assert first["traces"][0]["trace_id"] == trace_id(ROWS - 3).hex()
    assert len(first["traces"]) == 5
    times = [trace["time"] for trace in first["traces"]]
    assert times == sorted(times, reverse=True)
    assert {bin_["increased"] for bin_ in result["bins"] if bin_["window_share"] < bin_["training_share"]} == {False}
    assert all(bin_["traces"] == [] for bin_ in result["bins"] if not bin_["increased"])
    states = {row["statistic"]: row["state"] for row in result["results"]}
    assert states == dict.fromkeys(("psi", "jensen_shannon", "ks", "location", "spread"), "drift")


def test_text_output(case: Case) -> None:
    """The text contains model, feature, statistics with states, and increased bins with bounds and traces."""
    text = case.run("age", "--limit", "1")

    assert text.startswith("toy 1.0.0 · age · 600 predictions since 2027-01-15 00:00:00Z")
    assert re.search(r"psi +\d\.\d+ +0\.\d+ +600 +drift", text)
    assert re.search(r"13 \(over [\d.]+\): 0\.0% in training, \d\d\.\d% now", text)
    assert trace_id(ROWS - 3).hex() in text


def test_output_of_the_model_is_named_prediction(case: Case) -> None:
    """The share of the label that is always predicted increased."""
    result = case.json("prediction")

    assert [bin_["name"] for bin_ in result["bins"] if bin_["increased"]] == ["old"]
    assert {row["statistic"]: row["state"] for row in result["results"]} == {
        "psi": "drift",
        "jensen_shannon": "drift",
        "share_change": "drift",
        "low_confidence": "ok",
    }
    assert len(result["results"]) == 4


def test_outputs_of_a_bundle_without_held_out_rows_do_not_drift(case: Case) -> None:
    """The text says what to do, and features are compared. Bundles of earlier versions have no held-out rows."""
    manifest = json.loads((case.bundle / "model.json").read_text())
    del manifest["held_out"]
    (case.bundle / "model.json").write_text(json.dumps(manifest))

    results = case.json("prediction")["results"]
    assert {row["state"] for row in results} == {"no held-out reference"}
    assert [row["threshold"] for row in results if row["statistic"] == "low_confidence"] == [None]
    text = case.run("prediction")
    assert re.search(r"low_confidence +[\d.]+ +- +600 +no held-out reference", text)
    assert "Pack with labels (--target) or test rows (--traffic)" in text
    assert {row["state"] for row in case.json("age")["results"]} == {"drift"}


def test_few_predictions_are_not_enough(case: Case) -> None:
    """Fewer than 200 predictions have the state `not enough data`."""
    case.monkeypatch.setattr("tests.service.test_cli_evidence.SINCE", "2027-01-15T08:08:00")
    assert {row["state"] for row in case.json("age")["results"]} == {"not enough data"}
    case.monkeypatch.setattr("tests.service.test_cli_evidence.SINCE", "2030-01-01")
    assert "The share of no bin increased significantly." in case.run("age")


def test_predictions_with_erased_inputs_are_counted(case: Case) -> None:
    """They are excluded from the rows and counted as erased."""
    with open_store(str(case.store)) as store:
        store.erase(["p0-1.0.0", "p1-1.0.0"], 1)

    result = case.json("age")
    assert (result["rows"], result["erased"]) == (ROWS - 2, 2)


def test_private_or_unknown_feature_is_an_error(case: Case) -> None:
    """The message names the feature and its privacy rule, or the existing features."""
    manifest = read_manifest(case.bundle)[0]
    hashed = manifest.features[0].model_copy(update={"privacy": "hash"})
    private = manifest.model_copy(update={"features": (hashed, *manifest.features[1:])})
    info = ModelInfo("toy", "1.0.0", "", ("age", "income"))

    with pytest.raises(DrilldownError, match=r"age is `hash` in the schema of toy 1\.0\.0"):
        drill_down(private, info, "age", [], max_traces=1)
    with pytest.raises(DrilldownError, match="no feature height; it has age, income"):
        case.run("height")


def test_missing_version_is_an_error(case: Case) -> None:
    """The message names the version."""
    with pytest.raises(ModeltraceError, match=r"toy 3\.0"):
        case.run("age", "--version", "3.0")


def test_default_bundle_is_that_of_the_newest_prediction(case: Case, tmp_path: Path) -> None:
    """It is found by its hash; if it is not found, the message says how to name a bundle."""
    call = ["evidence", "age", "--since", SINCE, "--json"]
    env = {"MODELTRACE_STORE": str(case.store), "XDG_DATA_HOME": str(tmp_path / "data")}

    not_found = CliRunner().invoke(app, call, env=env)
    assert "--bundle" in str(not_found.exception)
    copy = example_folder(tmp_path / "data" / "modeltrace")
    shutil.copytree(case.bundle, copy)
    result = CliRunner().invoke(app, call, env=env)
    assert json.loads(result.output) == case.json("age")


def test_rows_of_a_batch(case: Case) -> None:
    """Rows with the same trace have their index in the request, their prediction ID and their value."""
    digest = json.loads((case.bundle / "model.json").read_text())["artifact"]["sha256"]
    info = ModelInfo("toy", "1.0.0", digest, ("age", "income"))
    rows = [answered_row(f"b{row}", row=row, inputs=(200.0 + row, 3.0), time=TIME + 10**12) for row in range(3)]
    with open_store(str(case.store)) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, trace_id=trace_id(9999), model=info)))

    traces = case.json("age", "--limit", "3")["bins"][0]["traces"]
    assert [(trace["row"], trace["prediction_id"], trace["value"]) for trace in traces] == [
        (2, "b2", 202.0), (1, "b1", 201.0), (0, "b0", 200.0)
    ]  # fmt: skip
    text = case.run("age", "--limit", "3")
    for row in range(3):
        assert f"  {trace_id(9999).hex()}  row {row}  b{row}  {200 + row}  2027-" in text


def test_another_model_of_the_same_version_is_excluded(case: Case) -> None:
    """Its predictions are excluded, and their number is reported."""
    other = ModelInfo("toy", "1.0.0", "f" * 64, ("age", "income"))
    before = case.json("age")
    rows = [answered_row(f"o{row}", row=row, inputs=(-50.0 - row, 3.0), time=TIME + 10**12) for row in range(300)]
    with open_store(str(case.store)) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, model=other)))

    assert case.json("age") == {**before, "other_models": 300}
    assert "300 more predictions are of another model with the name and version toy 1.0.0" in case.run("age")
    assert case.json("prediction")["other_models"] == 300


def test_repeated_rows_are_not_drift(case: Case) -> None:
    """If a client repeats a few rows, the statistics have the state `rows repeat`."""
    digest = json.loads((case.bundle / "model.json").read_text())["artifact"]["sha256"]
    info = ModelInfo("toy", "1.0.0", digest, ("age", "income"))
    rows = [
        answered_row(f"r{number}", row=number, label="old", inputs=(60.0 + number % 20, 3.0), time=TIME + 10**13)
        for number in range(2000)
    ]
    with open_store(str(case.store)) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, model=info)))
    case.monkeypatch.setattr("tests.service.test_cli_evidence.SINCE", "2027-01-15T10:00:00")

    for feature in ("age", "prediction"):
        result = case.json(feature)
        assert (result["rows"], result["distinct"], result["rows_repeat"]) == (2000, 20, True)
        assert {row["state"] for row in result["results"]} == {"rows repeat"}
    assert "Rows repeat: 20 of 2,000 are distinct." in case.run("age")


@pytest.mark.slow
def test_rows_that_depend_on_the_rows_before_them_are_worth_fewer_rows(case: Case) -> None:
    """The ages of 2,000 requests follow each other. Their distribution differs by chance, which is no drift."""
    digest = json.loads((case.bundle / "model.json").read_text())["artifact"]["sha256"]
    info = ModelInfo("toy", "1.0.0", digest, ("age", "income"))
    rng, age = np.random.default_rng(4), 0.0
    with open_store(str(case.store)) as store:
        for number in range(2000):
            age = 0.98 * age + float(rng.normal(scale=(1 - 0.98**2) ** 0.5))
            inputs, time = (40 + 12 * age, 3.0 + float(rng.normal())), TIME + 10**13 + number
            row = answered_row(f"d{number}", row=0, label="old", inputs=inputs, time=time)
            request = AnsweredRequest([row], model=info, trace_id=trace_id(10**6 + number), span_id=bytes(8))
            store.add_predictions(RowBuilder("0.1.0").build(request))
    case.monkeypatch.setattr("tests.service.test_cli_evidence.SINCE", "2027-01-15T10:00:00")

    dependent, independent = case.json("age")["results"], case.json("income")["results"]
    assert {row["state"] for row in dependent} == {"not enough data"}
    assert all(row["n"] == 2000 and row["independent"] < 60 for row in dependent)
    assert {(row["n"], row["independent"], row["state"]) for row in independent} == {(2000, 2000, "ok")}
    assert re.search("Rows depend on the rows before them: 2,000 rows are worth [0-9]+ independent", case.run("age"))


def test_error_without_a_bundle_says_how_to_name_one(case: Case, tmp_path: Path) -> None:
    """The message names the model and the ways to name its bundle, for evidence and reports."""
    env = {"MODELTRACE_STORE": str(case.store), "XDG_DATA_HOME": str(tmp_path / "data")}
    example_folder(tmp_path / "data" / "modeltrace").mkdir(parents=True)
    for call in (["evidence", "age"], ["report", "evidently", str(tmp_path / "o.html")]):
        message = str(CliRunner().invoke(app, call, env=env).exception)
        assert "the newest prediction is of toy" in message
        for text in ("--bundle SOURCE", "`modeltrace pack`", "models:/NAME@ALIAS", "MODELTRACE_BUNDLE"):
            assert text in message
