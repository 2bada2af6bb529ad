"""`modeltrace evidence` leads from a drifted feature to the predictions behind it."""

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
from modeltrace.telemetry.records.prediction import ModelInfo
from tests.helpers.factories import AnsweredRequest, answered_row

TIME = 1_800_000_000 * 10**9
SINCE = "2027-01-15"
ROWS = 600


@dataclass(frozen=True)
class Case:
    """A bundle, and a store with what was asked of it."""

    bundle: Path
    store: Path
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> str:
        """Run the command; what it prints.

        Raises:
            ModeltraceError: it ended with that.
        """
        self.monkeypatch.setenv("MODELTRACE_STORE", str(self.store))
        call = ["evidence", *arguments, "--since", SINCE, "--bundle", str(self.bundle)]
        result = CliRunner().invoke(app, call, env={"COLUMNS": "200"})
        if isinstance(result.exception, ModeltraceError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    def json(self, *arguments: str) -> dict[str, Any]:
        """The same as JSON."""
        said: dict[str, Any] = json.loads(self.run(*arguments, "--json"))
        return said


def trace_id(number: int) -> bytes:
    """The trace of a request."""
    return (number + 1).to_bytes(16)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Traffic in which a third of the ages lies far out, and everybody gets the same answer; and a row without age."""
    rng = np.random.default_rng(0)
    training = pd.DataFrame({"age": rng.normal(40, 12, 500), "income": rng.normal(3, 1, 500)})
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    estimator.fit(training.to_numpy(), np.where(training.age + 10 * rng.normal(size=500) > 40, "old", "young"))
    bundle = pack(estimator, training, name="toy", out=tmp_path / "bundle")
    digest = json.loads((bundle / "model.json").read_text())["artifact"]["sha256"]
    about = ModelInfo("toy", "1.0.0", digest, ("age", "income"))
    store = tmp_path / "predictions.db"
    with open_store(str(store)) as opened:
        for number in range(ROWS):
            inputs = (100.0 + number if number % 3 == 0 else float(training.age[number % 500]), 3.0 + number % 2)
            for model in (about, about._replace(version="2.0.0")) if number < 50 else (about,):
                one = answered_row(f"p{number}-{model.version}", label="old", inputs=inputs, time=TIME + number * 10**9)
                opened.add_predictions(
                    RowBuilder("0.1.0").build(AnsweredRequest([one], trace_id=trace_id(number), model=model))
                )
    return Case(bundle, store, monkeypatch)


def test_the_bins_that_grew_come_with_their_newest_traces(case: Case) -> None:
    """Those far out first; traces newest first and bounded; bins that lost have none; other versions are left out."""
    said = case.json("age", "--limit", "5")

    assert (said["model"]["version"], said["rows"]) == ("1.0.0", ROWS)
    first = said["bins"][0]
    assert (first["name"], first["count"]) == ("09", sum(one["count"] for one in said["bins"] if one["name"] == "09"))
    assert first["window_share"] > 0.35 > 0.1 == pytest.approx(first["training_share"])
    assert first["traces"][0]["trace_id"] == trace_id(ROWS - 3).hex()
    assert len(first["traces"]) == 5
    times = [one["time"] for one in first["traces"]]
    assert times == sorted(times, reverse=True)
    assert {one["increased"] for one in said["bins"] if one["window_share"] < one["training_share"]} == {False}
    assert all(one["traces"] == [] for one in said["bins"] if not one["increased"])
    states = {one["statistic"]: one["state"] for one in said["results"]}
    assert states == {"psi": "drift", "jensen_shannon": "drift", "ks": "drift", "mean_change": "drift"}


def test_for_people_it_says_the_same_in_few_lines(case: Case) -> None:
    """Model, feature, statistics with their states, then each bin that grew with its bounds and traces."""
    text = case.run("age", "--limit", "1")

    assert text.startswith("toy 1.0.0 · age · 600 predictions since 2027-01-15 00:00:00Z")
    assert re.search(r"psi +\d\.\d+ +0\.\d+ +600 +drift", text)
    assert re.search(r"09 \(over [\d.]+\): 10\.0% in training, \d\d\.\d% now", text)
    assert trace_id(ROWS - 3).hex() in text


def test_the_answers_are_asked_for_by_the_name_prediction(case: Case) -> None:
    """The label that is always answered has grown."""
    said = case.json("prediction")

    assert [one["name"] for one in said["bins"] if one["increased"]] == ["old"]
    assert {one["statistic"] for one in said["results"]} == {"psi", "jensen_shannon", "low_confidence"}


def test_few_predictions_say_nothing(case: Case) -> None:
    """Fewer than 200 within the time asked for are not enough, and none are none."""
    case.monkeypatch.setattr("tests.service.test_cli_evidence.SINCE", "2027-01-15T08:08:00")
    assert {one["state"] for one in case.json("age")["results"]} == {"not enough data"}
    case.monkeypatch.setattr("tests.service.test_cli_evidence.SINCE", "2030-01-01")
    assert "No bin grew by more than chance." in case.run("age")


def test_inputs_that_were_erased_are_counted_as_such(case: Case) -> None:
    """Their rows stay, their values are no evidence any more."""
    with open_store(str(case.store)) as store:
        store.erase(["p0-1.0.0", "p1-1.0.0"], 1)

    said = case.json("age")
    assert (said["rows"], said["erased"]) == (ROWS - 2, 2)


def test_a_feature_that_is_not_kept_as_it_came_is_no_evidence(case: Case) -> None:
    """The message names the feature and how the schema treats it; so it is with a feature that does not exist."""
    manifest = read_manifest(case.bundle)[0]
    hashed = manifest.features[0].model_copy(update={"privacy": "hash"})
    secret = manifest.model_copy(update={"features": (hashed, *manifest.features[1:])})
    info = ModelInfo("toy", "1.0.0", "", ("age", "income"))

    with pytest.raises(DrilldownError, match=r"age is `hash` in the schema of toy 1\.0\.0"):
        drill_down(secret, info, "age", [], max_traces=1)
    with pytest.raises(DrilldownError, match="no feature height; it has age, income"):
        case.run("height")


def test_a_version_that_is_not_there_is_named(case: Case) -> None:
    """The message says where it was looked for."""
    with pytest.raises(ModeltraceError, match=r"toy 3\.0"):
        case.run("age", "--version", "3.0")


def test_without_a_bundle_it_is_that_of_the_newest_prediction(case: Case, tmp_path: Path) -> None:
    """Found by its hash among the example of `up` and copies from registries; where it is not, the message says how."""
    call = ["evidence", "age", "--since", SINCE, "--json"]
    env = {"MODELTRACE_STORE": str(case.store), "XDG_DATA_HOME": str(tmp_path / "data")}

    nowhere = CliRunner().invoke(app, call, env=env)
    assert "--bundle" in str(nowhere.exception)
    copy = example_folder(tmp_path / "data" / "modeltrace")
    shutil.copytree(case.bundle, copy)
    found = CliRunner().invoke(app, call, env=env)
    assert json.loads(found.output) == case.json("age")


def test_rows_of_a_batch_are_told_apart(case: Case) -> None:
    """They share a trace: each has its place in the request, its prediction ID and its value."""
    digest = json.loads((case.bundle / "model.json").read_text())["artifact"]["sha256"]
    about = ModelInfo("toy", "1.0.0", digest, ("age", "income"))
    rows = [answered_row(f"b{row}", row=row, inputs=(200.0 + row, 3.0), time=TIME + 10**12) for row in range(3)]
    with open_store(str(case.store)) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, trace_id=trace_id(9999), model=about)))

    traces = case.json("age", "--limit", "3")["bins"][0]["traces"]
    assert [(one["row"], one["prediction_id"], one["value"]) for one in traces] == [
        (2, "b2", 202.0), (1, "b1", 201.0), (0, "b0", 200.0)
    ]  # fmt: skip
    text = case.run("age", "--limit", "3")
    for row in range(3):
        assert f"  {trace_id(9999).hex()}  row {row}  b{row}  {200 + row}  2027-" in text


def test_another_model_of_the_same_version_is_not_added_up(case: Case) -> None:
    """Its predictions are in no count, and it is said that they are there."""
    other = ModelInfo("toy", "1.0.0", "f" * 64, ("age", "income"))
    before = case.json("age")
    rows = [answered_row(f"o{row}", row=row, inputs=(-50.0 - row, 3.0), time=TIME + 10**12) for row in range(300)]
    with open_store(str(case.store)) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, model=other)))

    assert case.json("age") == {**before, "other_models": 300}
    assert "300 more are of another model that calls itself toy 1.0.0" in case.run("age")
    assert case.json("prediction")["other_models"] == 300


def test_rows_that_repeat_are_no_drift(case: Case) -> None:
    """A client that cycles a few rows says nothing of the population, however long it goes on."""
    digest = json.loads((case.bundle / "model.json").read_text())["artifact"]["sha256"]
    about = ModelInfo("toy", "1.0.0", digest, ("age", "income"))
    rows = [
        answered_row(f"r{number}", row=number, label="old", inputs=(60.0 + number % 20, 3.0), time=TIME + 10**13)
        for number in range(2000)
    ]
    with open_store(str(case.store)) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, model=about)))
    case.monkeypatch.setattr("tests.service.test_cli_evidence.SINCE", "2027-01-15T10:00:00")

    for feature in ("age", "prediction"):
        said = case.json(feature)
        assert (said["rows"], said["distinct"], said["rows_repeat"]) == (2000, 20, True)
        assert {one["state"] for one in said["results"]} == {"rows repeat"}
    assert "Rows repeat: 20 distinct of 2,000." in case.run("age")


def test_without_a_bundle_it_is_said_how_to_name_one(case: Case, tmp_path: Path) -> None:
    """Whose it is, and what may be named, for evidence and reports alike."""
    env = {"MODELTRACE_STORE": str(case.store), "XDG_DATA_HOME": str(tmp_path / "data")}
    example_folder(tmp_path / "data" / "modeltrace").mkdir(parents=True)
    for call in (["evidence", "age"], ["report", "evidently", str(tmp_path / "o.html")]):
        said = str(CliRunner().invoke(app, call, env=env).exception)
        assert "the newest prediction is of toy" in said
        for way in ("--bundle SOURCE", "`modeltrace pack`", "models:/NAME@ALIAS", "MODELTRACE_BUNDLE"):
            assert way in said
