"""How much rows depend on each other: rows that repeat, and the differences between consecutive requests.

The thresholds of drift assume independent rows. For numbers, the mean of half the squared differences of consecutive
values, divided by the variance, is one minus their correlation (J. von Neumann et al., "The mean square successive
difference", 1941). Numbers have the score of their bin. For categories, a difference counts as 1, and the variance is
the probability that two independent values differ. Receivers compute the correlation of any window from these sums; see
`modeltrace.monitoring.drift`.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modeltrace.telemetry.records.prediction import RequestRecord, Value

# A row is compared with the last distinct rows: at least with this number of them, and at most with twice as many.
REMEMBERED_ROWS: Final = 4096


class RepeatedRowCounter:
    """Counts rows that equal one of the last distinct rows.

    It remembers hashes in two generations, and drops the older one when the newer one is full. Hashes never leave the
    process.
    """

    def __init__(self, max_remembered: int = REMEMBERED_ROWS) -> None:
        self.count = 0
        self._max_remembered = max_remembered
        self._older: set[int] = set()
        self._newer: set[int] = set()

    def add(self, rows: Iterable[tuple[Value, ...]]) -> None:
        """Count further rows."""
        older, newer = self._older, self._newer
        for row in rows:
            digest = hash(row)
            if digest in newer:
                self.count += 1
                continue
            self.count += digest in older
            newer.add(digest)
            if len(newer) >= self._max_remembered:
                older, newer = newer, set()
        self._older, self._newer = older, newer


class SuccessiveDifferences:
    """Compares the first row of each request with the first row of the request before.

    The rows of one batch are not compared: a batch that is sorted by a feature can still be a fair sample.
    """

    def __init__(self, scores: NDArray[np.float64], output_scores: Mapping[str, float], n_features: int) -> None:
        """See `Bins.scores` and `ReferenceData.output_scores`."""
        self._scores = scores
        self._output_scores = output_scores
        self._features = np.zeros(n_features)
        self._output = 0.0
        self._pairs = 0
        # The request before, the bins of its first row, and its outcome.
        self._request: RequestRecord | None = None
        self._bins = np.empty((0, n_features), dtype=np.intp)
        self._outcomes: list[Value] = []

    def add(self, requests: Sequence[RequestRecord], bins: NDArray[np.intp]) -> None:
        """Add rows: the request of each row, and its bin numbers, shape (n_rows, n_features)."""
        previous = (self._request, *requests)
        firsts = [index for index, request in enumerate(requests) if request is not previous[index]]
        if not firsts:
            return
        compared = np.concatenate([self._bins, bins[firsts]])
        outcomes = [*self._outcomes, *(_outcome(requests[index]) for index in firsts)]
        self._features += sum_differences(self._scores, compared)
        self._output += sum(half_squared_difference(self._output_scores, *pair) for pair in pairwise(outcomes))
        self._pairs += len(outcomes) - 1
        self._request, self._bins, self._outcomes = requests[-1], compared[-1:], outcomes[-1:]

    def sums(self) -> tuple[list[float], float, int]:
        """Return the sum of each feature, that of the predictions, and the number of pairs."""
        return self._features.tolist(), self._output, self._pairs

    def reset(self) -> None:
        """Start new sums."""
        self._features[:] = 0.0
        self._output, self._pairs = 0.0, 0


def sum_differences(scores: NDArray[np.float64], bins: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the sum of half the squared differences of consecutive rows, shape (n_features,).

    Args:
        scores: the score of each bin, NaN for bins of categories; see `Bins.scores`.
        bins: the bin numbers of the rows, shape (n_rows, n_features).
    """
    values = scores[bins]
    of_numbers = (values[1:] - values[:-1]) ** 2 / 2
    sums: NDArray[np.float64] = np.where(np.isnan(of_numbers), bins[1:] != bins[:-1], of_numbers).sum(axis=0)
    return sums


def half_squared_difference(scores: Mapping[str, float], first: Value, second: Value) -> float:
    """Return half the squared difference of the scores of two bins; without scores, whether the bins differ."""
    if scores and isinstance(first, str) and isinstance(second, str):
        return (scores.get(first, 0.0) - scores.get(second, 0.0)) ** 2 / 2
    return float(first != second)


def _outcome(request: RequestRecord) -> Value:
    return request.model.outcome(request.predictions[0]) if request.model else None
