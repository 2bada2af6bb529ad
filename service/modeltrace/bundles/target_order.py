"""Find out whether the columns of several targets are in the order of the estimator's outputs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.errors import PackError
from modeltrace.inference.model import ModelOutput

# The outputs fit columns in another order if the loss there is smaller by this factor.
MAX_RATIO = 0.5


def verify_target_order(outputs: Sequence[ModelOutput], target: pd.DataFrame) -> None:
    """Compare each output with each column of the labels.

    Args:
        outputs: the predictions for rows of the training data, with several outputs each.
        target: the labels of these rows, a column for each output.

    Raises:
        PackError: each output fits another column far better, so that the names would be wrong.
    """
    columns = [target.iloc[:, index] for index in range(target.shape[1])]
    predicted = [*zip(*(output.outputs or () for output in outputs), strict=True)]
    if len(predicted) != len(columns):
        return  # `describe_outputs` does not use the names
    losses = np.array([[_loss(values, column) for column in columns] for values in predicted])
    best = losses.argmin(axis=1)
    own = np.arange(len(columns))
    moved = best != own
    if moved.any() and len(set(best)) == len(best) and (losses[own, best] < MAX_RATIO * losses[own, own])[moved].all():
        order = " ".join(f"--target {target.columns[index]}" for index in best)
        raise PackError(
            "--target: the model's outputs are in another order than the columns. Name the columns in the order in "
            f"which it was fitted, which seems to be {order}"
        )


def _loss(predicted: Sequence[object], column: "pd.Series") -> float:
    """Return the mean error in standard deviations of the column, or for labels the share of wrong ones."""
    labels: NDArray[np.object_] = column.to_numpy(dtype=object)
    if all(isinstance(value, float) for value in predicted) and pd.api.types.is_numeric_dtype(column.dtype):
        errors = np.abs(np.array(predicted, dtype=np.float64) - labels.astype(np.float64))
        return float(np.nanmean(errors) / (np.nanstd(labels.astype(np.float64)) or 1.0))
    return float(np.mean([str(value) != str(label) for value, label in zip(predicted, labels, strict=True)]))
