"""True labels of clusterers, models with several outputs and transformers: sent to a service, or in a file."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from typer.testing import CliRunner

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.cli.main import app
from modeltrace.client.service import ServedModel
from tests.helpers.estimator_cases import TABLE, TWO_LABELS, TWO_SIZES, cases
from tests.helpers.in_process_services import records_service

Bundles = Callable[[str], Path]
# For each task, an estimator, a true label as a client sends it, and its stored form.
CASES: dict[str, tuple[str, Any, Any]] = {
    "outlier_detector": ("IsolationForest", -1, -1),
    "clusterer": ("KMeans", "oak", {"class": "oak"}),
    "multi_output": ("MultiOutputClassifier", {"grade": "A"}, {"classes": {"kind": None, "grade": "A"}}),
    "numbers": ("LinearRegression, two targets", [2, None], {"values": {"area": 2.0, "mass": None}}),
    "transformer": ("PCA", 1, None),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Return the bundle of a task; each is packed once."""
    known: dict[str, Path] = {}

    def make(task: str) -> Path:
        if task not in known:
            fitted, out = cases()[CASES[task][0]].fit(), tmp_path_factory.mktemp("bundles") / task
            known[task] = pack(fitted.estimator, fitted.training, fitted.target, name=task, out=out)
        return known[task]

    return make


@pytest.mark.parametrize("task", CASES)
def test_feedback_is_stored_with_its_kind(bundles: Bundles, task: str, tmp_path: Path) -> None:
    """Only embeddings have no true label, and the message says what to do."""
    store = tmp_path / "predictions.db"
    _, label, stored = CASES[task]
    with records_service(load_bundle(bundles(task)), store=str(store)) as service:
        prediction = service.client.post("/predict", json={"features": TABLE.iloc[0].to_dict()}).json()
        item = {"prediction_id": prediction["prediction_id"], "label": label}
        response, again = (service.client.post("/feedback", json=item) for _ in range(2))
        document = service.client.get("/openapi.json").json()

    assert "/feedback" in document["paths"]
    if task == "transformer":
        assert response.status_code == 422
        assert "send the labels of the model that uses the embedding" in response.json()["error"]["message"]
    else:
        assert (response.json()["status"], again.json()["status"]) == ("new", "same")
        with closing(sqlite3.connect(store)) as connection:
            ((text,),) = connection.execute("SELECT label FROM labels").fetchall()
        assert json.loads(text) == stored


def test_only_transformers_have_no_true_labels() -> None:
    """`modeltrace evaluate --url` knows this from `GET /model`."""
    tasks = ("classifier", "regressor", "outlier_detector", "clusterer", "multi_output", "transformer")
    assert [task for task in tasks if not ServedModel("m", "1", (), task=task).has_true_labels] == ["transformer"]


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        (
            "multi_output",
            ["nut"],
            "a list with 2 labels, or an object with labels by name. Its outputs are kind, grade",
        ),
        ("multi_output", {"size": "A"}, "Its outputs are kind, grade"),
        ("multi_output", "nut", "Its outputs are kind, grade"),
        ("multi_output", {"grade": "C"}, "the label of grade is none of the model's classes: 'A', 'B'"),
        ("multi_output", [None, None], "no true label of any output"),
        ("multi_output", {}, "no true label of any output"),
        ("numbers", {"area": True}, "the label of area is a number"),
        ("numbers", {"area": 1e40}, "the label of area is a finite number"),
        ("clusterer", None, "the true class of the row"),
        ("clusterer", "x" * 257, "a text of at most 256 characters"),
        ("clusterer", [1], "the true class of the row"),
    ],
)
def test_invalid_labels(bundles: Bundles, task: str, label: object, message: str) -> None:
    """The message names the outputs of the model, or the output and what it can predict."""
    with records_service(load_bundle(bundles(task))) as service:
        prediction = service.client.post("/predict", json={"features": TABLE.iloc[0].to_dict()}).json()
        response = service.client.post("/feedback", json={"prediction_id": prediction["prediction_id"], "label": label})

    assert response.status_code == 422
    assert message in response.json()["error"]["message"]


