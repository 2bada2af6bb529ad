"""The figures are scikit-learn's, on the same data, in SQLite and in PostgreSQL."""

import math
import secrets
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from modeltrace.evaluation.concept_drift import DEFAULT_LIMITS, detect_drift
from modeltrace.evaluation.evaluate import evaluate
from modeltrace.evaluation.metrics import BIN_EDGES, ModelMetrics
from modeltrace.store.rows import Row, StoredLabel, to_json
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from tests.helpers.factories import MODEL, TIME, stored_row

SECOND = 10**9
# Labels as scikit-learn's classes have them, and the other way in which JSON may write the same.
KINDS = {
    "text": (["benign", "malignant", "ünsure\u0000", ""], str),
    "whole": ([0, 1, 2, -3], float),
    "parts": ([0.0, 1.0, 0.1 + 0.2, 1e20], lambda label: int(label) if label.is_integer() else label),
    "truth": ([True, False], bool),
}
CONFIDENCES = st.none() | st.floats(0, 1) | st.sampled_from([0.0, 1.0, *BIN_EDGES])


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A new one."""
    with open_store(store_url) as opened:
        yield opened


def answer(number: int, *, version: str, label: Any = None, value: float | None = None, confidence: Any = None) -> Row:
    """An answered prediction, a second after the one before it."""
    said = to_json(label) if value is None else None
    return stored_row(
        f"{version}-{number:06}",
        time=TIME + number * SECOND,
        model=MODEL._replace(version=version),
        inputs=None,
        label=said,
        value=value,
        confidence=confidence,
    )


def fill(
    store: Store, rows: Sequence[Row], labels: Sequence[Any], *, delay: Sequence[int] | None = None
) -> ModelMetrics:
    """Store predictions and their labels (`...`: none has come); the figures of exactly these."""
    store.add_predictions(rows)
    late = delay or [number * SECOND for number in range(len(rows))]
    store.add_labels(
        [
            StoredLabel(row.prediction_id, label, row.time + after, row.time)
            for row, label, after in zip(rows, labels, late, strict=True)
            if label is not ...
        ]
    )
    (found,) = evaluate(store, Selection(model_version=rows[0].model_version), tolerance=1.0)
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)), otherwise=st.booleans())
def test_a_classifiers_figures_are_scikit_learns(store: Store, data: st.DataObject, kind: str, otherwise: bool) -> None:
    """Accuracy, precision, recall, F1, confusion, Brier score: for text, numbers and truth values, in every mixture."""
    classes, other = KINDS[kind]
    drawn = data.draw(
        st.lists(st.tuples(st.sampled_from(classes), st.sampled_from(classes), CONFIDENCES), min_size=1, max_size=60)
    )
    said, true, confidences = (list(column) for column in zip(*drawn, strict=True))
    version = secrets.token_hex(4)
    rows = [answer(n, version=version, label=label, confidence=c) for n, (label, _, c) in enumerate(drawn)]

    found = fill(store, rows, [other(label) for label in true] if otherwise else true).classification

    assert found is not None
    # scikit-learn takes the classes by their names, so that 1 and 1.0 are one to it, too.
    y_pred, y_true = [str(classes.index(one)) for one in said], [str(classes.index(one)) for one in true]
    names = [str(classes.index(one.label)) for one in found.classes]  # in our order
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that is never answered, or is the only one: that is what is tested
        expected = metrics.precision_recall_fscore_support(y_true, y_pred, labels=names)
        matrix = metrics.confusion_matrix(y_true, y_pred, labels=names)
        macro = metrics.precision_recall_fscore_support(y_true, y_pred, average="macro")[:3]
    assert sorted(names) == sorted({*y_true, *y_pred})
    close(found.accuracy, metrics.accuracy_score(y_true, y_pred))
    for place, one in enumerate(found.classes):
        close((one.precision, one.recall, one.f1, one.support), [column[place] for column in expected])
    close((found.precision, found.recall, found.f1), macro)
    cells = {(str(classes.index(one.label)), str(classes.index(one.true_label))): one.rows for one in found.confusion}
    assert cells == {
        (names[column], names[line]): matrix[line, column]
        for line in range(len(names)) for column in range(len(names)) if matrix[line, column]
    }  # fmt: skip
    calibrated(found.calibration, y_true, y_pred, confidences)


def calibrated(found: Any, y_true: list[str], y_pred: list[str], confidences: list[float | None]) -> None:
    """Calibration is scikit-learn's over those that have a confidence."""
    known = [(a == b, c) for a, b, c in zip(y_true, y_pred, confidences, strict=True) if c is not None]
    if not known:
        assert found is None
        return
    right, sure = np.array([one for one, _ in known]), np.array([c for _, c in known])
    close(found.brier_score, metrics.brier_score_loss(right, sure, pos_label=True))
    accuracies, means = calibration_curve(right, sure, n_bins=10, strategy="uniform")
    close([one.accuracy for one in found.bins], accuracies)
    close([one.confidence for one in found.bins], means)
    weights = np.array([one.rows for one in found.bins]) / len(known)
    assert weights.sum() == pytest.approx(1)
    close(found.expected_calibration_error, (weights * abs(accuracies - means)).sum())


