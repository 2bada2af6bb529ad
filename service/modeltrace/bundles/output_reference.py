"""What a model's own answers are like, before it is served: what later answers are compared with."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from modeltrace.inference.model import Label, ModelOutput
from modeltrace.inference.reference import numeric_reference
from modeltrace.inference.schema import MISSING, OTHER, OutputReference

# Rows that are answered to know; of a million, nobody waits for all.
MAX_REFERENCE_ROWS: Final = 100_000
# Held-out rows from which on their answers are the better reference: a model knows what it was fitted on, and says so.
MIN_HELD_OUT_ROWS: Final = 200
# From three classes up, an answer that the model itself thinks to be wrong more likely than not.
MULTICLASS_THRESHOLD: Final = 0.5
# The share of answers that lies below the threshold of two classes, and the highest that it may become: an overfitted
# model is sure of all that it has seen.
LOW_CONFIDENCE_QUANTILE: Final = 0.02
MAX_BINARY_THRESHOLD: Final = 0.75
# Held-out rows from which on such a quantile of theirs is worth more than that of the training data.
MIN_QUANTILE_ROWS: Final = 100


def build_output_reference(
    training_outputs: Sequence[ModelOutput], held_out_outputs: Sequence[ModelOutput], classes: Sequence[Label] | None
) -> OutputReference:
    """The distribution of answers, `seen` to the training data and `unseen` to held-out rows, if there are enough.

    `classes` are a classifier's, in its order; one that it never answered has the share 0.
    """
    held_out = len(held_out_outputs) >= MIN_HELD_OUT_ROWS
    answers, source = (held_out_outputs, "held_out") if held_out else (training_outputs, "training")
    if classes is None:
        values = np.array([one.value for one in answers], dtype=np.float64)
        reference = numeric_reference(values, n=len(values))
        shares = {name: share for name, share in reference.shares.items() if name not in (MISSING, OTHER)}
        return OutputReference.model_validate({**reference.model_dump(), "shares": shares, "source": source})
    counts = Counter(str(one.label) for one in answers)
    labels = dict.fromkeys([*map(str, classes), *sorted(counts)])
    return OutputReference.model_validate(
        {"n": len(answers), "shares": {label: counts[label] / len(answers) for label in labels}, "source": source}
    )


def confidence_threshold(
    training_outputs: Sequence[ModelOutput], held_out_outputs: Sequence[ModelOutput], classes: Sequence[Label] | None
) -> float | None:
    """The confidence below which an answer is called low; `None` without probabilities.

    Two classes never fall below 0.5, so theirs is the 2 % quantile of confidences: clearly fewer than the 5 % that
    raise an alert.
    """
    known, held_out = (
        [one.confidence for one in some if one.confidence is not None] for some in (training_outputs, held_out_outputs)
    )
    if classes is None or len(classes) < 2 or not known:
        return None
    if len(classes) > 2:
        return MULTICLASS_THRESHOLD
    low = float(
        np.quantile(held_out if len(held_out) >= MIN_QUANTILE_ROWS else known, LOW_CONFIDENCE_QUANTILE, method="lower")
    )
    return min(math.floor(low * 1e4) / 1e4, MAX_BINARY_THRESHOLD)
