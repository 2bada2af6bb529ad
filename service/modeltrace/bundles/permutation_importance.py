"""Measure the importance of each feature: shuffle its values in test rows, and compare the quality.

scikit-learn's `permutation_importance` gives the same numbers, but it has no time limit and does not call the packed
model.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.bundles.held_out_rows import HeldOutPredictions, accuracy, mean_error
from modeltrace.bundles.training_frame import convert_columns
from modeltrace.bundles.verify_outputs import to_rows
from modeltrace.inference.features import Matrix, to_matrix
from modeltrace.inference.importance import FeatureImportance, Importance
from modeltrace.inference.model import Label, Model, ModelOutput

# The largest number of rows, and how often each feature is shuffled.
MAX_ROWS: Final = 2000
REPEATS: Final = 5
SEED: Final = 0
# Features in the message.
MAX_SHOWN: Final = 5
_NO_IMPORTANCE: Final = "No importance of features"


def measure_importance(
    model: Model,
    traffic: pd.DataFrame | None,
    held_out: HeldOutPredictions | None,
    *,
    seconds: float,
    on_message: Callable[[str], None],
) -> Importance | None:
    """Return the permutation importance of each feature for test rows.

    Args:
        model: the packed model, a classifier or a regressor.
        traffic: the test rows; their first ones are those of `held_out`.
        held_out: the predictions for held-out rows, with their labels.
        seconds: the time limit, 0 for no importance. When it is reached, the repeats so far count; one is needed.
        on_message: gets the most important features, or the reason why test rows give no importance.

    Returns:
        The importance; None without test rows that have labels, for other models, and without enough time.
    """
    if traffic is None or seconds <= 0 or model.task not in {"classifier", "regressor"}:
        return None
    if held_out is None or held_out.method != "held_out":
        on_message(f"{_NO_IMPORTANCE}: it is measured only on --traffic rows that are the reference of the predictions")
        return None
    positions = [number for number, label in enumerate(held_out.labels) if label is not None]
    if not positions:
        on_message(f"{_NO_IMPORTANCE}: the rows of --traffic have no labels in the column of --target")
        return None
    if len(positions) > MAX_ROWS:
        positions = sorted(np.random.default_rng(SEED).choice(positions, MAX_ROWS, replace=False).tolist())
    labels = [label for number in positions if (label := held_out.labels[number]) is not None]
    rows = convert_columns(traffic[list(model.schema.names)]).iloc[positions]
    matrix = to_matrix(to_rows(rows), model.schema, as_frame=model.as_frame)
    score = _score(model, model.predict(matrix), labels)
    if score is None:
        on_message(f"{_NO_IMPORTANCE}: a label in --traffic is no number, or the error of the model is not finite")
        return None
    decreases = _shuffle_features(model, matrix, labels, score, seconds)
    if not decreases:
        on_message(
            f"{_NO_IMPORTANCE}: {seconds:g} s are too short to shuffle each feature once. Give more time with "
            "--importance-seconds"
        )
        return None
    by_feature = np.array(decreases).T
    importance = Importance(
        metric="accuracy" if model.task == "classifier" else "mean_absolute_error",
        score=abs(score),
        rows=len(positions),
        repeats=len(decreases),
        features={
            name: FeatureImportance(mean=float(values.mean()), deviation=float(values.std()))
            for name, values in zip(model.schema.names, by_feature, strict=True)
        },
    )
    on_message(_describe(importance))
    return importance


def _describe(importance: Importance) -> str:
    """Return a line with the most important features."""
    shares = sorted(importance.shares().items(), key=lambda entry: -entry[1])
    shown = [f"{name} {share:.0%}" for name, share in shares[:MAX_SHOWN] if share > 0]
    return f"Most important features of {importance.rows:,} test rows: {', '.join(shown) or 'none has an effect'}"


def _shuffle_features(
    model: Model, matrix: Matrix, labels: Sequence[Label], score: float, seconds: float
) -> list[list[float]]:
    """Return the decrease of the score by repeat and feature, for each complete repeat within the time limit.

    All features are shuffled in the same order, and each repeat shuffles the values again, as scikit-learn does.
    """
    deadline = time.monotonic() + seconds
    seed = np.random.RandomState(SEED).randint(np.iinfo(np.int32).max + 1)
    generator = np.random.RandomState(seed)
    shuffle, order = np.arange(len(matrix)), np.arange(len(matrix))
    repeats: list[list[float]] = []
    for _ in range(REPEATS):
        generator.shuffle(shuffle)
        order = order[shuffle]
        decreases: list[float] = []
        for column in range(len(model.schema.names)):
            if time.monotonic() > deadline:
                return repeats
            shuffled = _score(model, model.predict(_shuffle_column(matrix, column, order)), labels)
            decreases.append(score - shuffled if shuffled is not None else 0.0)
        repeats.append(decreases)
    return repeats


def _shuffle_column(matrix: Matrix, column: int, order: NDArray[np.intp]) -> Matrix:
    """Return a copy of a matrix in which one column has another order."""
    copy = matrix.copy()
    if isinstance(copy, pd.DataFrame):
        values = copy.iloc[order, column]
        values.index = copy.index
        copy[copy.columns[column]] = values
    else:
        copy[:, column] = copy[order, column]
    return copy


def _score(model: Model, outputs: Sequence[ModelOutput], labels: Sequence[Label]) -> float | None:
    """Return the accuracy, or the mean absolute error with a negative sign; None if a label is no number."""
    if model.task == "classifier":
        return accuracy(outputs, labels)
    try:
        numbers: NDArray[Any] = np.array([float(label) for label in labels])
    except ValueError:
        return None
    error = -mean_error(outputs, numbers)
    return error if np.isfinite(error) else None
