"""The predict functions of an estimator: from a matrix of rows to outputs."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modeltrace.errors import InferenceError
from modeltrace.inference.features import Matrix
from modeltrace.inference.intervals import IntervalMethod, IntervalRule
from modeltrace.inference.model import Label, ModelOutput, PredictFn, PredictFns, to_json_label
from modeltrace.inference.task_fns import cluster_labels, last_step, make_task_fn
from modeltrace.inference.tasks import Task
from modeltrace.inference.text_input import accepts_texts, first_column

# Classifiers whose predict() is not the argmax of predict_proba(): they apply a threshold, or compute both separately.
NON_ARGMAX_CLASSIFIERS = (
    "FixedThresholdClassifier",
    "NearestCentroid",
    "NuSVC",
    "OneVsRestClassifier",
    "SVC",
    "TunedThresholdClassifierCV",
)
# Classifiers of other libraries whose predict() is the argmax of predict_proba(), as for those of scikit-learn.
ARGMAX_CLASSIFIERS = (
    "imblearn.pipeline.Pipeline",
    "lightgbm.sklearn.LGBMClassifier",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRFClassifier",
)
# The attributes in which a meta-estimator stores the estimator that it delegates to.
DELEGATE_ATTRIBUTES = ("best_estimator_", "final_estimator_", "estimator_", "estimator")
# If two probabilities differ by less, this may be a rounding error. Then predict() decides between the classes.
TIE_TOLERANCE = 1e-9
# For one row and up to this number of classes, plain Python is faster than array operations.
MAX_CLASSES_IN_PYTHON = 32


def make_predict_fn(estimator: Any, task: Task) -> PredictFn:  # noqa: ANN401  any estimator
    """Return the predict function of an estimator."""
    return make_predict_fns(estimator, task).predict


def make_predict_fns(estimator: Any, task: Task) -> PredictFns:  # noqa: ANN401  any estimator
    """Return the predict functions of an estimator. The method is chosen once, not at every call.

    `with_details` of a regressor that predicts a standard deviation or quantiles returns uncorrected bounds as
    `interval`: the value ∓ one standard deviation, or the quantiles. See `with_interval`.

    The label is what predict() returns. For scikit-learn's own classifiers it is the argmax of predict_proba(), so one
    call is enough. Any other classifier may decide differently, so both methods are called.
    """
    fns = _make_predict_fns(estimator, task)
    if not accepts_texts(estimator):
        return fns
    predict, with_details = fns
    return PredictFns(
        lambda matrix: predict(first_column(matrix)),
        with_details and (lambda matrix: with_details(first_column(matrix))),
    )


def _make_predict_fns(estimator: Any, task: Task) -> PredictFns:  # noqa: ANN401  any estimator
    if task == "regressor":
        with_bounds = _WITH_BOUNDS.get(interval_method(estimator))
        return PredictFns(
            lambda matrix: to_value_outputs(estimator.predict(matrix)), with_bounds and partial(with_bounds, estimator)
        )
    has_probabilities = hasattr(estimator, "predict_proba")
    if task != "classifier" and not (task == "clusterer" and has_probabilities):
        return PredictFns(make_task_fn(estimator, task))
    labels = [*cluster_labels(estimator)] if task == "clusterer" else [*map(to_json_label, estimator.classes_)]
    if not has_probabilities:
        return PredictFns(lambda matrix: [ModelOutput(label) for label in _to_labels(estimator.predict(matrix))])
    predict = _predict_argmax if predicts_argmax(estimator) else _predict_both
    return PredictFns(
        lambda matrix: predict(estimator, labels, matrix, keep=False),
        lambda matrix: predict(estimator, labels, matrix, keep=True),
    )


def interval_method(estimator: Any) -> IntervalMethod:  # noqa: ANN401  any regressor
    """Return what the prediction intervals of a regressor are computed from."""
    if hasattr(estimator, "predict_quantiles"):
        return "quantile_models"
    predict = inspect.signature(last_step(estimator).predict)
    return "standard_deviation" if "return_std" in predict.parameters else "residuals"


def with_interval(fns: PredictFns, rule: IntervalRule | None) -> PredictFns:
    """Return the predict functions of a regressor with the intervals of a rule as details; no details without a rule.

    `fns` are those of the estimator: their details have uncorrected bounds.
    """
    predict = fns.predict if rule is not None and rule.method == "residuals" else fns.with_details
    if rule is None or predict is None:
        return PredictFns(fns.predict)
    return PredictFns(fns.predict, lambda matrix: [_apply(rule, output) for output in predict(matrix)])


def _apply(rule: IntervalRule, output: ModelOutput) -> ModelOutput:
    return replace(output, interval=rule.apply(*bounds(output)))


def bounds(output: ModelOutput) -> tuple[float, float, float]:
    """Return the value of a regressor's output, and the bounds of its interval; without an interval, the value."""
    value = output.value or 0.0
    return value, *(output.interval or (value, value))


def _predict_with_deviations(estimator: Any, matrix: Matrix) -> list[ModelOutput]:  # noqa: ANN401  any estimator
    values, deviations = (to_value_outputs(array) for array in estimator.predict(matrix, return_std=True))
    pairs = zip(values, deviations, strict=True)
    return [
        replace(output, interval=((output.value or 0.0) - width, (output.value or 0.0) + width))
        for output, width in ((output, deviation.value or 0.0) for output, deviation in pairs)
    ]


