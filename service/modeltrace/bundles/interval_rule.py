"""Determine how the prediction intervals of a regressor are computed, from predictions for labelled rows."""

from typing import Any

from modeltrace.bundles.held_out_rows import HeldOutPredictions
from modeltrace.errors import PackError
from modeltrace.inference.intervals import IntervalRule, corrected, identity, without_labels
from modeltrace.inference.predict_fns import bounds, interval_method
from modeltrace.inference.tasks import Task


def initial_rule(estimator: Any, task: Task, level: float) -> IntervalRule | None:  # noqa: ANN401  any estimator
    """Return the rule with which a regressor predicts uncorrected bounds; `None` for another task.

    Raises:
        PackError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise PackError(f"--interval-level {level:g}: the level of intervals must be between 0 and 1, for example 0.9")
    return identity(interval_method(estimator), level) if task == "regressor" else None


def final_rule(initial: IntervalRule | None, predictions: HeldOutPredictions | None) -> IntervalRule | None:
    """Return the rule whose intervals enclose the labels of new rows; `None` if it cannot be determined.

    `predictions` are those for rows that the model was not fitted on, with uncorrected bounds.
    """
    if initial is None:
        return None
    pairs = [] if predictions is None else zip(predictions.outputs, predictions.labels, strict=True)
    try:
        scores = [initial.score(*bounds(output), float(label)) for output, label in pairs if label is not None]
    except (ValueError, OverflowError):  # labels that are no numbers
        scores = []
    return corrected(initial, scores) or without_labels(initial)
