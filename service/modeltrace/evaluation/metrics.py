"""Compute classification, calibration and regression metrics from counts and sums.

Names, formulas and conventions are those of scikit-learn (`accuracy_score`, `precision_recall_fscore_support`,
`mean_absolute_error`, `r2_score`, …). A ratio with a denominator of 0 is 0. A mean over classes
includes each class that occurs as a predicted or true label. This module has no database code.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from modeltrace.evaluation.baseline_comparison import BaselineComparison
from modeltrace.evaluation.concept_drift import DriftResult
from modeltrace.store.rows import label_key

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


class ResidualSums(NamedTuple):
    """Sums over a regressor's labelled predictions."""

    rows: int
    absolute_error: float  # sum of |error|
    squared_error: float  # sum of error²
    label_squares: float  # sum of (label - mean label)²
    absolute_error_squares: float  # sum of (|error| - mean |error|)²


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """The metrics of one class."""

    label: object
    precision: float
    recall: float
    f1: float
    predicted: int  # labelled predictions of this class
    support: int  # true labels of this class


class ConfusionCell(NamedTuple):
    """A cell of the confusion matrix."""

    label: object
    true_label: object
    rows: int


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


@dataclass(frozen=True, slots=True)
class MacroMeans:
    """The unweighted means over classes (`average="macro"`)."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ClassificationMetrics:
    """The metrics of a classifier."""

    accuracy: float
    macro: MacroMeans
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[ConfusionCell, ...]
    calibration: CalibrationMetrics | None


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """The metrics of a regressor; `r2` is `None` for fewer than two labels."""

    rows: int
    mean_absolute_error: float
    absolute_error_deviation: float  # standard deviation of the absolute errors
    absolute_error_quantiles: dict[float, float]  # numpy's default; that of 0.5 is `median_absolute_error`
    root_mean_squared_error: float
    r2: float | None


class PredictionRef(NamedTuple):
    """A reference to a prediction; `time` is nanoseconds since the epoch."""

    time: int
    prediction_id: str
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """The metrics of one model version over a selection of predictions.

    `model_hash` is set if several models have this name and version. `baseline` is `None` without labels, and if the
    errors for held-out rows are unknown. `drift_predictions` are the predictions at which drift was detected,
    if requested.
    """

    model_name: str
    model_version: str
    predictions: int
    labels: int
    label_delays: dict[float, float]  # seconds from prediction to label, by quantile
    classification: ClassificationMetrics | None = None
    regression: RegressionMetrics | None = None
    baseline: BaselineComparison | None = None
    drift: DriftResult | None = None
    error_rate: float | None = None  # since its last detected change; `None` if the errors are not right or wrong
    drift_predictions: tuple[PredictionRef, ...] = ()
    model_hash: str | None = None  # SHA-256 of the model's file
    segment: Mapping[str, str | None] | None = None  # name and value of a tag; the value is `None` without the tag
    period: tuple[int, int] | None = None  # start and end of the selection, if known; nanoseconds since the epoch

    @property
    def label_coverage(self) -> float | None:
        """The share of predictions with a label; `None` without predictions."""
        return self.labels / self.predictions if self.predictions else None


def classification_metrics(counts: Sequence[LabelledCount]) -> ClassificationMetrics | None:
    """Return the metrics of a classifier; `None` without labels."""
    rows = sum(count.rows for count in counts)
    if not rows:
        return None
    cells: Counter[tuple[object, object]] = Counter()
    predicted: Counter[object] = Counter()
    support: Counter[object] = Counter()
    correct: Counter[object] = Counter()
    labels: dict[object, object] = {}
    for count in counts:
        label, true = label_key(count.label), label_key(count.true_label)
        labels = {label: count.label, true: count.true_label} | labels
        cells[label, true] += count.rows
        predicted[label] += count.rows
        support[true] += count.rows
        correct[label] += count.rows if count.correct else 0
    keys = sorted(labels, key=lambda key: _sort_key(labels[key]))
    classes = tuple(_class_metrics(labels[key], correct[key], predicted[key], support[key]) for key in keys)
    return ClassificationMetrics(
        accuracy=sum(correct.values()) / rows,
        macro=MacroMeans(
            precision=_mean(entry.precision for entry in classes),
            recall=_mean(entry.recall for entry in classes),
            f1=_mean(entry.f1 for entry in classes),
        ),
        classes=classes,
        confusion=tuple(
            ConfusionCell(labels[label], labels[true], cells[label, true])
            for label in keys
            for true in keys
            if cells[label, true]
        ),
        calibration=_calibration_metrics([count for count in counts if count.bin is not None]),
    )


def regression_metrics(sums: ResidualSums, quantiles: dict[float, float]) -> RegressionMetrics | None:
    """Return the metrics of a regressor with the quantiles of its absolute errors; `None` without labels."""
    rows = sums.rows
    if not rows:
        return None
    r2 = None
    if rows > 1:
        constant_label_r2 = 1.0 if sums.squared_error == 0 else 0.0
        r2 = 1 - sums.squared_error / sums.label_squares if sums.label_squares > 0 else constant_label_r2
    deviation = math.sqrt(sums.absolute_error_squares / rows)
    return RegressionMetrics(
        rows, sums.absolute_error / rows, deviation, quantiles, math.sqrt(sums.squared_error / rows), r2
    )


def _class_metrics(label: object, correct: int, predicted: int, support: int) -> ClassMetrics:
    precision, recall = _ratio(correct, predicted), _ratio(correct, support)
    return ClassMetrics(label, precision, recall, _ratio(2 * correct, predicted + support), predicted, support)


def _calibration_metrics(counts: Sequence[LabelledCount]) -> CalibrationMetrics | None:
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


def _sort_key(label: object) -> tuple[bool, float, str]:
    """Sort numbers by value, then other labels as text."""
    return (False, float(label), "") if isinstance(label, int | float) else (True, 0.0, str(label))


def _ratio(part: int, total: int) -> float:
    return part / total if total else 0.0


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values)