def evaluate_file(table: pd.DataFrame, path: Path, bundle: Path, *targets: str) -> list[dict[str, Any]]:
    """Return the results of `modeltrace evaluate FILE --json`."""
    table.to_json(path, orient="records", lines=True)
    options = [part for target in targets for part in ("--target", target)]
    result = CliRunner().invoke(app, ["evaluate", str(path), *options, "--bundle", str(bundle), "--json"])
    assert result.exit_code == 0, result.output
    results: list[dict[str, Any]] = json.loads(result.stdout)
    return results


def test_a_file_with_labels_of_several_outputs(bundles: Bundles, tmp_path: Path) -> None:
    """The columns are in the order of the outputs, or have their names; a row may lack a label."""
    model, labels = cases()["MultiOutputClassifier"].fit().estimator, TWO_LABELS.copy()
    labels.loc[::3, "kind"] = np.where(labels["kind"][::3] == "nut", "bolt", "nut")
    labels.loc[::7, "grade"] = None
    file = tmp_path / "rows.jsonl"
    in_order = evaluate_file(TABLE.assign(a=labels["kind"], b=labels["grade"]), file, bundles("multi_output"), "a", "b")
    by_name = evaluate_file(TABLE.join(labels), file, bundles("multi_output"), "grade")

    predicted = pd.DataFrame(model.predict(TABLE), columns=labels.columns)
    known = labels["grade"].notna()
    assert [result["output"] for result in in_order] == [None, "kind", "grade"]
    assert in_order[1]["classification"]["accuracy"] == pytest.approx(
        sk.accuracy_score(labels["kind"], predicted["kind"]), abs=1e-12
    )
    grade = pytest.approx(sk.f1_score(labels["grade"][known], predicted["grade"][known], average="macro"), abs=1e-12)
    assert in_order[2]["classification"]["macro"]["f1"] == by_name[1]["classification"]["macro"]["f1"] == grade
    assert (in_order[2]["labels"], [result["output"] for result in by_name]) == (known.sum(), [None, "grade"])


def test_a_file_with_true_values_and_classes(bundles: Bundles, tmp_path: Path) -> None:
    """Outputs that are numbers have the errors of a regressor, and clusters are compared with any classes."""
    file, names = tmp_path / "rows.jsonl", ["area", "mass"]
    shifted = TWO_SIZES.add([1.0, -2.0], axis=1)
    results = evaluate_file(TABLE.join(shifted), file, bundles("numbers"), *names)
    assert [result["regression"]["bias"] for result in results[1:]] == pytest.approx([-1.0, 2.0], abs=1e-9)

    (result,) = evaluate_file(TABLE.assign(kind=TWO_LABELS["kind"]), file, bundles("clusterer"), "kind")
    clusters = cases()["KMeans"].fit().estimator.predict(TABLE)
    expected = sk.adjusted_rand_score(TWO_LABELS["kind"], clusters)
    assert result["clustering"]["adjusted_rand_index"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("task", "targets", "message"),
    [
        ("multi_output", ["a"], "has the outputs kind, grade: name their columns with --target"),
        ("clusterer", ["a", "b"], "has one output: name one column with --target"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    bundles: Bundles, task: str, targets: list[str], message: str, tmp_path: Path
) -> None:
    """A message names the outputs."""
    file = tmp_path / "rows.jsonl"
    TABLE.assign(a=1, b=2).to_json(file, orient="records", lines=True)
    options = [part for target in targets for part in ("--target", target)]
    result = CliRunner().invoke(app, ["evaluate", str(file), *options, "--bundle", str(bundles(task))])
    assert result.exit_code == 1
    assert message in " ".join(str(result.exception or "").split() + result.output.split())
