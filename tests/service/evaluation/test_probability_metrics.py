"""Metrics of the probabilities of all classes equal those of scikit-learn, in SQLite and PostgreSQL."""

import secrets
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.probability_metrics import ProbabilityMetrics
from modeltrace.store.rows import RowBuilder, StoredLabel, label_key
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from tests.helpers.factories import MODEL, TIME, AnsweredRequest, answered_row

SECOND = 10**9


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A new store."""
    with open_store(store_url) as opened:
        yield opened


def evaluate_probabilities(
    store: Store, classes: Sequence[Any], probabilities: Any, true: Sequence[Any], version: str = "1"
) -> ProbabilityMetrics | None:
    """Store predictions as a service does, with their labels, and return the metrics of their probabilities."""
    model = MODEL._replace(version=version, classes=tuple(classes))
    rows = [
        answered_row(
            f"{version}-{n}", row=n, label=classes[int(np.argmax(row))], confidence=float(max(row)), time=TIME + n,
            probabilities=row,
        )
        for n, row in enumerate(np.asarray(probabilities).tolist())
    ]  # fmt: skip
    store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, model=model)))
    store.add_labels([StoredLabel(row.prediction_id, label, TIME, TIME) for row, label in zip(rows, true, strict=True)])
    (result,) = evaluate(store, Selection(model_version=version))
    assert result.classification is not None
    return result.classification.probabilities


def assert_equals_scikit_learn(
    result: ProbabilityMetrics | None, classes: Sequence[Any], probabilities: Any, true: Sequence[Any]
) -> None:
    """Compare every metric to 1e-9. scikit-learn gets the index of each class."""
    assert result is not None
    p, keys = np.asarray(probabilities, dtype=float), [label_key(label) for label in classes]
    y, names = np.array([keys.index(label_key(label)) for label in true]), list(range(len(classes)))
    binary = len(classes) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about probabilities whose sum is not exactly 1
        brier = metrics.brier_score_loss(y, p[:, 1] if binary else p, labels=names)
        log_loss = metrics.log_loss(y, y_proba=p, labels=names)
        hits = {k: metrics.top_k_accuracy_score(y, p, k=k, labels=names) for k in range(2, min(6, len(names)))}
    assert result.rows == len(y)
    assert (result.brier_score, result.log_loss) == pytest.approx((brier, log_loss), rel=1e-9, abs=1e-9)
    assert result.top_k_accuracy == pytest.approx(hits, rel=1e-9)
    ranked = [1] if binary else names
    known = [k for k in ranked if 0 < (y == k).sum() < len(y)]
    aucs = {k: metrics.roc_auc_score(y == k, p[:, k]) for k in known}
    precisions = {k: metrics.average_precision_score(y == k, p[:, k]) for k in known}
    assert [entry.support for entry in result.classes] == [(y == k).sum() for k in ranked]
    for k, entry in zip(ranked, result.classes, strict=True):
        assert label_key(entry.label) == keys[k]
        assert entry.roc_auc == pytest.approx(aucs.get(k), rel=1e-9, abs=1e-9)
        assert entry.average_precision == pytest.approx(precisions.get(k), rel=1e-9, abs=1e-9)
    for means, weights in (
        (result.macro, [1.0] * len(known)),
        (result.weighted, [float((y == k).sum()) for k in known]),
    ):
        for value, scores in ((means.roc_auc, aucs), (means.average_precision, precisions)):
            expected = np.average(list(scores.values()), weights=weights) if known else None
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)


REAL = {
    "breast cancer, logistic regression": (load_breast_cancer, LogisticRegression(max_iter=200)),
    "wine, naive Bayes with probabilities of 0 and 1": (load_wine, GaussianNB()),
    "iris, neighbours with many ties": (load_iris, KNeighborsClassifier(4)),
    "digits, ten classes": (load_digits, KNeighborsClassifier(7)),
}


@pytest.mark.parametrize("name", REAL)
def test_metrics_of_real_data_equal_scikit_learn(store: Store, name: str) -> None:
    """Each model predicts the half of a data set that it was not fitted on; also compares the averages of ROC AUC."""
    load, estimator = REAL[name]
    data = load()
    x = StandardScaler().fit_transform(data.data)
    estimator.fit(x[::2], data.target[::2])
    probabilities, y = estimator.predict_proba(x[1::2]), data.target[1::2]
    classes = [str(data.target_names[k]) for k in range(len(data.target_names))]
    true = [classes[k] for k in y]

    result = evaluate_probabilities(store, classes, probabilities, true)

    assert_equals_scikit_learn(result, classes, probabilities, true)
    assert result is not None
    if len(classes) == 2:
        assert result.macro.roc_auc == pytest.approx(metrics.roc_auc_score(y, probabilities[:, 1]), rel=1e-9)
        return
    for average, means in (("macro", result.macro), ("weighted", result.weighted)):
        auc = metrics.roc_auc_score(y, probabilities, multi_class="ovr", average=average)
        precision = metrics.average_precision_score(np.eye(len(classes))[y], probabilities, average=average)
        assert (means.roc_auc, means.average_precision) == pytest.approx((auc, precision), rel=1e-9)


CLASSES = {
    "text": ["ok", "ünsure\u0000", 'a "quoted" name', ""],
    "numbers": [0, 1, -3, 2.5],
    "truth": [False, True],
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Any], NDArray[np.float64], list[Any]]:
    """Draw classes, probabilities with ties, extremes and rounding errors, and true labels."""
    kind = draw(st.sampled_from(sorted(CLASSES)))
    classes = CLASSES[kind][: draw(st.integers(2, 4))]
    rows = draw(st.integers(1, 40))
    score = st.sampled_from([0.0, 1e-300, 1e-17, 0.1, 0.2, 0.3, 0.5, 1.0]) | st.floats(0, 1)
    scores = np.array(draw(st.lists(st.tuples(*[score] * len(classes)), min_size=rows, max_size=rows)))
    scores[scores.sum(axis=1) == 0] = 1.0
    true = draw(st.lists(st.sampled_from(classes), min_size=rows, max_size=rows))
    return classes, scores / scores.sum(axis=1, keepdims=True), true


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
@given(case=cases(), otherwise=st.booleans())
def test_metrics_equal_scikit_learn(store: Store, case: Any, otherwise: bool) -> None:
    """The labels are texts, numbers or booleans; a number may be written in another way (1 and 1.0)."""
    classes, probabilities, true = case
    if otherwise:
        true = [float(label) if type(label) is int else label for label in true]

    result = evaluate_probabilities(store, classes, probabilities, true, version=secrets.token_hex(4))

    assert_equals_scikit_learn(result, classes, probabilities, true)


def test_only_complete_probabilities_and_known_labels_count(store: Store) -> None:
    """A label that is not a class, a probability that is not finite and a row without probabilities do not count."""
    probabilities = [[0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.9, 0.1], [float("nan"), 0.5]]
    true = ["a", "b", "a", "unknown", "a"]

    result = evaluate_probabilities(store, ["a", "b"], probabilities, true)

    assert_equals_scikit_learn(result, ["a", "b"], probabilities[:3], true[:3])


def test_without_probabilities_there_are_no_metrics_of_them(store: Store) -> None:
    """Other metrics do not need them. Without a label of a known class, there are none either."""
    store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest([answered_row("p")])))
    store.add_labels([StoredLabel("p", "benign", TIME, TIME)])

    (result,) = evaluate(store, Selection())

    assert result.classification is not None
    assert (result.classification.accuracy, result.classification.probabilities) == (1.0, None)
    assert evaluate_probabilities(store, ["a", "b"], [[0.7, 0.3]], ["c"], version="2") is None


def test_one_class_has_no_ranking(store: Store) -> None:
    """With the labels of one class only, there is a log loss and no ROC AUC."""
    result = evaluate_probabilities(store, ["a", "b"], [[0.7, 0.3], [0.6, 0.4]], ["a", "a"])

    assert result is not None
    assert (result.macro.roc_auc, result.weighted.roc_auc) == (None, None)
    assert result.log_loss == pytest.approx(-np.log([0.7, 0.6]).mean())
