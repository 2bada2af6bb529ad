"""Predictions for rows that the model was not fitted on: test rows, or cross-validation of the training data."""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.bundles.cross_validation import CrossValidationError, OnMessage, cross_validate
from modeltrace.bundles.output_reference import MAX_REFERENCE_ROWS, MIN_HELD_OUT_ROWS
from modeltrace.bundles.training_frame import convert_columns
from modeltrace.bundles.verify_outputs import predict_rows
from modeltrace.errors import PackError
from modeltrace.inference.held_out import HeldOut, HeldOutMethod
from modeltrace.inference.model import Label, Model, ModelOutput, class_key, to_json_label
from modeltrace.inference.tasks import NAMED_OUTPUT_TASKS, TASK_NAMES

# Test rows may equal training rows as often as training rows equal each other, and this share more.
MAX_KNOWN_SHARE: Final = 0.1
# A regressor's error on the rows that it was fitted on may be this multiple of the error of clones on new rows.
MAX_ERROR_RATIO: Final = 1.2
# A classifier's accuracy on these rows may be lower by this difference.
MAX_ACCURACY_LOSS: Final = 0.05
# Errors below this share of the labels are rounding errors.
ROUNDING: Final = 1e-9


class HeldOutPredictions(NamedTuple):
    """Predictions for rows that the model was not fitted on, and the true labels; `None` for an unknown label."""

    method: HeldOutMethod
    outputs: list[ModelOutput]
    labels: list[Label | None]


def find_held_out(
    estimator: Any,  # noqa: ANN401  any estimator
    model: Model,
    training: pd.DataFrame,
    target: "pd.Series | None",
    traffic: pd.DataFrame | None,
    *,
    seconds: float | None,
    on_message: OnMessage,
) -> HeldOutPredictions | None:
    """Predict test rows or, if they are not suitable, cross-validate the training data.

    `seconds` is the time limit of the cross-validation, 0 for none; `None`: clones cannot be fitted as the model was.

    Returns:
        The predictions; `None` if neither is possible. `on_message` gets the reason.
    """
    if traffic is not None:
        try:
            return _predict_held_out(model, training, traffic, target)
        except PackError as error:
            on_message(f"The rows of --traffic cannot be the reference of the model's predictions: {error}")
    try:
        return _cross_validate(estimator, model, training, target, seconds=seconds, on_message=on_message)
    except CrossValidationError as error:
        on_message(
            f"Warning: no held-out reference of the model's predictions: {error}. Training rows are the reference, so "
            "PredictionDrift and LowConfidence raise no alert. To change that, pack with at least "
            f"{MIN_HELD_OUT_ROWS} test rows (--traffic)"
        )
    return None


def _predict_held_out(
    model: Model, training: pd.DataFrame, traffic: pd.DataFrame, target: "pd.Series | None"
) -> HeldOutPredictions:
    """Predict test rows. The column with the name of `target` contains their labels.

    Raises:
        PackError: there are too few rows, they are training rows, or the model fails on them.
    """
    if len(traffic) < MIN_HELD_OUT_ROWS:
        raise PackError(f"there are {len(traffic)} test rows, at least {MIN_HELD_OUT_ROWS} are needed")
    rows = convert_columns(traffic[list(model.schema.names)])[:MAX_REFERENCE_ROWS]
    if _are_known(rows, training):
        raise PackError("the test rows contain rows of the training data")
    outputs = predict_rows(model, rows)
    labels: list[Label | None] = [None] * len(rows)
    if target is not None and str(target.name) in traffic.columns:
        labels = [*map(_to_label, traffic[str(target.name)][: len(rows)])]
    return HeldOutPredictions("held_out", outputs, labels)


def _cross_validate(
    estimator: Any,  # noqa: ANN401  any estimator
    model: Model,
    training: pd.DataFrame,
    target: "pd.Series | None",
    *,
    seconds: float | None,
    on_message: OnMessage,
) -> HeldOutPredictions:
    """Predict training rows with clones of the estimator that were not fitted on them.

    Raises:
        CrossValidationError: it is not possible; the message says why.
    """
    if model.task == "clusterer":
        raise CrossValidationError("the clusters of a clusterer have other numbers after each fit")
    if model.task in NAMED_OUTPUT_TASKS:
        raise CrossValidationError(f"{TASK_NAMES[model.task]} is not cross-validated")
    if target is None and model.task != "outlier_detector":
        raise CrossValidationError("the labels of the training data are unknown (--target)")
    if seconds is None:
        raise CrossValidationError("the file of the model does not contain the parameters of its training")
    if seconds <= 0:
        raise CrossValidationError("cross-validation is off")
    if target is None:
        positions, outputs = cross_validate(
            estimator, model.task, training, None, as_frame=model.as_frame, seconds=seconds, on_message=on_message
        )
        return HeldOutPredictions("cross_validation", outputs, [None] * len(outputs))
    all_labels = np.asarray(target)
    if len(all_labels) != len(training):
        raise CrossValidationError(f"there are {len(all_labels):,} labels for {len(training):,} rows")
    known = ~pd.isna(all_labels)
    if not known.any():
        raise CrossValidationError("all labels of the training data are missing")
    rows, fitted_labels = training[known], _as_fitted(estimator, model, all_labels[known])
    positions, outputs = cross_validate(
        estimator, model.task, rows, fitted_labels, as_frame=model.as_frame, seconds=seconds, on_message=on_message
    )
    _verify_same_fit(model, predict_rows(model, rows.iloc[positions]), outputs, fitted_labels[positions])
    return HeldOutPredictions("cross_validation", outputs, [to_json_label(label) for label in fitted_labels[positions]])


