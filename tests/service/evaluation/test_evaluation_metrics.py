"""Metrics equal those of scikit-learn on the same data, in SQLite and PostgreSQL."""

import math
import secrets
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from modeltrace.evaluation.baseline_comparison import compare_absolute_errors, compare_error_rates
from modeltrace.evaluation.calibration import BIN_EDGES
from modeltrace.evaluation.concept_drift import detect_drift
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.metrics import ModelMetrics, RegressionMetrics
from modeltrace.evaluation.queries import ERROR_LEVELS
from modeltrace.store.rows import Row, StoredLabel, to_json
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from modeltrace.telemetry.metrics.model_catalog import Baseline
from tests.helpers.factories import MODEL, TIME, stored_row

SECOND = 10**9
# Labels, and a function that changes their JSON but not their value.
KINDS = {
    "text": (["benign", "malignant", "ünsure\u0000", ""], str),
    "whole": ([0, 1, 2, -3], float),
    "parts": ([0.0, 1.0, 0.1 + 0.2, 1e20], lambda label: int(label) if label.is_integer() else label),
    "truth": ([True, False], bool),
}
CONFIDENCES = st.none() | st.floats(0, 1) | st.sampled_from([0.0, 1.0, *BIN_EDGES])


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A new store."""
    with open_store(store_url) as opened:
        yield opened


def prediction_row(
    number: int, *, version: str, label: Any = None, value: float | None = None, confidence: Any = None
) -> Row:
    """Return the prediction of that number; each is a second after the previous one."""
    predicted = to_json(label) if value is None else None
    return stored_row(
        f"{version}-{number:06}",
        time=TIME + number * SECOND,
        model=MODEL._replace(version=version),
        inputs=None,
        label=predicted,
        value=value,
        confidence=confidence,
    )


def evaluate_rows(
    store: Store, rows: Sequence[Row], labels: Sequence[Any], *, delay: Sequence[int] | None = None
) -> ModelMetrics:
    """Store predictions with their labels (`...` for none), and return the metrics of these predictions."""
    store.add_predictions(rows)
    delays = delay or [number * SECOND for number in range(len(rows))]
    store.add_labels(
        [
            StoredLabel(row.prediction_id, label, row.time + after, row.time)
            for row, label, after in zip(rows, labels, delays, strict=True)
            if label is not ...
        ]
    )
    (result,) = evaluate(store, Selection(model_version=rows[0].model_version), tolerance=1.0)
    return result


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)), otherwise=st.booleans())
def test_classification_metrics_equal_scikit_learn(
    store: Store, data: st.DataObject, kind: str, otherwise: bool
) -> None:
    """Compares accuracy, precision, recall, F1, confusion and Brier score for text, numbers and booleans."""
    classes, other = KINDS[kind]
    drawn = data.draw(
        st.lists(st.tuples(st.sampled_from(classes), st.sampled_from(classes), CONFIDENCES), min_size=1, max_size=60)
    )
    predicted, true, confidences = (list(column) for column in zip(*drawn, strict=True))
    version = secrets.token_hex(4)
    rows = [prediction_row(n, version=version, label=label, confidence=c) for n, (label, _, c) in enumerate(drawn)]

    result = evaluate_rows(store, rows, [other(label) for label in true] if otherwise else true).classification

    assert result is not None
    # scikit-learn gets the index of each class as text, so that 1 and 1.0 are equal.
    y_pred, y_true = [str(classes.index(label)) for label in predicted], [str(classes.index(label)) for label in true]
    names = [str(classes.index(entry.label)) for entry in result.classes]  # in the order of the metrics
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes without predictions, which this test covers
        expected = metrics.precision_recall_fscore_support(y_true, y_pred, labels=names)
        matrix = metrics.confusion_matrix(y_true, y_pred, labels=names)
        macro, weighted = (
            metrics.precision_recall_fscore_support(y_true, y_pred, average=average)[:3]
            for average in ("macro", "weighted")
        )
        balanced = metrics.balanced_accuracy_score(y_true, y_pred)
        correlation = metrics.matthews_corrcoef(y_true, y_pred)
    assert sorted(names) == sorted({*y_true, *y_pred})
    assert_close(result.accuracy, metrics.accuracy_score(y_true, y_pred))
    for index, entry in enumerate(result.classes):
        assert_close((entry.precision, entry.recall, entry.f1, entry.support), [column[index] for column in expected])
    assert_close((result.macro.precision, result.macro.recall, result.macro.f1), macro)
    assert_close((result.weighted.precision, result.weighted.recall, result.weighted.f1), weighted)
    assert_close((result.balanced_accuracy, result.matthews_correlation), (balanced, correlation))
    cells = {
        (str(classes.index(entry.label)), str(classes.index(entry.true_label))): entry.rows
        for entry in result.confusion
    }
    assert cells == {
        (names[column], names[line]): matrix[line, column]
        for line in range(len(names)) for column in range(len(names)) if matrix[line, column]
    }  # fmt: skip
    assert_calibrated(result.calibration, y_true, y_pred, confidences)


def assert_calibrated(result: Any, y_true: list[str], y_pred: list[str], confidences: list[float | None]) -> None:
    """Check calibration against scikit-learn, over predictions with a confidence."""
    known = [(a == b, c) for a, b, c in zip(y_true, y_pred, confidences, strict=True) if c is not None]
    if not known:
        assert result is None
        return
    correct, confidence = np.array([equal for equal, _ in known]), np.array([c for _, c in known])
    assert_close(result.top_label_brier_score, metrics.brier_score_loss(correct, confidence, pos_label=True))
    accuracies, means = calibration_curve(correct, confidence, n_bins=10, strategy="uniform")
    assert_close([entry.accuracy for entry in result.bins], accuracies)
    assert_close([entry.confidence for entry in result.bins], means)
    weights = np.array([entry.rows for entry in result.bins]) / len(known)
    assert weights.sum() == pytest.approx(1)
    assert_close(result.expected_calibration_error, (weights * abs(accuracies - means)).sum())


def assert_close(result: Any, expected: Any) -> None:
    """Check equality within 1e-9."""
    np.testing.assert_allclose(np.asarray(result, dtype=float), np.asarray(expected, dtype=float), rtol=1e-9, atol=1e-9)


VALUES = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6).map(float) | st.just(1e15)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(pairs=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=60))
def test_regression_metrics_equal_scikit_learn(store: Store, pairs: list[tuple[float, float]]) -> None:
    """Compares errors, their quantiles and deviation, R² and the errors beyond a tolerance."""
    version = secrets.token_hex(4)
    predicted, true = np.array(pairs).T
    rows = [prediction_row(n, version=version, value=value) for n, (value, _) in enumerate(pairs)]

    model_metrics = evaluate_rows(store, rows, true.tolist())

    assert model_metrics.regression is not None
    assert model_metrics.classification is None
    assert model_metrics.regression.rows == len(pairs)
    assert_close(model_metrics.regression.mean_absolute_error, metrics.mean_absolute_error(true, predicted))
    assert_close(model_metrics.regression.root_mean_squared_error, metrics.root_mean_squared_error(true, predicted))
    size = np.abs(predicted - true).max()  # errors that cancel out leave a rounding error of this size
    np.testing.assert_allclose(model_metrics.regression.bias, np.mean(predicted - true), rtol=1e-9, atol=1e-12 * size)
    if (true == 0).any():
        assert model_metrics.regression.mean_absolute_percentage_error is None
    else:
        assert_close(
            model_metrics.regression.mean_absolute_percentage_error,
            metrics.mean_absolute_percentage_error(true, predicted),
        )
    assert_true_value_groups(model_metrics.regression, true, predicted)
    absolute = np.abs(predicted - true)
    quantiles = model_metrics.regression.absolute_error_quantiles
    assert_close(quantiles[0.5], metrics.median_absolute_error(true, predicted))
    assert_close([quantiles[0.5], quantiles[0.95]], np.quantile(absolute, [0.5, 0.95]))
    np.testing.assert_allclose(
        model_metrics.regression.absolute_error_deviation, absolute.std(), rtol=1e-9, atol=1e-12 * absolute.max()
    )
    if len(pairs) == 1:
        assert model_metrics.regression.r2 is None
    else:
        assert_close(model_metrics.regression.r2, metrics.r2_score(true, predicted))
    assert model_metrics.drift is not None
    assert model_metrics.drift == detect_drift((absolute > 1.0).astype(float))
    assert model_metrics.error_rate == (absolute > 1.0).mean()


def assert_true_value_groups(result: RegressionMetrics, true: Any, predicted: Any) -> None:
    """Check the errors of each group of true values, which are divided at the quartiles, against numpy."""
    group = np.searchsorted(np.quantile(true, [0.25, 0.5, 0.75]), true, side="left")
    expected = [
        (true[rows].min(), true[rows].max(), rows.sum(), errors.mean(), np.median(np.abs(errors)))
        for rows in (group == index for index in range(4))
        if rows.any() and (errors := predicted[rows] - true[rows]) is not None
    ]
    actual = [astuple(entry) for entry in result.true_value_groups]
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 + 1e-12 * np.abs(predicted - true).max())


def test_r2_is_exact_far_from_zero(store: Store) -> None:
    """A mean much larger than the standard deviation costs no precision."""
    rng = np.random.default_rng(1)
    true = 1e9 + rng.normal(size=2000)
    predicted = true + rng.normal(scale=0.3, size=2000)
    rows = [prediction_row(n, version="far", value=value) for n, value in enumerate(predicted.tolist())]

    result = evaluate_rows(store, rows, true.tolist()).regression

    assert result is not None
    assert_close(result.r2, metrics.r2_score(true, predicted))


@pytest.mark.parametrize(("true", "predicted"), [([2.0, 2.0], [2.0, 2.0]), ([2.0, 2.0], [2.0, 3.0])])
def test_r2_of_constant_labels(store: Store, true: list[float], predicted: list[float]) -> None:
    """R² is 1 for a perfect model and 0 for any other model."""
    result = evaluate_rows(
        store, [prediction_row(n, version="v", value=value) for n, value in enumerate(predicted)], true
    ).regression

    assert result is not None
    assert result.r2 == metrics.r2_score(true, predicted)


def test_a_label_that_is_not_a_number_is_in_no_regression_metric(store: Store) -> None:
    """The same holds for a number that cannot be squared; both count as labels."""
    odd = [1.0, True, "7", None, 10**400, 1e300, ...]
    rows = [prediction_row(n, version="v", value=3.0) for n in range(len(odd))]

    model_metrics = evaluate_rows(store, rows, odd)

    assert (model_metrics.predictions, model_metrics.labels) == (7, 6)
    assert model_metrics.regression is not None
    assert (model_metrics.regression.rows, model_metrics.regression.mean_absolute_error) == (1, 2.0)
    assert model_metrics.drift is not None
    assert model_metrics.drift.labels == 1


def test_1_and_true_are_different_labels(store: Store) -> None:
    """For a model with the classes 0 and 1 the label 1.0 equals 1, and the label true does not."""
    rows = [prediction_row(n, version="v", label=1) for n in range(3)]

    result = evaluate_rows(store, rows, [1.0, 1, True]).classification

    assert result is not None
    assert result.accuracy == pytest.approx(2 / 3)
    assert [(entry.label, entry.true_label, entry.rows) for entry in result.confusion] == [(1, 1, 2), (1, True, 1)]


def test_errors_are_in_the_order_of_predictions(store: Store) -> None:
    """The order and time of the labels do not matter, nor does the JSON of a label."""
    rng = np.random.default_rng(5)
    wrong = (np.concatenate([rng.random(1500) < 0.1, rng.random(700) < 0.6])).astype(int)
    rows = [prediction_row(n, version="v", label=1) for n in range(len(wrong))]
    shuffled = rng.permutation(len(rows))
    store.add_predictions([rows[index] for index in shuffled])

    model_metrics = evaluate_rows(
        store, rows, [[1.0, 0][error] for error in wrong.tolist()], delay=rng.permutation(10**6)[: len(rows)].tolist()
    )

    assert model_metrics.drift is not None
    assert model_metrics.drift == detect_drift(wrong.astype(float))
    assert model_metrics.drift.drift_indices
    assert model_metrics.error_rate == model_metrics.drift.mean_error


def test_late_labels_count_at_the_time_of_the_prediction(store: Store) -> None:
    """Labels that arrive later do not lower the accuracy of an earlier window."""
    rows = [prediction_row(n, version="v", label="a") for n in range(200)]
    evaluate_rows(store, rows, ["a"] * 100 + ["b"] * 100, delay=[10**6 * SECOND] * 200)

    ((before,), (after,)) = (
        evaluate(store, Selection(since=TIME + start * SECOND, until=TIME + (start + 100) * SECOND))
        for start in (0, 100)
    )

    assert before.classification is not None
    assert after.classification is not None
    assert (before.classification.accuracy, after.classification.accuracy) == (1.0, 0.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(delays=st.lists(st.integers(-(10**9), 10**15), min_size=1, max_size=70), unlabelled=st.integers(0, 5))
def test_label_coverage_and_delays_equal_numpy(store: Store, delays: list[int], unlabelled: int) -> None:
    """Compares the share of predictions with a label, and the 50 % and 95 % quantiles of the delay."""
    version = secrets.token_hex(4)
    rows = [prediction_row(n, version=version, label="a") for n in range(len(delays) + unlabelled)]

    model_metrics = evaluate_rows(
        store, rows, ["a"] * len(delays) + [...] * unlabelled, delay=[*delays, *[0] * unlabelled]
    )

    assert model_metrics.label_coverage == len(delays) / len(rows)
    expected = np.quantile(np.maximum(delays, 0), [0.5, 0.95], method="inverted_cdf") / SECOND
    assert_close([model_metrics.label_delays[0.5], model_metrics.label_delays[0.95]], expected)


def test_there_are_no_metrics_without_labels(store: Store) -> None:
    """Without predictions the result is empty; without labels it has counts only."""
    assert evaluate(store, Selection()) == []
    model_metrics = evaluate_rows(store, [prediction_row(0, version="v", label="a", confidence=0.5)], [...])

    assert (
        model_metrics.predictions,
        model_metrics.labels,
        model_metrics.label_coverage,
        model_metrics.label_delays,
    ) == (1, 0, 0.0, {})
    assert (model_metrics.classification, model_metrics.regression, model_metrics.drift) == (None, None, None)


def test_a_label_counts_for_the_shadows_of_its_prediction(store: Store) -> None:
    """A challenger's predictions have the labels and delays of the primary model's predictions."""
    primary_rows = [prediction_row(n, version="1", label="a") for n in range(3)]
    shadows = [
        prediction_row(n, version="2", label=label)._replace(shadow_of=primary_rows[n].prediction_id)
        for n, label in enumerate(["a", "b", "b"])
    ]
    store.add_predictions(shadows)
    evaluate_rows(store, primary_rows, ["a", "b", ...])

    primary, challenger = evaluate(store, Selection())

    assert primary.classification is not None
    assert challenger.classification is not None
    assert (primary.labels, primary.classification.accuracy) == (2, 0.5)
    assert (challenger.labels, challenger.classification.accuracy) == (2, 1.0)
    assert challenger.label_delays == primary.label_delays
    assert challenger.drift is not None
    assert (challenger.drift.labels, challenger.drift.mean_error) == (2, 0.0)


def test_each_version_has_its_own_metrics(store: Store) -> None:
    """A label without a prediction, and predictions of another model, have no effect."""
    store.add_labels([StoredLabel("nobody's", "a", TIME, TIME)])
    evaluate_rows(store, [prediction_row(n, version="1", label="a") for n in range(4)], ["a", "a", "a", "b"])
    evaluate_rows(store, [prediction_row(n, version="2", value=1.0) for n in range(3)], [2.0, 2.0, 2.0])

    result = evaluate(store, Selection(model_name=MODEL.name))

    assert [(entry.model_version, entry.predictions, entry.labels) for entry in result] == [("1", 4, 4), ("2", 3, 3)]
    assert result[0].classification is not None
    assert result[0].classification.accuracy == 0.75
    assert result[1].regression is not None
    assert math.isclose(result[1].regression.mean_absolute_error, 1.0)
    assert evaluate(store, Selection(model_name="another")) == []


def test_two_models_of_one_version_have_separate_metrics(store: Store) -> None:
    """A retrained model that was packed under the old version has metrics of its own, by its hash."""
    rows = [prediction_row(number, version="1", label="a", confidence=0.9) for number in range(60)]
    retrained = [entry._replace(model_hash="b" * 64) for entry in rows[::3]]
    store.add_predictions([*(entry for number, entry in enumerate(rows) if number % 3), *retrained])
    ids = {entry.prediction_id for entry in retrained}
    store.add_labels(
        [
            StoredLabel(entry.prediction_id, "b" if entry.prediction_id in ids else "a", entry.time, entry.time)
            for entry in rows
        ]
    )
    store.add_predictions([prediction_row(1, version="2", label="a")])

    result = {(entry.model_version, entry.model_hash): entry for entry in evaluate(store, Selection())}
    assert set(result) == {("1", MODEL.hash), ("1", "b" * 64), ("2", None)}
    correct, wrong = result["1", MODEL.hash], result["1", "b" * 64]
    assert (correct.predictions, correct.labels, wrong.predictions) == (40, 40, 20)
    assert correct.classification is not None
    assert wrong.classification is not None
    assert (correct.classification.accuracy, wrong.classification.accuracy) == (1.0, 0.0)
    assert correct.drift is not None
    assert correct.drift.labels == 40


def test_the_top_label_brier_score_of_two_classes_is_the_brier_score(store: Store) -> None:
    """With two classes, the confidence in the predicted label determines the probability of each class."""
    rng = np.random.default_rng(3)
    true, probabilities = rng.random(200) < 0.4, rng.random(200)
    rows = [
        prediction_row(n, version="v", label=bool(p >= 0.5), confidence=float(max(p, 1 - p)))
        for n, p in enumerate(probabilities)
    ]

    result = evaluate_rows(store, rows, true.tolist()).classification

    assert result is not None
    assert result.calibration is not None
    assert_close(result.calibration.top_label_brier_score, metrics.brier_score_loss(true, probabilities))


def test_the_top_label_brier_score_of_three_classes_is_not_the_brier_score(store: Store) -> None:
    """The Brier score of scikit-learn needs the probabilities of all classes, and is larger."""
    rng = np.random.default_rng(4)
    probabilities, true = rng.dirichlet([1, 1, 1], 200), rng.integers(3, size=200)
    predicted = probabilities.argmax(axis=1)
    rows = [
        prediction_row(n, version="v", label=label, confidence=float(probabilities[n].max()))
        for n, label in enumerate(predicted.tolist())
    ]

    result = evaluate_rows(store, rows, true.tolist()).classification

    assert result is not None
    assert result.calibration is not None
    of_label = ((probabilities.max(axis=1) - (predicted == true)) ** 2).mean()
    assert_close(result.calibration.top_label_brier_score, of_label)
    assert result.calibration.top_label_brier_score < metrics.brier_score_loss(true, probabilities)


def test_errors_of_a_classifier_are_compared_with_its_baseline(store: Store) -> None:
    """The baseline of the model's hash is used, and no other."""
    rows = [prediction_row(n, version="v", label="a") for n in range(60)]
    evaluate_rows(store, rows, ["a"] * 36 + ["b"] * 24)
    baseline = Baseline(500, 0.05)

    (result,) = evaluate(store, Selection(), baselines={(MODEL.name, "v", MODEL.hash): baseline})
    (other,) = evaluate(store, Selection(), baselines={(MODEL.name, "v", "b" * 64): baseline})

    assert result.baseline == compare_error_rates(0.4, 60, baseline)
    assert result.baseline.state == "worse"
    assert other.baseline is None


