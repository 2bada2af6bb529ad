"""Explain one stored prediction: the contribution of each feature to the output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modeltrace.errors import ModeltraceError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, class_key
from modeltrace.inference.validate import RowValidator
from modeltrace.replay.replay import find_obstacle, read_values
from modeltrace.replay.shapley import Floats, Row, shapley_values
from modeltrace.store.rows import StoredPrediction

# Rows of the background. The standard error of the base falls with their square root, and the time grows with them.
MAX_BACKGROUND_ROWS: Final = 50


class ExplainError(ModeltraceError):
    """A prediction cannot be explained."""


@dataclass(frozen=True, slots=True)
class FeatureContribution:
    """A feature, its value, and by how much it changes the output."""

    feature: str
    value: Any
    contribution: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The contributions of the features to one output, the largest first: `base` plus all of them is `output`."""

    prediction_id: str
    model_name: str
    model_version: str
    explained: str  # `value`, or the class whose probability is explained
    base: float  # mean output for the background
    output: float
    background: str
    background_rows: int
    contributions: tuple[FeatureContribution, ...]


def explain(
    prediction: StoredPrediction, model: Model, background: Sequence[object], source: str, tolerance: float
) -> Explanation:
    """Explain the probability of the predicted class, or the value of a regressor.

    Args:
        prediction: the stored prediction.
        model: the model that made it.
        background: rows of the model, as objects by feature name. Invalid ones are left out; of many, a sample is used.
        source: describes the background.
        tolerance: the largest difference between the stored output and that of the model.

    Raises:
        ExplainError: the stored inputs are not those of the request, the model has no suitable output, it predicts
            another one now, or no row of the background is valid.
        InferenceError: the model failed.
    """
    if obstacle := find_obstacle(prediction, model.schema):
        raise ExplainError(f"{prediction.prediction_id} cannot be explained: {obstacle}")
    validator = RowValidator(model.schema)
    row = read_values(validator, model.schema, prediction)
    if isinstance(row, str):
        raise ExplainError(f"{prediction.prediction_id} cannot be explained: {row}")
    valid: list[Row] = [values for values in validator.validate_many(background) if isinstance(values, tuple)]
    if not valid:
        raise ExplainError(f"no row of {source} is valid for the model: name a file with --background")
    if len(valid) > MAX_BACKGROUND_ROWS:
        chosen = np.random.default_rng(0).choice(len(valid), MAX_BACKGROUND_ROWS, replace=False)
        valid = [valid[index] for index in sorted(chosen.tolist())]
    explained, position = _explained_output(prediction, model)

    def predict(rows: list[Row]) -> Floats:
        outputs = model.predict(to_matrix(rows, model.schema, as_frame=model.as_frame), details=position is not None)
        if position is None:
            return np.array([output.value for output in outputs], dtype=np.float64)
        return np.array([(output.probabilities or ())[position] for output in outputs], dtype=np.float64)

    result = shapley_values(predict, row, valid)
    stored = prediction.value if position is None else prediction.confidence
    assert stored is not None  # noqa: S101  `_explained_output` has checked it
    total = result.base + float(result.values.sum())
    for name, number in (("the model now returns", result.output), ("the contributions add up to", total)):
        if not abs(number - stored) <= tolerance * max(1.0, abs(stored)):
            raise ExplainError(
                f"{prediction.prediction_id}: {name} {number:.6g}, but {stored:.6g} is stored. Compare both with "
                f"`modeltrace replay {prediction.prediction_id}`"
            )
    columns = zip(model.schema.names, row, result.values.tolist(), result.standard_errors.tolist(), strict=True)
    contributions = sorted(
        (FeatureContribution(*column) for column in columns), key=lambda entry: -abs(entry.contribution)
    )
    return Explanation(
        prediction.prediction_id, prediction.model_name, prediction.model_version, explained, result.base,
        result.output, source, len(valid), tuple(contributions),
    )  # fmt: skip


def _explained_output(prediction: StoredPrediction, model: Model) -> tuple[str, int | None]:
    """Return the name of the output and the position of its class; `None` for a regressor."""
    if prediction.value is not None:
        return "value", None
    if prediction.confidence is None or not model.has_probabilities:
        raise ExplainError(
            f"{model.name} {model.version} is a {model.task} without probabilities: only values and probabilities can "
            "be explained"
        )
    keys = [class_key(label) for label in model.classes or ()]
    position = keys.index(class_key(prediction.label))
    return model.class_names[position], position
