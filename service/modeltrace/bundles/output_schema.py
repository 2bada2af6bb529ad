"""Determine what an estimator answers: its task, the labels that it can predict, and its named outputs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import ValidationError

from modeltrace.bundles.training_frame import to_series
from modeltrace.bundles.verify_outputs import to_array, verify_probabilities
from modeltrace.errors import PackError
from modeltrace.inference.model import Label, class_key, to_json_label
from modeltrace.inference.named_outputs import MAX_OUTPUTS, Output
from modeltrace.inference.predict_fns import make_predict_fn
from modeltrace.inference.task_fns import DISTANCE, classes_of, has_distances, output_classes
from modeltrace.inference.tasks import LABELLED_TASKS, Task
from modeltrace.inference.text_input import to_input
from modeltrace.outlier_labels import SCORE
from modeltrace.printable import first_line


class OutputSchema(NamedTuple):
    """What an estimator answers."""

    task: Task
    classes: tuple[Label, ...] | None
    outputs: tuple[Output, ...]


def describe_outputs(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    sample: pd.DataFrame,
    target: Any,  # noqa: ANN401  any column, or a table
    *,
    as_frame: bool,
) -> OutputSchema:
    """Determine the answers of an estimator.

    Args:
        estimator: the fitted estimator.
        task: its task, as `infer_task` returns it. An estimator that predicts several values for a row gets another.
        sample: rows of its training data.
        target: the labels that it was fitted on, or `None`. The columns of a table name the outputs of an estimator
            with several outputs.
        as_frame: whether the estimator expects a DataFrame.

    Raises:
        PackError: the estimator fails on the sample, has too many outputs, or returns no probability for each class.
    """
    matrix = sample if as_frame else to_array(sample)
    if task in ("classifier", "regressor") and _predicts_several(estimator, matrix):
        task = "multi_output"
    if task in ("multi_output", "transformer"):
        return OutputSchema(task, None, _several_outputs(estimator, task, matrix, target))
    outputs: tuple[Output, ...] = ()
    if task == "outlier_detector":
        outputs = (Output(name=SCORE),)
    elif task == "clusterer" and has_distances(estimator):
        outputs = (Output(name=DISTANCE),)
    classes = classes_of(estimator, task)
    if task in ("classifier", "clusterer"):  # the probabilities of outlier detectors are not used
        verify_probabilities(estimator, classes, matrix)
    return OutputSchema(task, classes, outputs)


def _predicts_several(estimator: Any, matrix: Any) -> bool:  # noqa: ANN401  any estimator
    """Return whether an estimator predicts several values for a row; an estimator that fails is reported later."""
    try:
        predicted = np.asarray(estimator.predict(to_input(estimator, matrix)))
    except Exception:  # noqa: BLE001  the packed model fails, too, and its error says what to do
        return False
    return predicted.ndim == 2 and predicted.shape[1] > 1


def _several_outputs(estimator: Any, task: Task, matrix: Any, target: Any) -> tuple[Output, ...]:  # noqa: ANN401  any estimator
    try:
        predicted = make_predict_fn(estimator, task)(matrix)
    except Exception as error:
        raise PackError(
            f"the estimator fails on the training data: {type(error).__name__}: {first_line(error)}"
        ) from error
    width = len(predicted[0].outputs or ())
    kind = type(estimator).__name__
    if not 0 < width <= MAX_OUTPUTS:
        raise PackError(
            f"the {kind} returns {width:,} values for each row, {MAX_OUTPUTS:,} are allowed. End with a step that "
            "reduces them, for example PCA or TruncatedSVD"
        )
    names = _output_names(estimator, task, target)
    if len(names) != width or len(set(names)) != width:
        names = [f"output_{index}" for index in range(width)]
    classes = [None] * width if task == "transformer" else output_classes(estimator, predicted)
    try:
        return tuple(Output(name=name, classes=labels) for name, labels in zip(names, classes, strict=True))
    except ValidationError:
        raise PackError(
            f"the name of an output of the {kind} is empty, longer than 256 characters, or contains control "
            "characters. Rename the column and fit again"
        ) from None


def _output_names(estimator: Any, task: Task, target: Any) -> Sequence[str]:  # noqa: ANN401  any estimator, any table
    if task == "multi_output":
        return [str(name) for name in target.columns] if isinstance(target, pd.DataFrame) else []
    try:
        return [str(name) for name in estimator.get_feature_names_out()]
    except Exception:  # noqa: BLE001  an estimator may not know the names
        return []


def check_target(target: Any, task: Task, classes: Sequence[Label] | None) -> "pd.Series | None":  # noqa: ANN401  any column
    """Return the true labels of the training data; `None` if they are unknown, or predictions have none.

    Raises:
        PackError: a label is not one of `classes`.
    """
    if target is None or task not in LABELLED_TASKS:
        return None
    labels = to_series(target)
    if classes is not None:
        _check_labels(classes, labels)
    return labels


def _check_labels(classes: Sequence[object], target: "pd.Series") -> None:
    keys, texts = set(map(class_key, classes)), set(map(str, classes))
    try:
        labels = [to_json_label(label) for label in target.dropna().unique()]
    except TypeError:
        raise PackError(f"--target: the column {target.name} contains lists or dicts, which cannot be labels") from None
    # A CSV file does not distinguish numbers from texts of digits, so compare the labels as text, too.
    unknown = sorted(str(label) for label in labels if class_key(label) not in keys and str(label) not in texts)
    if unknown:
        known = ", ".join(str(label) for label in classes)
        raise PackError(
            f"--target: the column {target.name} contains the label {unknown[0]}, but the classes of the estimator are "
            f"{known}. Pack with the data that it was fitted on"
        )
