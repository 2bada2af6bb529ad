"""Compute the distribution of a model's outputs when it is packed. Later predictions are compared with it."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from modeltrace.bin_names import MISSING, OTHER
from modeltrace.bundles.reference_distribution import numeric_reference
from modeltrace.inference.model import Label, ModelOutput
from modeltrace.inference.monitored_outputs import MAX_MONITORED_OUTPUTS, MonitoredOutputs, embedding_values
from modeltrace.inference.named_outputs import Output
from modeltrace.inference.schema import OutputReference
from modeltrace.inference.tasks import Task

Source: TypeAlias = Literal["training", "held_out", "cross_validation"]

# Maximum number of rows that the model predicts, to bound the duration of `pack`.
MAX_REFERENCE_ROWS: Final = 100_000
# Minimum number of rows that the model was not fitted on. With fewer rows, training rows are used, and no drift of the
# predictions is reported: models are overconfident on their training rows.
MIN_HELD_OUT_ROWS: Final = 200
# The threshold for three or more classes. Below it, the predicted class is less probable than all others together.
MULTICLASS_THRESHOLD: Final = 0.5
# The threshold for two classes is this quantile of confidences. The upper bound is for overfitted models, whose
# confidences are all near 1.
LOW_CONFIDENCE_QUANTILE: Final = 0.02
MAX_BINARY_THRESHOLD: Final = 0.75


def build_output_reference(
    outputs: Sequence[ModelOutput],
    classes: Sequence[Label] | None,
    source: Source = "training",
) -> OutputReference:
    """Return the distribution of outputs for the rows of `source`.

    `classes` are the classes of a classifier, in its order. A class that is never predicted has the share 0.
    """
    if classes is None:
        return _reference_of_numbers(np.array([output.value for output in outputs], dtype=np.float64), source)
    counts = Counter(str(output.label) for output in outputs)
    labels = dict.fromkeys([*map(str, classes), *sorted(counts)])
    return OutputReference.model_validate(
        {"n": len(outputs), "shares": {label: counts[label] / len(outputs) for label in labels}, "source": source}
    )


def build_monitored_outputs(
    predicted: Sequence[ModelOutput], outputs: Sequence[Output], task: Task, source: Source = "training"
) -> MonitoredOutputs | None:
    """Return the distributions of the named outputs for the rows of `source`; `None` for a model without them.

    `outputs` are the named outputs of the model. Of an embedding, norm and distance from the mean are monitored.
    """
    if not outputs:
        return None
    rows = [row.outputs or () for row in predicted]
    if task == "transformer":
        mean = tuple(np.array(rows, dtype=np.float64).mean(axis=0).tolist())
        values = embedding_values(rows, mean)
        return MonitoredOutputs(
            references={name: _reference_of_numbers(numbers, source) for name, numbers in values.items()}, mean=mean
        )
    references = {}
    for index, output in enumerate(outputs[:MAX_MONITORED_OUTPUTS]):
        column = [row[index] for row in rows]
        if output.classes is None:
            references[output.name] = _reference_of_numbers(np.array(column, dtype=np.float64), source)
        else:  # a label that the estimator has not predicted before counts as `other`
            counts = Counter(map(str, column))
            shares = {name: counts[name] / len(rows) for name in dict.fromkeys([*map(str, output.classes), *counts])}
            references[output.name] = OutputReference(n=len(rows), shares={OTHER: 0.0, **shares}, source=source)
    return MonitoredOutputs(references=references)


def _reference_of_numbers(values: NDArray[np.float64], source: Source) -> OutputReference:
    reference = numeric_reference(values, n=len(values))
    shares = {name: share for name, share in reference.shares.items() if name not in (MISSING, OTHER)}
    return OutputReference.model_validate({**reference.model_dump(), "shares": shares, "source": source})


def confidence_threshold(outputs: Sequence[ModelOutput], classes: Sequence[Label] | None) -> float | None:
    """Return the confidence below which a prediction counts as uncertain, or `None` without probabilities.

    With three or more classes the threshold is `MULTICLASS_THRESHOLD`. With two classes the confidence is never below
    0.5, so the threshold is the 2 % quantile of confidences, at most `MAX_BINARY_THRESHOLD`.
    """
    confidences = [output.confidence for output in outputs if output.confidence is not None]
    if classes is None or len(classes) < 2 or not confidences:
        return None
    if len(classes) > 2:
        return MULTICLASS_THRESHOLD
    low = float(np.quantile(confidences, LOW_CONFIDENCE_QUANTILE, method="lower"))
    return min(math.floor(low * 1e4) / 1e4, MAX_BINARY_THRESHOLD)