def close(found: Any, expected: Any) -> None:
    """Equal to 1e-9."""
    np.testing.assert_allclose(np.asarray(found, dtype=float), np.asarray(expected, dtype=float), rtol=1e-9, atol=1e-9)


VALUES = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6).map(float) | st.just(1e15)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(pairs=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=60))
def test_a_regressors_figures_are_scikit_learns(store: Store, pairs: list[tuple[float, float]]) -> None:
    """Mean absolute error, root mean squared error, R², and errors beyond a tolerance in their order."""
    version = secrets.token_hex(4)
    said, true = np.array(pairs).T
    rows = [answer(n, version=version, value=value) for n, (value, _) in enumerate(pairs)]

    figures = fill(store, rows, true.tolist())

    assert figures.regression is not None
    assert figures.classification is None
    assert figures.regression.rows == len(pairs)
    close(figures.regression.mean_absolute_error, metrics.mean_absolute_error(true, said))
    close(figures.regression.root_mean_squared_error, metrics.root_mean_squared_error(true, said))
    if len(pairs) == 1:
        assert figures.regression.r2 is None
    else:
        close(figures.regression.r2, metrics.r2_score(true, said))
    assert figures.drift is not None
    beyond = (np.abs(said - true) > 1.0).astype(int)
    assert figures.drift.error_rates.tolist() == detect_drift(beyond, DEFAULT_LIMITS).error_rates.tolist()


def test_r2_is_exact_far_from_zero(store: Store) -> None:
    """A mean that is huge beside the spread costs no digits."""
    rng = np.random.default_rng(1)
    true = 1e9 + rng.normal(size=2000)
    said = true + rng.normal(scale=0.3, size=2000)
    rows = [answer(n, version="far", value=value) for n, value in enumerate(said.tolist())]

    found = fill(store, rows, true.tolist()).regression

    assert found is not None
    close(found.r2, metrics.r2_score(true, said))


@pytest.mark.parametrize(("true", "said"), [([2.0, 2.0], [2.0, 2.0]), ([2.0, 2.0], [2.0, 3.0])])
def test_r2_of_labels_that_are_all_the_same(store: Store, true: list[float], said: list[float]) -> None:
    """1 for a perfect model and 0 for any other, as scikit-learn has it."""
    found = fill(store, [answer(n, version="v", value=value) for n, value in enumerate(said)], true).regression

    assert found is not None
    assert found.r2 == metrics.r2_score(true, said)


def test_a_label_that_is_no_number_is_none_of_a_regressors(store: Store) -> None:
    """Nor is one that no database could square: it counts as a label, and in no figure."""
    odd = [1.0, True, "7", None, 10**400, 1e300, ...]
    rows = [answer(n, version="v", value=3.0) for n in range(len(odd))]

    figures = fill(store, rows, odd)

    assert (figures.predictions, figures.labels) == (7, 6)
    assert figures.regression is not None
    assert (figures.regression.rows, figures.regression.mean_absolute_error) == (1, 2.0)
    assert figures.drift is not None
    assert len(figures.drift.levels) == 1


def test_one_and_true_are_two_labels(store: Store) -> None:
    """To a model whose classes are 0 and 1, true is a wrong label, and 1.0 the right one."""
    rows = [answer(n, version="v", label=1) for n in range(3)]

    found = fill(store, rows, [1.0, 1, True]).classification

    assert found is not None
    assert found.accuracy == pytest.approx(2 / 3)
    assert [(one.label, one.true_label, one.rows) for one in found.confusion] == [(1, 1, 2), (1, True, 1)]


def test_errors_come_in_the_order_of_prediction(store: Store) -> None:
    """However late and in whatever order the labels arrive, and however a label is written."""
    rng = np.random.default_rng(5)
    wrong = (np.concatenate([rng.random(1500) < 0.1, rng.random(700) < 0.6])).astype(int)
    rows = [answer(n, version="v", label=1) for n in range(len(wrong))]
    shuffled = rng.permutation(len(rows))
    store.add_predictions([rows[place] for place in shuffled])

    figures = fill(
        store, rows, [[1.0, 0][one] for one in wrong.tolist()], delay=rng.permutation(10**6)[: len(rows)].tolist()
    )

    assert figures.drift is not None
    assert figures.drift.levels.tolist() == detect_drift(wrong).levels.tolist()
    assert figures.drift.drift_indices