def test_errors_of_a_regressor_are_compared_with_its_baseline(store: Store) -> None:
    """Mean and deviation of the absolute errors are those of numpy. The baseline of a classifier does not apply."""
    rng = np.random.default_rng(5)
    true = rng.normal(size=80)
    predicted = true + rng.normal(scale=3, size=80)
    rows = [prediction_row(n, version="v", value=value) for n, value in enumerate(predicted.tolist())]
    evaluate_rows(store, rows, true.tolist())
    key, baseline, absolute = (MODEL.name, "v", MODEL.hash), Baseline(500, 1.0, 0.8), np.abs(predicted - true)

    (result,) = evaluate(store, Selection(), baselines={key: baseline})
    (of_classifier,) = evaluate(store, Selection(), baselines={key: Baseline(500, 0.1)})

    expected = compare_absolute_errors(float(absolute.mean()), float(absolute.std()), 80, baseline)
    assert result.baseline is not None
    assert result.baseline.state == expected.state == "worse"
    assert_close(
        [result.baseline.increase, result.baseline.threshold, result.baseline.standard_error],
        [expected.increase, expected.threshold, expected.standard_error],
    )
    assert of_classifier.baseline is None


def test_drift_of_a_regressor_needs_no_tolerance(store: Store) -> None:
    """Errors of any unit are scaled by their median; an increase is located at a prediction."""
    rng = np.random.default_rng(6)
    absolute = np.concatenate([rng.exponential(1e4, 1500), rng.exponential(4e4, 700)])
    rows = [prediction_row(n, version="v", value=value) for n, value in enumerate(absolute.tolist())]
    evaluate_rows(store, rows, [0.0] * len(rows))

    (result,) = evaluate(store, Selection(), locate_drifts=True)

    scaled = np.round(ERROR_LEVELS * absolute / (absolute + np.median(absolute))) / ERROR_LEVELS
    assert result.drift == detect_drift(scaled)
    (index,) = result.drift.drift_indices
    assert 1500 <= index < 1700
    assert [prediction.prediction_id for prediction in result.drift_predictions] == [f"v-{index:06}"]
    assert result.error_rate is None


def test_constant_errors_of_a_regressor_do_not_drift(store: Store) -> None:
    """Their median is 0 or equal to all errors."""
    for version, error in (("exact", 0.0), ("constant", 2.5)):
        rows = [prediction_row(n, version=version, value=error) for n in range(300)]
        store.add_predictions(rows)
        store.add_labels([StoredLabel(row.prediction_id, 0.0, row.time, row.time) for row in rows])

    results = evaluate(store, Selection())

    assert [(entry.drift.level, entry.drift.changes) for entry in results if entry.drift] == [(0, ()), (0, ())]
