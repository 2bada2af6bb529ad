"""An estimator that answers, and what is known about it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modeltrace.errors import InferenceError
from modeltrace.inference.features import Matrix
from modeltrace.inference.schema import Feature, OutputReference, Schema

Task = Literal["classifier", "regressor"]
Label = str | int | float | bool
Engine = Literal["sklearn", "onnx"]

# Their predict() is not the most probable class: it follows a threshold, or another method than their probabilities.
NON_ARGMAX_CLASSIFIERS = (
    "FixedThresholdClassifier",
    "NearestCentroid",
    "NuSVC",
    "OneVsRestClassifier",
    "SVC",
    "TunedThresholdClassifierCV",
)
# Where an estimator keeps the one that decides for it.
DELEGATE_ATTRIBUTES = ("best_estimator_", "final_estimator_", "estimator_", "estimator")
# Two probabilities this close may come from a tie, or from rounding; which class wins is then for predict() to say.
TIE_TOLERANCE = 1e-9
# Classes up to which plain Python is faster than arrays for one row.
MAX_CLASSES_IN_PYTHON = 32


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What the model says of one row: label and confidence (a classifier), or value (a regressor)."""

    label: Label | None = None
    confidence: float | None = None
    value: float | None = None


@dataclass(frozen=True)
class Model:
    """A loaded model. `hash` is the SHA-256 of the file that it was loaded from."""

    name: str
    version: str
    hash: str
    task: Task
    classes: tuple[Label, ...] | None
    schema: Schema
    as_frame: bool
    created: str
    predict_fn: Callable[[Matrix], list[ModelOutput]]
    # Whether it is made of nothing but scikit-learn's own types: those compute, and never wait for anything.
    cpu_bound: bool = False
    engine: Engine = "sklearn"
    output_reference: OutputReference | None = None
    confidence_threshold: float | None = None
    duplicate_probability: float | None = None

    @property
    def features(self) -> tuple[Feature, ...]:
        """Those of its schema."""
        return self.schema.features

    def predict(self, matrix: Matrix) -> list[ModelOutput]:
        """Answer each row of a matrix of shape (n_rows, n_features), in order.

        Raises:
            InferenceError: the estimator raised, or gave another number of answers; the cause is chained.
        """
        try:
            answers = self.predict_fn(matrix)
        except InferenceError:
            raise
        except Exception as error:
            raise InferenceError(f"the model failed with {type(error).__name__}") from error
        if len(answers) != len(matrix):
            raise InferenceError(f"the model gave {len(answers)} answers for {len(matrix)} rows")
        return answers

    def describe(self) -> dict[str, Any]:
        """What `GET /model` says."""
        return {
            "name": self.name,
            "version": self.version,
            "task": self.task,
            "hash": self.hash,
            "engine": self.engine,
            "classes": None if self.classes is None else list(self.classes),
            "features": [feature.model_dump(mode="json") for feature in self.schema.features],
            "on_unknown": self.schema.on_unknown,
            "created": self.created,
        }


def to_json_label(label: Any) -> Label:  # noqa: ANN401  whatever an estimator has as a class
    """A class as JSON has it."""
    value = label.item() if isinstance(label, np.generic) else label
    return value if isinstance(value, str | int | float | bool) else str(value)


def class_key(label: object) -> tuple[bool, object]:
    """What is equal for labels that are one class: 1 and 1.0 are, 1 and true are not."""
    return isinstance(label, bool), label


def make_predict_fn(estimator: Any, task: Task) -> Callable[[Matrix], list[ModelOutput]]:  # noqa: ANN401  any estimator
    """How an estimator is asked: decided once, when it is loaded, not at every call.

    The label is what predict() says. scikit-learn's classifiers answer it together with the confidence in one call of
    predict_proba(); those of others may decide as they like and are asked both.
    """
    if task == "regressor":
        return lambda matrix: [ModelOutput(value=value) for value in _values(estimator.predict(matrix)).tolist()]
    labels = [to_json_label(label) for label in estimator.classes_]
    if not hasattr(estimator, "predict_proba"):
        return lambda matrix: [ModelOutput(label) for label in _labels(estimator.predict(matrix))]
    if predicts_argmax(estimator):
        return lambda matrix: _ask_once(estimator, labels, matrix)
    return lambda matrix: _ask_twice(estimator, labels, matrix)


