"""An estimator that answers, and what is known about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from service.errors import InferenceError
from service.inference.features import Matrix
from service.inference.schema import Schema

Task = Literal["classifier", "regressor"]
Label = str | int | float | bool

# Their predict() does not answer the most probable class: a threshold, or another method than their probabilities.
DECIDES_OTHERWISE = ("SVC", "NuSVC", "FixedThresholdClassifier", "TunedThresholdClassifierCV")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of one row: label and confidence (a classifier), or value (a regressor)."""

    label: Label | None = None
    confidence: float | None = None
    value: float | None = None


@dataclass(frozen=True)
class Model:
    """A loaded model. `hash` is the SHA-256 of the artifact that it was loaded from."""

    name: str
    version: str
    hash: str
    task: Task
    classes: tuple[Label, ...] | None
    schema: Schema
    as_frame: bool
    created: str
    answer_matrix: Callable[[Matrix], list[Answer]]

    def answer(self, matrix: Matrix) -> list[Answer]:
        """Answer each row of a matrix of shape (n_rows, n_features), in order.

        Raises:
            InferenceError: the estimator raised, or gave another number of answers; the cause is chained.
        """
        try:
            answers = self.answer_matrix(matrix)
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
            "classes": None if self.classes is None else list(self.classes),
            "features": [feature.model_dump(mode="json") for feature in self.schema.features],
            "created": self.created,
        }


def native(label: Any) -> Label:  # noqa: ANN401  whatever an estimator has as a class
    """A class as JSON has it."""
    value = label.item() if isinstance(label, np.generic) else label
    return value if isinstance(value, str | int | float | bool) else str(value)


def answering(estimator: Any, task: Task) -> Callable[[Matrix], list[Answer]]:  # noqa: ANN401  any estimator
    """How an estimator is asked: decided once, when it is loaded, not at every call."""
    if task == "regressor":
        return lambda matrix: [Answer(value=float(value)) for value in estimator.predict(matrix)]
    labels = [native(label) for label in estimator.classes_]
    if not hasattr(estimator, "predict_proba"):
        return lambda matrix: [Answer(label=native(label)) for label in estimator.predict(matrix)]
    if _final(estimator) in DECIDES_OTHERWISE:
        return lambda matrix: _ask_twice(estimator, labels, matrix)
    return lambda matrix: _ask_once(estimator, labels, matrix)


def _final(estimator: Any) -> str:  # noqa: ANN401  any estimator
    """The class that decides: the last step of a pipeline, the winner of a search."""
    inner = getattr(estimator, "best_estimator_", None) or (
        estimator.steps[-1][1] if hasattr(estimator, "steps") else None
    )
    return type(estimator).__name__ if inner is None else _final(inner)


def _ask_once(estimator: Any, labels: list[Label], matrix: Matrix) -> list[Answer]:  # noqa: ANN401  any estimator
    probabilities = estimator.predict_proba(matrix)
    best = probabilities.argmax(axis=1)
    confidences = probabilities[np.arange(len(best)), best].tolist()
    return [Answer(labels[index], confidence) for index, confidence in zip(best.tolist(), confidences, strict=True)]


def _ask_twice(estimator: Any, labels: list[Label], matrix: Matrix) -> list[Answer]:  # noqa: ANN401  any estimator
    places = {label: index for index, label in enumerate(labels)}
    said = [native(label) for label in estimator.predict(matrix)]
    probabilities = estimator.predict_proba(matrix)
    return [Answer(label, float(row[places[label]])) for label, row in zip(said, probabilities, strict=True)]
