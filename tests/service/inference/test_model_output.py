"""Outputs and errors of a loaded model."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier

from modeltrace.errors import InferenceError
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.predict_fns import make_predict_fn
from modeltrace.inference.schema import Feature, Reference, Schema
from tests.helpers.estimators import LABELS, TWO_LABELS, X, fit

SCHEMA = Schema(features=(Feature(name="x", type="number", reference=Reference(n=1, shares={"00": 1.0})),))


def model(estimator: Any, task: Any = "classifier") -> Model:
    """Return a model around any estimator."""
    return Model("m", "1", "0" * 64, task, None, SCHEMA, False, "", make_predict_fn(estimator, task))  # noqa: FBT003  a field


class FixedRegressor:
    """A regressor with a fixed result, or a fixed exception."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def predict(self, _: Any) -> Any:
        """Return or raise the result."""
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_a_classifier_without_probabilities_has_no_confidence() -> None:
    """Its output is the label alone."""
    estimator, _ = fit(RidgeClassifier(), LABELS)

    assert model(estimator).predict(X[:1]) == [ModelOutput(label="setosa", confidence=None)]


def test_the_confidence_is_the_probability_of_the_label() -> None:
    """Where a threshold decides against the more probable class, the confidence is that of the chosen class."""
    estimator, _ = fit(FixedThresholdClassifier(LogisticRegression(), threshold=0.001, pos_label="setosa"), TWO_LABELS)
    flower = X[LABELS == "versicolor"][:1]

    (output,) = model(estimator).predict(flower)

    assert output.label == "setosa"
    assert output.confidence == pytest.approx(
        estimator.predict_proba(flower)[0, list(estimator.classes_).index("setosa")]
    )
    assert output.confidence < 0.5


def test_a_tie_is_decided_by_the_estimator() -> None:
    """For two equal probabilities, the label is what predict() returns."""
    estimator = KNeighborsClassifier(n_neighbors=2).fit([[0.0], [1.0]], ["b", "a"])

    (output,) = model(estimator).predict(np.array([[0.5]]))

    assert output == ModelOutput(label=estimator.predict([[0.5]])[0], confidence=0.5)


def test_an_outlier_label_has_no_confidence() -> None:
    """A label that is none of the classes has no probability."""
    estimator = RadiusNeighborsClassifier(radius=0.1, outlier_label=-1).fit([[0.0], [1.0]], [0, 1])

    with pytest.warns(UserWarning, match="Outlier label"):
        (output,) = model(estimator).predict(np.array([[50.0]]))

    assert output == ModelOutput(label=-1, confidence=None)


def test_labels_are_python_types() -> None:
    """NumPy types are converted to Python types."""
    estimator, _ = fit(LogisticRegression(), (LABELS == "setosa").astype(np.int32))

    assert type(model(estimator).predict(X[:1])[0].label) is int


def test_the_exception_of_a_model_is_the_cause() -> None:
    """The message contains the type only, because the original message may contain values."""
    with pytest.raises(InferenceError, match=r"failed with ValueError$") as raised:
        model(FixedRegressor(ValueError("secret")), "regressor").predict(X[:1])

    assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.array([1.0, 2.0]), "2 outputs for 1 rows"),
        (np.array([[1.0, 2.0]]), "not one value for each row"),
        (np.array([np.nan]), "not finite"),
        (np.array([np.inf]), "not finite"),
        (np.array(3.0), "not one value for each row"),
        (["no number"], "failed with ValueError"),
    ],
)
def test_an_invalid_output_is_an_error(result: Any, message: str) -> None:
    """A wrong shape, a wrong number of outputs or a number that JSON does not have is an InferenceError."""
    with pytest.raises(InferenceError, match=message):
        model(FixedRegressor(result), "regressor").predict(X[:1])


def test_a_column_of_values_is_accepted() -> None:
    """A regressor that was fitted on a column of targets returns a column."""
    assert model(FixedRegressor(np.array([[1.5]])), "regressor").predict(X[:1]) == [ModelOutput(value=1.5)]
