"""Metrics of several outputs and of clusters, computed from stored labels, equal those of scikit-learn."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.datasets import load_linnerud

from modeltrace.evaluation.clustering import ContingencyCell, clustering_metrics
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.gauges import metric_points
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.evaluation.render import to_json
from modeltrace.store.day_files import export_days, open_exported_store
from modeltrace.store.rows import StoredLabel
from modeltrace.store.rows import to_json as encode
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from modeltrace.true_labels import OutputKind, of_cluster, of_outputs
from tests.helpers.factories import stored_row
from tests.helpers.postgres import Postgres

SECOND = 10**9
START = 1_760_000_000 * SECOND
OUTPUTS: dict[str, OutputKind] = {"weight (kg)": "values", "Größe": "values", "sort": "classes", "ok": "classes"}
CLASSES: dict[str, list[Any]] = {"sort": [0.0, 1.0, 2.0], "ok": [True, False]}


@pytest.fixture(params=["sqlite", "postgresql", "parquet"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Return a function that stores predictions, and returns the store in which they are evaluated."""
    url = str(tmp_path / "predictions.db")
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.url(postgres.create_database())

    def fill(rows: Sequence[tuple[Any, Any, Any]]) -> Store:
        for number, (label, outputs, truth) in enumerate(rows):
            time = START + number * SECOND
            row = stored_row(f"p{number:06}", time=time, trace_id=None)
            outputs_json = None if outputs is None else encode(outputs)
            label_json = None if label is None else encode(label)
            store.add_predictions([row._replace(label=label_json, value=None, confidence=None, outputs=outputs_json)])
            if truth is not None:
                store.add_labels([StoredLabel(row.prediction_id, truth, time + 5 * SECOND, time)])
        if request.param == "parquet":
            export_days(store.read(), str(tmp_path / "lake"), replace=False)
            return stack.enter_context(open_exported_store(str(tmp_path / "lake"), None, None))
        return store

    with open_store(url) as store, ExitStack() as stack:
        yield fill


def random_outputs(rng: np.random.Generator) -> dict[str, Any]:
    """Return the outputs of one row."""
    return {
        "weight (kg)": float(rng.normal(80, 10)),
        "Größe": float(rng.lognormal(0, 2)),
        "sort": float(rng.integers(0, 3)),
        "ok": bool(rng.integers(0, 2)),
    }


def by_output(results: Sequence[ModelMetrics]) -> dict[str | None, ModelMetrics]:
    """Return metrics by the name of the output; `None` is the model."""
    return {metrics.output: metrics for metrics in results}


def test_metrics_of_several_outputs_equal_those_of_scikit_learn(stores: Any) -> None:
    """Each output has the metrics of a classifier or of a regressor, over predictions with a label of this output."""
    rng = np.random.default_rng(7)
    truth = [random_outputs(rng) for _ in range(150)]
    predicted = [
        {name: value if rng.random() < 0.6 else other[name] for name, value in row.items()}
        for row, other in zip(truth, (random_outputs(rng) for _ in truth), strict=True)
    ]
    known = [{name: value for name, value in row.items() if rng.random() < 0.8} for row in truth]
    rows = [
        (None, outputs, of_outputs(OUTPUTS, labels) if labels and index % 5 else None)
        for index, (outputs, labels) in enumerate(zip(predicted, known, strict=True))
    ]
    erased = (None, None, of_outputs(OUTPUTS, truth[0]))
    store = stores([*rows, erased])
    metrics = by_output(evaluate(store, Selection(), locate_drifts=True))
    assert list(metrics) == [None, "sort", "ok", "weight (kg)", "Größe"]
    assert metrics[None].predictions == 151
    assert metrics[None].labels == sum(truth is not None for *_, truth in rows) + 1
    assert metrics[None].classification is None is metrics[None].regression
    for name in OUTPUTS:
        pairs = [
            (labels[name], outputs[name])
            for (_, outputs, stored), labels in zip(rows, known, strict=True)
            if stored is not None and name in labels
        ]
        true, own = (np.array(values) for values in zip(*pairs, strict=True))
        assert metrics[name].labels == len(pairs)
        if name in CLASSES:
            own_metrics = metrics[name].classification
            assert own_metrics is not None
            assert own_metrics.accuracy == pytest.approx(sk.accuracy_score(true, own), abs=1e-12)
            assert own_metrics.macro.f1 == pytest.approx(sk.f1_score(true, own, average="macro"), abs=1e-12)
            assert own_metrics.matthews_correlation == pytest.approx(sk.matthews_corrcoef(true, own), abs=1e-12)
            assert own_metrics.calibration is None is own_metrics.probabilities
        else:
            errors = metrics[name].regression
            assert errors is not None
            assert errors.mean_absolute_error == pytest.approx(sk.mean_absolute_error(true, own), rel=1e-12)
            assert errors.root_mean_squared_error == pytest.approx(sk.root_mean_squared_error(true, own), rel=1e-12)
            assert errors.r2 == pytest.approx(sk.r2_score(true, own), abs=1e-9)
            assert errors.absolute_error_quantiles[0.5] == pytest.approx(sk.median_absolute_error(true, own), rel=1e-12)
        assert metrics[name].drift is not None
        assert to_json(metrics[name])["output"] == name
        points = [*metric_points(metrics[name], {(False, 0.0), (False, 1.0), (False, 2.0)})]
        assert {point.attributes["ml.output.name"] for point in points} == {name}
    assert [metrics.output for metrics in evaluate(store, Selection(), max_outputs=1)] == [None, "sort"]