def predicts_argmax(estimator: Any) -> bool:  # noqa: ANN401  any estimator
    """Return whether `predict` of an estimator always returns the class with the highest `predict_proba`."""
    kind = type(estimator)
    if not kind.__module__.startswith("sklearn.") or kind.__name__ in NON_ARGMAX_CLASSIFIERS:
        return False
    inner = [getattr(estimator, name) for name in DELEGATE_ATTRIBUTES if getattr(estimator, name, None) is not None]
    if hasattr(estimator, "steps"):
        inner.append(estimator.steps[-1][1])
    return all(predicts_argmax(one) for one in inner if hasattr(one, "predict"))


def _ask_once(estimator: Any, labels: list[Label], matrix: Matrix) -> list[ModelOutput]:  # noqa: ANN401  any estimator
    probabilities = estimator.predict_proba(matrix)
    if len(probabilities) == 1 and len(labels) <= MAX_CLASSES_IN_PYTHON:
        return _ask_for_one(estimator, labels, matrix, probabilities)
    best = probabilities.argmax(axis=1)
    confidences = probabilities[np.arange(len(best)), best]
    lead = confidences - np.partition(probabilities, -2, axis=1)[:, -2] if len(labels) > 1 else confidences
    if not (lead > TIE_TOLERANCE).all():
        return _ask_twice(estimator, labels, matrix, probabilities)
    return [ModelOutput(labels[index], one) for index, one in zip(best.tolist(), confidences.tolist(), strict=True)]


def _ask_for_one(
    estimator: Any,  # noqa: ANN401  any estimator
    labels: list[Label],
    matrix: Matrix,
    probabilities: "NDArray[Any]",
) -> list[ModelOutput]:
    """What `_ask_once` does of one row, without the cost of five array operations on a few numbers."""
    row = probabilities[0].tolist()
    confidence = max(row)
    best = row.index(confidence)
    others = [*row[:best], *row[best + 1 :]]
    # Comparisons with NaN are false, and max() takes whichever comes first.
    if all(confidence - other > TIE_TOLERANCE for other in others) and confidence > TIE_TOLERANCE:
        return [ModelOutput(labels[best], confidence)]
    return _ask_twice(estimator, labels, matrix, probabilities)


def _ask_twice(
    estimator: Any,  # noqa: ANN401  any estimator
    labels: list[Label],
    matrix: Matrix,
    probabilities: "NDArray[Any] | None" = None,
) -> list[ModelOutput]:
    """Ask for label and probabilities each by itself.

    A label that is none of the classes (RadiusNeighborsClassifier has one for outliers), or has no finite probability,
    has no confidence.
    """
    known = estimator.predict_proba(matrix) if probabilities is None else probabilities
    places = {label: index for index, label in enumerate(labels)}
    answers = []
    for label, row in zip(_labels(estimator.predict(matrix)), known.tolist(), strict=True):
        confidence = row[places[label]] if label in places else math.nan
        answers.append(ModelOutput(label, confidence if math.isfinite(confidence) else None))
    return answers


def _labels(said: Any) -> list[Label]:  # noqa: ANN401  whatever an estimator returns
    array = np.asarray(said)
    if array.ndim != 1:
        raise InferenceError(f"the model answered with the shape {array.shape}, not one label for each row")
    return [to_json_label(label) for label in array]


def _values(said: Any) -> NDArray[np.float64]:  # noqa: ANN401  whatever an estimator returns
    array = np.asarray(said, dtype=np.float64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InferenceError(f"the model answered with the shape {array.shape}, not one value for each row")
    if not np.isfinite(array).all():
        raise InferenceError("the model answered with a number that is not finite")
    return array
