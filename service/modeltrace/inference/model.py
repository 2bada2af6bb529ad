"""A loaded model: its metadata, and the functions that predict with its estimator."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from modeltrace.errors import InferenceError
from modeltrace.inference.features import Matrix
from modeltrace.inference.held_out import HeldOut
from modeltrace.inference.importance import Importance
from modeltrace.inference.intervals import IntervalRule
from modeltrace.inference.monitored_outputs import MonitoredOutputs
from modeltrace.inference.named_outputs import Output
from modeltrace.inference.schema import Feature, OutputReference, Schema
from modeltrace.inference.tasks import TASKS_WITH_FEEDBACK, Task

Label = str | int | float | bool
Engine = Literal["sklearn", "onnx"]


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The prediction for one row: a label with its confidence, or a value, or named outputs, or a label with them.

    The confidence is the predicted probability of the label, `None` if the model has no probabilities. `probabilities`
    are those of all classes in the order of `Model.classes`, only if they were requested. `outputs` are the named
    outputs in the order of `Model.outputs`, `None` for a model without them. `interval` has the lowest and the highest
    value of a prediction interval, only if it was requested.
    """

    label: Label | None = None
    confidence: float | None = None
    value: float | None = None
    probabilities: Sequence[float] | None = None
    outputs: tuple[Label, ...] | None = None
    interval: tuple[float, float] | None = None

    @property
    def numbers(self) -> list[float]:
        """The value and the named outputs that are floats."""
        return [number for number in (self.value, *(self.outputs or ())) if isinstance(number, float)]


PredictFn: TypeAlias = Callable[[Matrix], list[ModelOutput]]


class PredictFns(NamedTuple):
    """The predict functions of an estimator.

    `with_details` returns outputs with `probabilities`, or those of a regressor with `interval`. It is `None` if the
    estimator has neither.
    """

    predict: PredictFn
    with_details: PredictFn | None = None


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
    predict_fn: PredictFn
    # Whether the model consists of scikit-learn's own types only. Such a model computes and never waits for I/O.
    cpu_bound: bool = False
    engine: Engine = "sklearn"
    output_reference: OutputReference | None = None
    monitored_outputs: MonitoredOutputs | None = None
    held_out: HeldOut | None = None
    importance: Importance | None = None
    confidence_threshold: float | None = None
    duplicate_probability: float | None = None
    details_fn: PredictFn | None = None  # as `PredictFns.with_details`
    outputs: tuple[Output, ...] = ()  # the named outputs
    interval: IntervalRule | None = None  # of the intervals of a regressor; `None` if it has none

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """The names of the named outputs, in order."""
        return tuple(output.name for output in self.outputs)

    @property
    def can_have_probabilities(self) -> bool:
        """Whether a client can ask for the probability of each class. A classifier without them answers null."""
        return self.task == "classifier" or self.has_probabilities

    @property
    def has_probabilities(self) -> bool:
        """Whether the model has the probability of each class."""
        return self.details_fn is not None and self.task != "regressor"

    @property
    def has_true_labels(self) -> bool:
        """Whether a prediction can have a true label."""
        return self.task in TASKS_WITH_FEEDBACK

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features of the schema."""
        return self.schema.features

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in JSON objects, in the order of `classes`.

        The name of a number or boolean is its JSON text. If two classes have the same name, as 1 and "1" have, the
        names of all classes are their JSON texts.
        """
        texts = tuple(json.dumps(label, ensure_ascii=False) for label in self.classes or ())
        labels = zip(self.classes or (), texts, strict=True)
        names = tuple(label if isinstance(label, str) else text for label, text in labels)
        return names if len(set(names)) == len(names) else texts

    def predict(self, matrix: Matrix, *, details: bool = False) -> list[ModelOutput]:
        """Predict each row of a matrix of shape (n_rows, n_features), in order.

        Args:
            matrix: the rows.
            details: return outputs with the probability of each class, or with the prediction interval, if the model
                has them.

        Raises:
            InferenceError: the estimator raised (the exception is chained), or returned a wrong number of outputs.
        """
        predict_fn = self.predict_fn
        if details and self.details_fn is not None:
            predict_fn = self.details_fn
        try:
            outputs = predict_fn(matrix)
        except InferenceError:
            raise
        except Exception as error:
            raise InferenceError(f"the model failed with {type(error).__name__}") from error
        if len(outputs) != len(matrix):
            raise InferenceError(f"the model returned {len(outputs)} outputs for {len(matrix)} rows")
        return outputs

    def describe(self) -> dict[str, Any]:
        """Return the response body of `GET /model`."""
        return {
            "name": self.name,
            "version": self.version,
            "task": self.task,
            "hash": self.hash,
            "engine": self.engine,
            "classes": None if self.classes is None else list(self.classes),
            "outputs": [output.model_dump(mode="json") for output in self.outputs],
            "features": [feature.model_dump(mode="json") for feature in self.schema.features],
            "on_unknown": self.schema.on_unknown,
            "held_out": None if self.held_out is None else self.held_out.model_dump(mode="json"),
            "importance": None if self.importance is None else self.importance.model_dump(mode="json"),
            "interval": None if self.interval is None else self.interval.model_dump(mode="json"),
            "created": self.created,
        }


def to_json_label(label: Any) -> Label:  # noqa: ANN401  whatever an estimator has as a class
    """Convert a class of an estimator to a JSON value."""
    value = label.item() if isinstance(label, np.generic) else label
    return value if isinstance(value, str | int | float | bool) else str(value)


def class_key(label: object) -> tuple[bool, object]:
    """Return a key that is equal for labels of the same class: 1 and 1.0 are one class, 1 and true are two."""
    return isinstance(label, bool), label