def test_linnerud(stores: Any) -> None:
    """The figures of a real data set with three targets equal those of scikit-learn."""
    data = load_linnerud()
    names = data.target_names
    kinds: dict[str, OutputKind] = dict.fromkeys(names, "values")
    mean = data.target.mean(axis=0)
    rows = [
        (
            None,
            dict(zip(names, mean.tolist(), strict=True)),
            of_outputs(kinds, dict(zip(names, row.tolist(), strict=True))),
        )
        for row in data.target
    ]
    metrics = by_output(evaluate(stores(rows), Selection(), concept_drift=False))
    for index, name in enumerate(names):
        expected = sk.mean_absolute_error(data.target[:, index], np.full(len(data.target), mean[index]))
        regression = metrics[name].regression
        assert regression is not None
        assert regression.mean_absolute_error == pytest.approx(expected, rel=1e-12)
        assert regression.r2 == pytest.approx(0.0, abs=1e-9)


def test_metrics_of_clusters_equal_those_of_scikit_learn(stores: Any) -> None:
    """The true class of a row need not be the number of a cluster; 1 and true are two classes."""
    rng = np.random.default_rng(11)
    clusters = rng.integers(0, 4, 200).tolist()
    names: list[Any] = ["oak", "ash", 1, True, 2.5]
    classes = [names[cluster if rng.random() < 0.7 else rng.integers(0, 5)] for cluster in clusters]
    rows = [
        (cluster, {"distance": 1.0}, of_cluster(true) if index % 3 else None)
        for index, (cluster, true) in enumerate(zip(clusters, classes, strict=True))
    ]
    (metrics,) = evaluate(stores(rows), Selection())
    true = [repr(label) for index, label in enumerate(classes) if index % 3]
    own = [cluster for index, cluster in enumerate(clusters) if index % 3]
    assert metrics.clustering is not None
    assert metrics.classification is None is metrics.drift
    assert_equal_to_scikit_learn(metrics.clustering, true, own)
    assert sum(cell.rows for cell in metrics.clustering.contingency) == metrics.labels == len(true)
    assert {point.instrument.name for point in metric_points(metrics, set())} >= {
        "ml.evaluation.adjusted_rand_index", "ml.evaluation.homogeneity", "ml.evaluation.purity",
    }  # fmt: skip


def assert_equal_to_scikit_learn(metrics: Any, true: Sequence[object], own: Sequence[object]) -> None:
    """Compare the metrics of clusters with those of scikit-learn."""
    assert metrics.adjusted_rand_index == pytest.approx(sk.adjusted_rand_score(true, own), abs=1e-12)
    expected = sk.homogeneity_completeness_v_measure(true, own)
    assert (metrics.homogeneity, metrics.completeness, metrics.v_measure) == pytest.approx(expected, abs=1e-12)
    assert metrics.fowlkes_mallows == pytest.approx(sk.fowlkes_mallows_score(true, own), abs=1e-12)
    table = sk.cluster.contingency_matrix(true, own)
    assert metrics.purity == pytest.approx(table.max(axis=0).sum() / table.sum(), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_any_clusters(pairs: list[tuple[int, int]]) -> None:
    """Single clusters, single classes and a single row have the metrics of scikit-learn, too."""
    metrics = clustering_metrics(ContingencyCell(cluster, true, 1) for cluster, true in pairs)
    assert_equal_to_scikit_learn(metrics, [true for _, true in pairs], [cluster for cluster, _ in pairs])