def _predict_with_quantiles(estimator: Any, matrix: Matrix) -> list[ModelOutput]:  # noqa: ANN401  any estimator
    values = to_value_outputs(estimator.predict(matrix))
    quantiles = estimator.predict_quantiles(matrix)
    if not np.isfinite(quantiles).all():
        raise InferenceError("a quantile model returned a number that is not finite")
    pairs = zip(values, quantiles.tolist(), strict=True)
    return [replace(output, interval=(low, high)) for output, (low, high) in pairs]


# The functions that predict values and uncorrected bounds.
_WITH_BOUNDS: Final[Mapping[IntervalMethod, Callable[[Any, Matrix], list[ModelOutput]]]] = {
    "standard_deviation": _predict_with_deviations,
    "quantile_models": _predict_with_quantiles,
}


def predicts_argmax(estimator: Any) -> bool:  # noqa: ANN401  any estimator
    """Return whether `predict` of an estimator always returns the class with the highest `predict_proba`."""
    kind = type(estimator)
    if kind.__name__ in NON_ARGMAX_CLASSIFIERS or not (
        kind.__module__.startswith("sklearn.") or f"{kind.__module__}.{kind.__name__}" in ARGMAX_CLASSIFIERS
    ):
        return False
    delegates = [getattr(estimator, name, None) for name in DELEGATE_ATTRIBUTES]
    if hasattr(estimator, "steps"):
        delegates.append(estimator.steps[-1][1])
    return all(predicts_argmax(delegate) for delegate in delegates if hasattr(delegate, "predict"))


def _predict_argmax(estimator: Any, labels: list[Label], matrix: Matrix, *, keep: bool) -> list[ModelOutput]:  # noqa: ANN401  any estimator
    """Take label and confidence from predict_proba(); `keep`: return the probabilities of all classes, too."""
    probabilities = estimator.predict_proba(matrix)
    if len(probabilities) == 1 and len(labels) <= MAX_CLASSES_IN_PYTHON:
        return _single_argmax(estimator, labels, matrix, probabilities, keep=keep)
    best = probabilities.argmax(axis=1)
    confidences = probabilities[np.arange(len(best)), best]
    lead = confidences - np.partition(probabilities, -2, axis=1)[:, -2] if len(labels) > 1 else confidences
    if not (lead > TIE_TOLERANCE).all():
        return _predict_both(estimator, labels, matrix, probabilities, keep=keep)
    pairs = zip(best.tolist(), confidences.tolist(), strict=True)
    if keep:
        rows = zip(pairs, probabilities.tolist(), strict=True)
        return [ModelOutput(labels[index], confidence, None, row) for (index, confidence), row in rows]
    return [ModelOutput(labels[index], confidence) for index, confidence in pairs]


def _single_argmax(
    estimator: Any,  # noqa: ANN401  any estimator
    labels: list[Label],
    matrix: Matrix,
    probabilities: "NDArray[Any]",
    *,
    keep: bool,
) -> list[ModelOutput]:
    """Compute `_predict_argmax` for one row without the overhead of five array operations."""
    row = probabilities[0].tolist()
    confidence = max(row)
    best = row.index(confidence)
    others = [*row[:best], *row[best + 1 :]]
    # Comparisons with NaN are false; max() may return NaN if it comes first.
    if all(confidence - other > TIE_TOLERANCE for other in others) and confidence > TIE_TOLERANCE:
        return [ModelOutput(labels[best], confidence, None, row if keep else None)]
    return _predict_both(estimator, labels, matrix, probabilities, keep=keep)


def _predict_both(
    estimator: Any,  # noqa: ANN401  any estimator
    labels: list[Label],
    matrix: Matrix,
    probabilities: "NDArray[Any] | None" = None,
    *,
    keep: bool,
) -> list[ModelOutput]:
    """Take the label from predict() and its confidence from predict_proba().

    The confidence is `None` if the probability is not finite, or if the label is not a class: RadiusNeighborsClassifier
    has a label for outliers.
    """
    known = estimator.predict_proba(matrix) if probabilities is None else probabilities
    columns = {label: index for index, label in enumerate(labels)}
    outputs = []
    for label, row in zip(_to_labels(estimator.predict(matrix)), known.tolist(), strict=True):
        confidence = row[columns[label]] if label in columns else math.nan
        finite = confidence if math.isfinite(confidence) else None
        outputs.append(ModelOutput(label, finite, None, row if keep else None))
    return outputs


def _to_labels(predicted: Any) -> list[Label]:  # noqa: ANN401  whatever an estimator returns
    array = np.asarray(predicted)
    if array.ndim == 2 and array.shape[1] == 1:  # CatBoost, with three or more classes
        array = array[:, 0]
    if array.ndim != 1:
        raise InferenceError(f"the model returned the shape {array.shape}, not one label for each row")
    return [to_json_label(label) for label in array]


def to_value_outputs(predicted: Any) -> list[ModelOutput]:  # noqa: ANN401  whatever an estimator returns
    """Convert the values of a regressor.

    Raises:
        InferenceError: they have another shape than one value for each row, or are not finite.
    """
    array = np.asarray(predicted, dtype=np.float64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InferenceError(f"the model returned the shape {array.shape}, not one value for each row")
    if not np.isfinite(array).all():
        raise InferenceError("the model returned a number that is not finite")
    return [ModelOutput(value=value) for value in array.tolist()]
