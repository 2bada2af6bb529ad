"""How often two independent rows are equal, from the training data."""

from typing import Final

import numpy as np
import pandas as pd

# Equal pairs that may have been missed by chance: with 95 %, none was seen where no more than three were expected.
MAX_UNSEEN_PAIRS: Final = 3


def duplicate_probability(training: pd.DataFrame) -> float:
    """Estimate the probability that two rows are equal, at most.

    It is the share of equal pairs (Simpson's index), with as many pairs added as can be missed by chance. Data of few
    possible rows repeats by itself; of measured numbers, a row that comes again is the same one sent again.
    """
    rows = len(training)
    if rows < 2:
        return 1.0
    _, times = np.unique(pd.util.hash_pandas_object(training, index=False).to_numpy(), return_counts=True)
    equal = float((times * (times - 1.0)).sum()) / 2
    return min(1.0, (equal + MAX_UNSEEN_PAIRS) / (rows * (rows - 1) / 2))
