"""The scores of outlier detectors are evaluated as those of a classifier with two classes."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.ensemble import IsolationForest
from typer.testing import CliRunner

from modeltrace.bundles.pack import pack
from modeltrace.cli.main import app
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.gauges import metric_points
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.store.rows import RowBuilder, StoredLabel, label_key
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from tests.helpers.factories import MODEL, TIME, AnsweredRequest, answered_row
from tests.helpers.services import running_service

# Few distinct scores give ties.
SCORES = st.floats(-1, 1) | st.sampled_from([-0.5, 0.0, 0.25]) | st.integers(-2, 2).map(float)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A new store."""
    with open_store(store_url) as opened:
        yield opened


def evaluate_scores(store: Store, scores: list[float], labels: list[Any]) -> ModelMetrics:
    """Store predictions as a service does, with their labels, and return the metrics of their version."""
    model = MODEL._replace(version=secrets.token_hex(4), outputs=("score",))
    rows = [
        answered_row(f"{model.version}-{n}", row=n, label=-1 if score < 0 else 1, confidence=None, time=TIME + n)
        for n, score in enumerate(scores)
    ]
    rows = [row._replace(outputs=(score,)) for row, score in zip(rows, scores, strict=True)]
    store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, model=model)))
    store.add_labels(
        [StoredLabel(row.prediction_id, label, TIME, TIME) for row, label in zip(rows, labels, strict=True)]
    )
    (result,) = evaluate(store, Selection(model_version=model.version))
    return result


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(pairs=st.lists(st.tuples(SCORES, st.sampled_from([-1, 1, -1.0, 1.0])), min_size=1, max_size=60))
def test_the_ranking_equals_scikit_learn(store: Store, pairs: list[tuple[float, float]]) -> None:
    """Outliers are the positive class, and a lower score ranks higher, in SQLite and PostgreSQL."""
    scores, labels = map(list, zip(*pairs, strict=True))

    classification = evaluate_scores(store, scores, labels).classification

    assert classification is not None
    ranking, outliers = classification.outlier_ranking, np.array(labels) == -1
    assert classification.probabilities is None
    assert ranking is not None
    assert ranking.support == outliers.sum()
    if outliers.all() or not outliers.any():
        assert (ranking.roc_auc, ranking.average_precision) == (None, None)
    else:
        assert ranking.roc_auc == pytest.approx(metrics.roc_auc_score(outliers, -np.array(scores)), rel=1e-9)
        expected = metrics.average_precision_score(outliers, -np.array(scores))
        assert ranking.average_precision == pytest.approx(expected, rel=1e-9)


def test_erased_scores_are_left_out(store: Store) -> None:
    """The label of an erased prediction counts for precision and recall, and its score is gone."""
    result = evaluate_scores(store, [-0.5, 0.5, -0.1, 0.3], [-1, 1, 1, -1])
    store.erase([f"{result.model_version}-2"], TIME)
    (after,) = evaluate(store, Selection(model_version=result.model_version))

    assert result.classification is not None
    assert after.classification is not None
    assert result.classification.outlier_ranking is not None
    assert after.classification.outlier_ranking is not None
    assert result.classification.outlier_ranking.roc_auc == 0.75
    assert after.classification.outlier_ranking.roc_auc == 1.0
    assert after.classification.accuracy == result.classification.accuracy == 0.5


def test_a_classifier_of_the_same_labels_has_no_ranking(store: Store) -> None:
    """Its predictions have no score."""
    model = MODEL._replace(version=secrets.token_hex(4))
    rows = [answered_row(f"{model.version}-{n}", row=n, label=label, time=TIME) for n, label in enumerate([-1, 1])]
    store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, model=model)))
    store.add_labels([StoredLabel(row.prediction_id, 1, TIME, TIME) for row in rows])
    (result,) = evaluate(store, Selection(model_version=model.version))

    assert result.classification is not None
    assert result.classification.outlier_ranking is None


def test_gauges_have_the_ranking(store: Store) -> None:
    """Both averages are that of the outliers, as for a classifier with two classes."""
    result = evaluate_scores(store, [-0.5, 0.5, -0.1, 0.3], [-1, 1, 1, -1])
    points = metric_points(result, {label_key(-1), label_key(1)})

    values = {
        (point.instrument.name, average): point.value
        for point in points
        if (average := point.attributes.get("ml.evaluation.average")) and "roc_auc" in point.instrument.name
    }
    assert values == {("ml.evaluation.roc_auc", average): 0.75 for average in ("macro", "weighted")}


def test_a_file_and_the_store_have_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a bundle, a file with a service, and the predictions that the service stored."""
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "s.db"))
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(300, 2)), columns=["a", "b"])
    far = rng.random(300) < 0.15
    test = table + 3.0 * far[:, np.newaxis] * rng.choice([-1, 1], (300, 2))
    detector = IsolationForest(n_estimators=20, random_state=0).fit(table)
    bundle, file = pack(detector, table, name="odd", out=tmp_path / "odd"), tmp_path / "rows.csv"
    test.assign(y=np.where(far, -1, 1)).to_csv(file, index=False)

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return result.stdout

    of_bundle = json.loads(run(file, "--target", "y", "--bundle", bundle, "--json"))[0]["classification"]
    with running_service(bundle, MODELTRACE_STORE=str(tmp_path / "s.db")) as (_, url):
        of_service = json.loads(run(file, "--target", "y", "--url", url, "--feedback", "--json"))[0]["classification"]
    of_store = json.loads(run("--json", "--bundle", bundle))[0]["classification"]

    exported = tmp_path / "predictions.parquet"
    assert CliRunner().invoke(app, ["audit", "export", str(exported)]).exit_code == 0
    of_export = json.loads(run("--from", exported, "--json", "--bundle", bundle))[0]["classification"]

    ranking = of_bundle["outlier_ranking"]
    assert ranking["roc_auc"] == pytest.approx(metrics.roc_auc_score(far, -detector.decision_function(test)), rel=1e-9)
    assert [entry["label"] for entry in of_bundle["classes"]] == [-1, 1]
    predicted, true = detector.predict(test), np.where(far, -1, 1)
    assert of_bundle["classes"][0]["recall"] == pytest.approx(metrics.recall_score(true, predicted, pos_label=-1))
    for other in (of_service, of_store, of_export):
        assert other["outlier_ranking"] == pytest.approx(ranking, rel=1e-9)
    assert f"outliers by score: ROC AUC {ranking['roc_auc']:.4f}" in run("--bundle", bundle)
