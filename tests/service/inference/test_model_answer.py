"""How a model answers, and how it fails."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier

from modeltrace.errors import InferenceError
from modeltrace.inference.model import Model, ModelOutput, make_predict_fn
from modeltrace.inference.schema import Feature, Reference, Schema
from tests.helpers.estimators import LABELS, TWO_LABELS, X, fit

SCHEMA = Schema(features=(Feature(name="x", type="number", reference=Reference(n=1, shares={"00": 1.0})),))


def model(estimator: Any, task: Any = "classifier") -> Model:
    """A model around anything that can be asked."""
    return Model("m", "1", "0" * 64, task, None, SCHEMA, False, "", make_predict_fn(estimator, task))  # noqa: FBT003  a field


class Says:
    """A regressor that says what it is told to."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def predict(self, _: Any) -> Any:
        """Say it, or raise it."""
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def test_a_classifier_without_probabilities_has_no_confidence() -> None:
    """Its label stands alone."""
    estimator, _ = fit(RidgeClassifier(), LABELS)

    assert model(estimator).predict(X[:1]) == [ModelOutput(label="setosa", confidence=None)]


def test_the_confidence_is_that_of_the_label() -> None:
    """Where a threshold decides against the more probable class, the confidence is that of the class it chose."""
    estimator, _ = fit(FixedThresholdClassifier(LogisticRegression(), threshold=0.001, pos_label="setosa"), TWO_LABELS)
    flower = X[LABELS == "versicolor"][:1]

    (answer,) = model(estimator).predict(flower)

    assert answer.label == "setosa"
    assert answer.confidence == pytest.approx(
        estimator.predict_proba(flower)[0, list(estimator.classes_).index("setosa")]
    )
    assert answer.confidence < 0.5


def test_a_tie_is_decided_by_the_estimator() -> None:
    """Two equally probable classes: the label is what predict() says."""
    estimator = KNeighborsClassifier(n_neighbors=2).fit([[0.0], [1.0]], ["b", "a"])

    (answer,) = model(estimator).predict(np.array([[0.5]]))

    assert answer == ModelOutput(label=estimator.predict([[0.5]])[0], confidence=0.5)


def test_an_outlier_label_has_no_confidence() -> None:
    """A label that is none of the classes has no probability."""
    estimator = RadiusNeighborsClassifier(radius=0.1, outlier_label=-1).fit([[0.0], [1.0]], [0, 1])

    with pytest.warns(UserWarning, match="Outlier label"):
        (answer,) = model(estimator).predict(np.array([[50.0]]))

    assert answer == ModelOutput(label=-1, confidence=None)


def test_labels_are_plain_python() -> None:
    """NumPy's types do not leave the model."""
    estimator, _ = fit(LogisticRegression(), (LABELS == "setosa").astype(np.int32))

    assert type(model(estimator).predict(X[:1])[0].label) is int


def test_what_the_model_raises_is_kept_as_the_cause() -> None:
    """The message names the type alone: its text may hold values."""
    with pytest.raises(InferenceError, match=r"failed with ValueError$") as raised:
        model(Says(ValueError("secret")), "regressor").predict(X[:1])

    assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (np.array([1.0, 2.0]), "2 outputs for 1 rows"),
        (np.array([[1.0, 2.0]]), "not one value for each row"),
        (np.array([np.nan]), "not finite"),
        (np.array([np.inf]), "not finite"),
        (np.array(3.0), "not one value for each row"),
        (["no number"], "failed with ValueError"),
    ],
)
def test_an_answer_that_is_none_is_an_error(said: Any, message: str) -> None:
    """A wrong shape, a wrong number of answers or a number that JSON does not have is an InferenceError."""
    with pytest.raises(InferenceError, match=message):
        model(Says(said), "regressor").predict(X[:1])


def test_a_column_of_values_is_as_good_as_a_row() -> None:
    """A regressor fitted on a column of targets answers with one."""
    assert model(Says(np.array([[1.5]])), "regressor").predict(X[:1]) == [ModelOutput(value=1.5)]