def _verify_same_fit(
    model: Model, own: Sequence[ModelOutput], outputs: Sequence[ModelOutput], labels: NDArray[Any]
) -> None:
    """Compare the model on its training rows (`own`) with clones on rows that are new to them (`outputs`).

    Raises:
        CrossValidationError: the clones are better, so they were not fitted as the model was.
    """
    if model.task == "regressor":
        rounding = ROUNDING * float(np.abs(labels).mean())
        if mean_error(own, labels) > MAX_ERROR_RATIO * mean_error(outputs, labels) + rounding:
            raise CrossValidationError(
                "the model has larger errors on its training data than clones have on new rows, so it was fitted on "
                "other labels than the column of --target, for example transformed ones"
            )
    elif accuracy(own, labels) < accuracy(outputs, labels) - MAX_ACCURACY_LOSS:
        raise CrossValidationError(
            "the model is less accurate on its training data than clones are on new rows, so it was fitted in another "
            "way, for example with sample weights or on resampled rows"
        )


def summarize(predictions: HeldOutPredictions, threshold: float | None) -> HeldOut:
    """Return accuracy or errors, and the share of predictions below the confidence threshold."""
    outputs = predictions.outputs
    pairs = [(output, label) for output, label in zip(outputs, predictions.labels, strict=True) if label is not None]
    summary: dict[str, Any] = {"method": predictions.method, "rows": len(outputs), "labelled_rows": len(pairs)}
    confidences = [output.confidence for output in outputs if output.confidence is not None]
    if threshold is not None and len(confidences) == len(outputs):
        summary["low_confidence_share"] = sum(value < threshold for value in confidences) / len(outputs)
    if outputs[0].value is None:
        share = accuracy([output for output, _ in pairs], [label for _, label in pairs]) if pairs else None
        return HeldOut(**summary, accuracy=share)
    errors = _absolute_errors(pairs)
    if errors is None:
        return HeldOut(**{**summary, "labelled_rows": 0})
    return HeldOut(
        **summary,
        mean_absolute_error=float(errors.mean()),
        absolute_error_deviation=float(errors.std()),
        absolute_error_deciles=tuple(np.quantile(errors, np.arange(1, 10) / 10).tolist()),
    )


def _absolute_errors(pairs: Sequence[tuple[ModelOutput, Label]]) -> NDArray[np.float64] | None:
    """Return the errors of a regressor; `None` without labels, or if they are no finite numbers."""
    try:
        errors = np.array([abs((output.value or 0.0) - float(label)) for output, label in pairs])
        finite = bool(len(errors)) and math.isfinite(float(errors.std()))
    except (ValueError, OverflowError):
        return None
    return errors if finite else None


def accuracy(outputs: Sequence[ModelOutput], labels: Sequence[object] | NDArray[Any]) -> float:
    """Return the share of outputs whose label is the true label."""
    correct = [_is_same(output.label, to_json_label(label)) for output, label in zip(outputs, labels, strict=True)]
    return sum(correct) / len(correct)


def mean_error(outputs: Sequence[ModelOutput], labels: NDArray[np.float64]) -> float:
    """Return the mean absolute error of a regressor."""
    return float(np.abs(np.array([output.value for output in outputs], dtype=np.float64) - labels).mean())


def _are_known(rows: pd.DataFrame, training: pd.DataFrame) -> bool:
    """Return whether more rows equal a training row than chance explains."""
    known, held_out = (
        pd.util.hash_pandas_object(table.apply(_as_comparable), index=False).to_numpy()
        for table in (training, rows[list(training.columns)])
    )
    distinct, counts = np.unique(known, return_counts=True)
    repeated = float(counts[counts > 1].sum()) / len(known)
    return bool(np.isin(held_out, distinct).mean() > repeated + MAX_KNOWN_SHARE)


def _as_comparable(column: "pd.Series") -> "pd.Series":
    """Return a column whose values do not depend on the format of the file: floats or texts."""
    numeric = pd.api.types.is_numeric_dtype(column.dtype)
    return pd.Series(column.to_numpy(np.float64, na_value=np.nan)) if numeric else column.astype(str)


def _as_fitted(estimator: Any, model: Model, labels: NDArray[Any]) -> NDArray[Any]:  # noqa: ANN401  any estimator
    """Return labels as the estimator was fitted on them. A CSV file does not distinguish numbers from texts of digits.

    Raises:
        CrossValidationError: the labels of a regressor are not numbers.
    """
    if model.task == "regressor":
        try:
            return labels.astype(np.float64)
        except (TypeError, ValueError):
            raise CrossValidationError("the labels of the training data are not numbers") from None
    names = model.classes or ()
    by_text = {str(name): index for index, name in enumerate(names)}
    by_key = {class_key(name): index for index, name in enumerate(names)}
    found = [by_key.get(class_key(label), by_text.get(str(label))) for label in map(to_json_label, labels)]
    indices = [index for index in found if index is not None]  # `pack` has checked that all labels are classes
    fitted: NDArray[Any] = np.asarray(getattr(estimator, "classes_", names))[indices]
    return fitted


def _to_label(value: Any) -> Label | None:  # noqa: ANN401  any cell
    return None if pd.isna(value) else to_json_label(value)


def _is_same(predicted: object, label: object) -> bool:
    return class_key(predicted) == class_key(label) or str(predicted) == str(label)
