"""Verify a packed model: compare its predictions for requests with the predictions of the original estimator."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from modeltrace.errors import InferenceError, PackError
from modeltrace.inference.features import Matrix, to_matrix
from modeltrace.inference.model import Label, Model, ModelOutput, PredictFn, to_json_label
from modeltrace.inference.predict_fns import make_predict_fn
from modeltrace.inference.tasks import Task
from modeltrace.inference.text_input import to_input
from modeltrace.inference.time_values import to_time_text
from modeltrace.inference.validate import MAX_FLOAT, Values
from modeltrace.printable import first_line, truncate

# The allowed difference of a confidence, and the allowed relative difference of a value. Outputs can differ slightly,
# because columns with 32-bit numbers become 64-bit columns in requests.
RELATIVE_TOLERANCE = 1e-5
# The allowed difference of values near 0, as a share of the largest value.
ABSOLUTE_TOLERANCE = 1e-8
# How far a probability may be outside of 0 to 1, because of rounding.
PROBABILITY_TOLERANCE = 1e-6
# Characters of several outputs that an error message contains.
MAX_FORMATTED = 200


def predict_rows(model: Model, table: pd.DataFrame) -> list[ModelOutput]:
    """Convert rows to the form that requests have, and return the packed model's predictions for them.

    The predictions of a regressor have intervals if the model has them.

    Raises:
        PackError: the model fails.
    """
    try:
        matrix = to_matrix(to_rows(table), model.schema, as_frame=model.as_frame)
        return model.predict(matrix, details=model.interval is not None)
    except InferenceError as error:
        raise PackError(f"the packed model fails on the training data: {_cause_text(error)}") from error
    except Exception as error:  # a value that cannot be converted for the model
        raise PackError(
            f"cannot convert the training data for the model: {type(error).__name__}: {first_line(error)}"
        ) from error


def verify_probabilities(
    estimator: Any,  # noqa: ANN401  any estimator
    classes: Sequence[Label] | None,
    matrix: Matrix,
) -> None:
    """Check that a classifier returns one label for each row, and one probability for each row and class.

    NaN is recorded as a missing probability. An estimator that fails is reported by `predict_rows`.

    Raises:
        PackError: the shapes are others, or a number is no probability.
    """
    if classes is None or not hasattr(estimator, "predict_proba"):
        return
    rows = to_input(estimator, matrix)
    try:
        labels, probabilities = (np.asarray(method(rows)) for method in (estimator.predict, estimator.predict_proba))
    except Exception:  # noqa: BLE001  see above
        return
    kind, n_rows = type(estimator).__name__, len(matrix)
    if labels.ndim and len(labels) != n_rows:
        raise PackError(f"predict of the {kind} returns {len(labels)} labels for {n_rows} rows")
    if len(classes) == 1:  # HistGradientBoostingClassifier returns two columns for its one class
        return
    if probabilities.shape != (n_rows, len(classes)):
        raise PackError(
            f"predict_proba of the {kind} returns the shape {probabilities.shape} for {n_rows} rows, but it has "
            f"{len(classes)} classes (classes_): return one probability for each row and class"
        )
    distance = np.abs(np.nan_to_num(probabilities.astype(np.float64), nan=0.5) - 0.5)
    if distance.max(initial=0.0) > 0.5 + PROBABILITY_TOLERANCE:
        row, column = map(int, np.unravel_index(distance.argmax(), distance.shape))
        raise PackError(
            f"predict_proba of the {kind} returns {probabilities[row, column]:g} for the class {classes[column]}, "
            "which is not a probability from 0 to 1"
        )


def verify_outputs(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    table: pd.DataFrame,
    model: Model,
    packed: Sequence[ModelOutput],
) -> None:
    """Compare the packed model's outputs for a table (`packed`) with the outputs of the original estimator.

    Raises:
        PackError: the outputs differ; the message names the first such row, and the column that causes the difference.
    """
    matrix = table if model.as_frame else to_array(table)
    try:
        predict = make_predict_fn(estimator, task)
        own = predict(matrix)
        if model.classes is not None:
            # The label is the result of predict(), even if another class is more probable.
            labels = np.asarray(estimator.predict(to_input(estimator, matrix))).ravel()
            own = [replace(output, label=to_json_label(label)) for label, output in zip(labels, own, strict=True)]
    except Exception as error:
        raise PackError(
            f"the estimator fails on the training data: {type(error).__name__}: {first_line(error)}"
        ) from error
    scale = max((abs(number) for output in own for number in output.numbers), default=0.0)
    differing = [index for index, pair in enumerate(zip(packed, own, strict=True)) if _outputs_differ(*pair, scale)]
    if differing:
        index = differing[0]
        column = _find_differing_column(predict, table.iloc[[index]], model, own[index], scale)
        where, remedy = f"row {table.index[index]} of the training data", ""
        if column is not None:
            where += f", column {column}"
            remedy = (
                ". A request cannot send the values of this column as they were in training: convert it to numbers, "
                "booleans or text, fit again, and pack with that data"
            )
        raise PackError(
            f"{where}: the packed model predicts {_format_output(packed[index])}, the estimator "
            f"{_format_output(own[index])} ({len(differing):,} of {len(table):,} rows differ){remedy}"
        )
    if scale > MAX_FLOAT:
        index = next(i for i, output in enumerate(own) if any(abs(number) > MAX_FLOAT for number in output.numbers))
        number = next(number for number in own[index].numbers if abs(number) > MAX_FLOAT)
        raise PackError(
            f"row {table.index[index]} of the training data: the model predicts {number:g}, beyond ±{MAX_FLOAT:.2g}, "
            "which a label cannot be. Scale the target and fit again"
        )


def verify_example(model: Model) -> None:
    """Check that the model predicts the example row of its schema. The API description and smoke tests use this row.

    The model may fail on the example of a private text feature, because it is not a value of the training data.

    Raises:
        PackError: the model fails; the message names the feature and says what to do.
    """
    row = tuple(feature.example for feature in model.features)
    try:
        model.predict(to_matrix([row], model.schema, as_frame=model.as_frame))
    except InferenceError as error:
        private = [feature for feature in model.features if feature.is_text and feature.privacy in ("hash", "drop")]
        if not private:
            raise PackError(f"the packed model fails on its own example row: {_cause_text(error)}") from error
        raise PackError(
            f"--privacy {private[0].name}={private[0].privacy}: the model fails on texts that the training data does "
            "not contain, but the example of a private feature has to be such a text. Fit a model that accepts unknown "
            f"texts (OneHotEncoder(handle_unknown='ignore')), or pack with --privacy {private[0].name}=bucket"
        ) from error


def to_array(table: pd.DataFrame) -> Matrix:
    """Convert a table to the array that an estimator without column names was fitted on."""
    numeric = all(pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes)
    return table.to_numpy(dtype=np.float64 if numeric else object, na_value=np.nan)


def to_rows(table: pd.DataFrame) -> list[Values]:
    """Convert a table to rows as requests would send them."""
    return [tuple(map(_to_json_value, values)) for values in table.itertuples(index=False, name=None)]


def _to_json_value(value: Any) -> Any:  # noqa: ANN401  any cell
    """Convert a cell to a JSON value."""
    return None if pd.isna(value) else to_json_label(to_time_text(value))


def _cause_text(error: InferenceError) -> str:
    cause = error.__cause__
    return str(error) if cause is None else f"{type(cause).__name__}: {first_line(cause)}"


def _outputs_differ(packed: ModelOutput, own: ModelOutput, scale: float) -> bool:
    numbers = zip(packed.numbers, own.numbers, strict=True)
    if not all(math.isclose(*pair, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE * scale) for pair in numbers):
        return True
    if any(
        type(label) is not float and label != other
        for label, other in zip(packed.outputs or (), own.outputs or (), strict=True)
    ):
        return True
    if packed.label != own.label or (packed.confidence is None) != (own.confidence is None):
        return True
    return packed.confidence is not None and abs(packed.confidence - (own.confidence or 0.0)) > RELATIVE_TOLERANCE


def _find_differing_column(
    predict: PredictFn, row: pd.DataFrame, model: Model, own: ModelOutput, scale: float
) -> str | None:
    """Return the first column whose conversion to the form of a request changes the estimator's output.

    Each column is tried alone: only its value is converted, and the others stay as they are.
    """
    sent = to_matrix(to_rows(row), model.schema, as_frame=model.as_frame)
    for index, name in enumerate(model.schema.names):
        if isinstance(sent, pd.DataFrame):
            changed: Matrix = row.assign(**{name: sent[name].set_axis(row.index)})
        else:
            changed = to_array(row).copy()
            changed[:, index] = sent[:, index]
        try:
            (output,) = predict(changed)
        except Exception:  # noqa: BLE001  any exception means that the output differs
            return name
        if _outputs_differ(output, own, scale):
            return name
    return None


def _format_output(output: ModelOutput) -> str:
    if output.value is not None:
        return f"{output.value:.12g}"
    outputs = ", ".join(f"{value:.12g}" if isinstance(value, float) else str(value) for value in output.outputs or ())
    if output.label is None:
        return f"({truncate(outputs, MAX_FORMATTED)})"
    if output.outputs is not None:
        return f"{output.label} ({outputs})"
    return str(output.label) if output.confidence is None else f"{output.label} (confidence {output.confidence:.6g})"
