"""Compute the distribution of a model's outputs when it is packed. Later predictions are compared with it."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from modeltrace.bin_names import MISSING, OTHER
from modeltrace.bundles.reference_distribution import numeric_reference
from modeltrace.inference.model import Label, ModelOutput
from modeltrace.inference.schema import OutputReference

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
    source: Literal["training", "held_out", "cross_validation"] = "training",
) -> OutputReference:
    """Return the distribution of outputs for the rows of `source`.

    `classes` are the classes of a classifier, in its order. A class that is never predicted has the share 0.
    """
    if classes is None:
        values = np.array([output.value for output in outputs], dtype=np.float64)
        reference = numeric_reference(values, n=len(values))
        shares = {name: share for name, share in reference.shares.items() if name not in (MISSING, OTHER)}
        return OutputReference.model_validate({**reference.model_dump(), "shares": shares, "source": source})
    counts = Counter(str(output.label) for output in outputs)
    labels = dict.fromkeys([*map(str, classes), *sorted(counts)])
    return OutputReference.model_validate(
        {"n": len(outputs), "shares": {label: counts[label] / len(outputs) for label in labels}, "source": source}
    )


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
