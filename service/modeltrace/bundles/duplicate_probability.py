"""Estimate from the training data how often two independent rows are equal."""

from typing import Final

import numpy as np
import pandas as pd

# Rule of three: if no equal pair is observed, the expected number is below 3 with 95 % confidence.
MAX_UNSEEN_PAIRS: Final = 3


def duplicate_probability(training: pd.DataFrame) -> float:
    """Return an upper bound of the probability that two independent rows are equal.

    The bound is the share of equal pairs of rows (Simpson's index), plus an allowance for equal pairs that the sample
    misses by chance. It is high for data with few possible rows, in which equal rows are normal. For measured numbers
    it is low: an equal row is probably the same row, sent again.
    """
    rows = len(training)
    if rows < 2:
        return 1.0
    _, counts = np.unique(pd.util.hash_pandas_object(training, index=False).to_numpy(), return_counts=True)
    equal_pairs = float((counts * (counts - 1.0)).sum()) / 2
    return min(1.0, (equal_pairs + MAX_UNSEEN_PAIRS) / (rows * (rows - 1) / 2))