def test_late_labels_change_the_past_and_fake_no_drop(store: Store) -> None:
    """Accuracy belongs to the time of the prediction: a window before a bad week stays as good as it was."""
    rows = [answer(n, version="v", label="a") for n in range(200)]
    fill(store, rows, ["a"] * 100 + ["b"] * 100, delay=[10**6 * SECOND] * 200)

    ((before,), (after,)) = (
        evaluate(store, Selection(since=TIME + start * SECOND, until=TIME + (start + 100) * SECOND))
        for start in (0, 100)
    )

    assert before.classification is not None
    assert after.classification is not None
    assert (before.classification.accuracy, after.classification.accuracy) == (1.0, 0.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(delays=st.lists(st.integers(-(10**9), 10**15), min_size=1, max_size=70), unlabelled=st.integers(0, 5))
def test_coverage_and_delays_are_numpys(store: Store, delays: list[int], unlabelled: int) -> None:
    """The share of predictions with a label, and how long half and 95 % of labels took."""
    version = secrets.token_hex(4)
    rows = [answer(n, version=version, label="a") for n in range(len(delays) + unlabelled)]

    figures = fill(store, rows, ["a"] * len(delays) + [...] * unlabelled, delay=[*delays, *[0] * unlabelled])

    assert figures.label_coverage == len(delays) / len(rows)
    expected = np.quantile(np.maximum(delays, 0), [0.5, 0.95], method="inverted_cdf") / SECOND
    close([figures.label_delays[0.5], figures.label_delays[0.95]], expected)


def test_without_labels_there_is_nothing_to_say(store: Store) -> None:
    """No predictions, no figures; no labels, no accuracy."""
    assert evaluate(store, Selection()) == []
    figures = fill(store, [answer(0, version="v", label="a", confidence=0.5)], [...])

    assert (figures.predictions, figures.labels, figures.label_coverage, figures.label_delays) == (1, 0, 0.0, {})
    assert (figures.classification, figures.regression, figures.drift) == (None, None, None)


def test_a_label_of_an_answer_is_that_of_its_shadows(store: Store) -> None:
    """What a challenger would have answered is right or wrong by the same labels, and as late."""
    answered = [answer(n, version="1", label="a") for n in range(3)]
    shadows = [
        answer(n, version="2", label=label)._replace(shadow_of=answered[n].prediction_id)
        for n, label in enumerate(["a", "b", "b"])
    ]
    store.add_predictions(shadows)
    fill(store, answered, ["a", "b", ...])

    primary, challenger = evaluate(store, Selection())

    assert primary.classification is not None
    assert challenger.classification is not None
    assert (primary.labels, primary.classification.accuracy) == (2, 0.5)
    assert (challenger.labels, challenger.classification.accuracy) == (2, 1.0)
    assert challenger.label_delays == primary.label_delays
    assert challenger.drift is not None
    assert challenger.drift.error_rates.tolist() == [0.0, 0.0]


def test_each_version_has_its_own_figures(store: Store) -> None:
    """A label without a prediction, and what another model answered, change nothing."""
    store.add_labels([StoredLabel("nobody's", "a", TIME, TIME)])
    fill(store, [answer(n, version="1", label="a") for n in range(4)], ["a", "a", "a", "b"])
    fill(store, [answer(n, version="2", value=1.0) for n in range(3)], [2.0, 2.0, 2.0])

    found = evaluate(store, Selection(model_name=MODEL.name))

    assert [(one.model_version, one.predictions, one.labels) for one in found] == [("1", 4, 4), ("2", 3, 3)]
    assert found[0].classification is not None
    assert found[0].classification.accuracy == 0.75
    assert found[1].regression is not None
    assert math.isclose(found[1].regression.mean_absolute_error, 1.0)
    assert evaluate(store, Selection(model_name="another")) == []


def test_two_models_of_one_version_are_not_added_up(store: Store) -> None:
    """A retrained model that was packed under the old version has figures of its own, by its hash."""
    rows = [answer(number, version="1", label="a", confidence=0.9) for number in range(60)]
    retrained = [one._replace(model_hash="b" * 64) for one in rows[::3]]
    store.add_predictions([*(one for number, one in enumerate(rows) if number % 3), *retrained])
    ids = {one.prediction_id for one in retrained}
    store.add_labels(
        [StoredLabel(one.prediction_id, "b" if one.prediction_id in ids else "a", one.time, one.time) for one in rows]
    )
    store.add_predictions([answer(1, version="2", label="a")])

    found = {(one.model_version, one.model_hash): one for one in evaluate(store, Selection())}
    assert set(found) == {("1", MODEL.hash), ("1", "b" * 64), ("2", None)}
    right, wrong = found["1", MODEL.hash], found["1", "b" * 64]
    assert (right.predictions, right.labels, wrong.predictions) == (40, 40, 20)
    assert right.classification is not None
    assert wrong.classification is not None
    assert (right.classification.accuracy, wrong.classification.accuracy) == (1.0, 0.0)
    assert right.drift is not None
    assert len(right.drift.levels) == 40
