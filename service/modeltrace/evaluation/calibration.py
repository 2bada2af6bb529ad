"""Compute the calibration of confidences: the agreement of the confidence of predictions with their accuracy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

# Confidence bins of equal width: bin `i` holds BIN_EDGES[i-1] < confidence <= BIN_EDGES[i].
N_BINS: Final = 10
BIN_EDGES: Final = tuple(index * (1 / N_BINS) for index in range(1, N_BINS))


class LabelledCount(NamedTuple):
    """The labelled predictions with the same predicted label, true label and confidence bin."""

    label: object
    true_label: object
    correct: bool
    bin: int | None  # None if the model returned no confidence
    rows: int
    confidence_sum: float
    squared_error_sum: float  # sum of (confidence - correct)²


class CalibrationBin(NamedTuple):
    """A confidence bin of the reliability diagram; `confidence` and `accuracy` are means."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class CalibrationMetrics:
    """The calibration of confidences: the agreement of confidence and accuracy, over predictions with a confidence."""

    expected_calibration_error: float
    top_label_brier_score: float  # with two classes, the Brier score
    bins: tuple[CalibrationBin, ...]  # without empty bins


def calibration_metrics(counts: Sequence[LabelledCount]) -> CalibrationMetrics | None:
    """Return the top-label Brier score and the expected calibration error (Naeini, Cooper, Hauskrecht: AAAI 2015).

    The latter is the mean of |accuracy - confidence| over bins, weighted by the number of predictions. The former is
    the mean of (confidence - correct)²; the Brier score of three and more classes needs the probabilities of all.
    """
    total = sum(count.rows for count in counts)
    if not total:
        return None
    bins = []
    for index in range(N_BINS):
        in_bin = [count for count in counts if count.bin == index]
        if rows := sum(count.rows for count in in_bin):
            confidence = math.fsum(count.confidence_sum for count in in_bin) / rows
            accuracy = sum(count.rows for count in in_bin if count.correct) / rows
            low, high = (0.0, *BIN_EDGES, 1.0)[index : index + 2]
            bins.append(CalibrationBin(low, high, rows, confidence, accuracy))
    error = math.fsum(entry.rows * abs(entry.accuracy - entry.confidence) for entry in bins) / total
    return CalibrationMetrics(error, math.fsum(count.squared_error_sum for count in counts) / total, tuple(bins))
