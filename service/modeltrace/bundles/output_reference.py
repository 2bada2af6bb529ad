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
MOST_ANSWERED: Final = 100_000
# Held-out rows from which on their answers are the better reference: a model knows what it was fitted on, and says so.
ENOUGH_ANSWERS: Final = 200
# From three classes up, an answer that the model itself thinks to be wrong more likely than not.
MANY_CLASSES: Final = 0.5
# The share of answers that lies below the threshold of two classes, and the highest that it may become: an overfitted
# model is sure of all that it has seen.
LOW_SHARE: Final = 0.02
HIGHEST: Final = 0.75
# Held-out rows from which on such a quantile of theirs is worth more than that of the training data.
ENOUGH_CONFIDENCES: Final = 100


def reference_of(
    seen: Sequence[ModelOutput], unseen: Sequence[ModelOutput], classes: Sequence[Label] | None
) -> OutputReference:
    """The distribution of answers, `seen` to the training data and `unseen` to held-out rows, if there are enough.

    `classes` are a classifier's, in its order; one that it never answered has the share 0.
    """
    held_out = len(unseen) >= ENOUGH_ANSWERS
    answers, source = (unseen, "held_out") if held_out else (seen, "training")
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
    seen: Sequence[ModelOutput], unseen: Sequence[ModelOutput], classes: Sequence[Label] | None
) -> float | None:
    """The confidence below which an answer is called low; `None` without probabilities.

    Two classes never fall below 0.5, so theirs is the 2 % quantile of confidences: clearly fewer than the 5 % that
    raise an alert.
    """
    known, held_out = ([one.confidence for one in some if one.confidence is not None] for some in (seen, unseen))
    if classes is None or len(classes) < 2 or not known:
        return None
    if len(classes) > 2:
        return MANY_CLASSES
    low = float(np.quantile(held_out if len(held_out) >= ENOUGH_CONFIDENCES else known, LOW_SHARE, method="lower"))
    return min(math.floor(low * 1e4) / 1e4, HIGHEST)
