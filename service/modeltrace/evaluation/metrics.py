"""Compute classification and regression metrics from counts and sums.

Names, formulas and conventions are those of scikit-learn (`accuracy_score`, `precision_recall_fscore_support`,
`mean_absolute_error`, `r2_score`, …). A ratio with a denominator of 0 is 0. A mean over classes
includes each class that occurs as a predicted or true label. This module has no database code.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from modeltrace.evaluation.baseline_comparison import BaselineComparison
from modeltrace.evaluation.calibration import CalibrationMetrics, LabelledCount, calibration_metrics
from modeltrace.evaluation.clustering import ClusteringMetrics
from modeltrace.evaluation.concept_drift import DriftResult
from modeltrace.evaluation.interval_coverage import IntervalCoverage
from modeltrace.evaluation.probability_metrics import ClassRanking, ProbabilityMetrics
from modeltrace.store.rows import label_key

if TYPE_CHECKING:  # its import takes a second
    from modeltrace.evaluation.expected_rows import ExpectedPerformance


class ResidualSums(NamedTuple):
    """Sums over a regressor's labelled predictions."""

    rows: int
    absolute_error: float  # sum of |error|
    squared_error: float  # sum of error²
    label_squares: float  # sum of (label - mean label)²
    absolute_error_squares: float  # sum of (|error| - mean |error|)²
    error: float  # sum of value - label
    relative_error: float  # sum of |error| / |label|
    zero_labels: int  # labels that are 0


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


@dataclass(frozen=True, slots=True)
class ClassMeans:
    """The means over classes: unweighted (`average="macro"`), or by the number of true labels (`"weighted"`)."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ClassificationMetrics:
    """The metrics of a classifier or an outlier detector.

    `probabilities` is `None` if the store has none of labelled predictions. `outlier_ranking` is how well the score of
    an outlier detector separates outliers; `None` for a classifier.
    """

    accuracy: float
    balanced_accuracy: float  # the mean recall of the classes that are a true label
    matthews_correlation: float  # from -1 to 1; 0 if all predictions or all labels are equal
    macro: ClassMeans
    weighted: ClassMeans
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[ConfusionCell, ...]
    calibration: CalibrationMetrics | None
    probabilities: ProbabilityMetrics | None = None
    outlier_ranking: ClassRanking | None = None


@dataclass(frozen=True, slots=True)
class TrueValueGroup:
    """The errors for labels from `low` to `high`: one of four groups, divided at the quartiles of the labels."""

    low: float
    high: float
    rows: int
    bias: float
    median_absolute_error: float


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """The metrics of a regressor.

    `r2` is `None` for fewer than two labels, `mean_absolute_percentage_error` if a label is 0, and `intervals` if no
    labelled prediction has an interval.
    """

    rows: int
    mean_absolute_error: float
    absolute_error_deviation: float  # standard deviation of the absolute errors
    absolute_error_quantiles: dict[float, float]  # numpy's default; that of 0.5 is `median_absolute_error`
    root_mean_squared_error: float
    bias: float  # mean of value - label; negative if the model predicts too little
    mean_absolute_percentage_error: float | None  # a share, as in scikit-learn: 0.1 is 10 %
    r2: float | None
    true_value_groups: tuple[TrueValueGroup, ...] = ()
    intervals: IntervalCoverage | None = None


class PredictionRef(NamedTuple):
    """A reference to a prediction; `time` is nanoseconds since the epoch."""

    time: int
    prediction_id: str
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """The metrics of one model version over a selection of predictions.

    A model with several outputs has metrics without figures, and metrics of each output with true labels; `output` is
    its name. `model_hash` is set if several models have this name and version. `baseline` is `None` without labels, and
    if the errors for held-out rows are unknown. `drift_predictions` are the predictions at which drift was detected, if
    requested.
    """

    model_name: str
    model_version: str
    predictions: int
    labels: int
    label_delays: dict[float, float]  # seconds from prediction to label, by quantile
    classification: ClassificationMetrics | None = None
    regression: RegressionMetrics | None = None
    clustering: ClusteringMetrics | None = None
    baseline: BaselineComparison | None = None
    drift: DriftResult | None = None
    error_rate: float | None = None  # since its last detected change; `None` if the errors are not right or wrong
    drift_predictions: tuple[PredictionRef, ...] = ()
    model_hash: str | None = None  # SHA-256 of the model's file
    output: str | None = None
    segment: Mapping[str, str | None] | None = None  # name and value of a tag; the value is `None` without the tag
    expected: "ExpectedPerformance | None" = None  # estimated without labels; only where it is published
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
    hits = sum(correct.values())
    classes = tuple(_class_metrics(labels[key], correct[key], predicted[key], support[key]) for key in keys)
    return ClassificationMetrics(
        accuracy=hits / rows,
        balanced_accuracy=_means(classes, [1 if entry.support else 0 for entry in classes]).recall,
        matthews_correlation=_matthews_correlation(rows, hits, classes),
        macro=_means(classes, [1] * len(classes)),
        weighted=_means(classes, [entry.support for entry in classes]),
        classes=classes,
        confusion=tuple(
            ConfusionCell(labels[label], labels[true], cells[label, true])
            for label in keys
            for true in keys
            if cells[label, true]
        ),
        calibration=calibration_metrics([count for count in counts if count.bin is not None]),
    )


def regression_metrics(
    sums: ResidualSums,
    quantiles: dict[float, float],
    groups: tuple[TrueValueGroup, ...],
    intervals: IntervalCoverage | None,
) -> RegressionMetrics | None:
    """Return the metrics of a regressor with the quantiles of its absolute errors; `None` without labels."""
    rows = sums.rows
    if not rows:
        return None
    r2 = None
    if rows > 1:
        constant_label_r2 = 1.0 if sums.squared_error == 0 else 0.0
        # The sum of squares of equal labels may not be 0, because their mean is rounded.
        varied = sums.label_squares > 0 and groups[0].low < groups[-1].high
        r2 = 1 - sums.squared_error / sums.label_squares if varied else constant_label_r2
    deviation = math.sqrt(sums.absolute_error_squares / rows)
    return RegressionMetrics(
        rows=rows,
        mean_absolute_error=sums.absolute_error / rows,
        absolute_error_deviation=deviation,
        absolute_error_quantiles=quantiles,
        root_mean_squared_error=math.sqrt(sums.squared_error / rows),
        bias=sums.error / rows,
        mean_absolute_percentage_error=None if sums.zero_labels else sums.relative_error / rows,
        r2=r2,
        true_value_groups=groups,
        intervals=intervals,
    )


def _class_metrics(label: object, correct: int, predicted: int, support: int) -> ClassMetrics:
    precision, recall = _ratio(correct, predicted), _ratio(correct, support)
    return ClassMetrics(label, precision, recall, _ratio(2 * correct, predicted + support), predicted, support)


def _sort_key(label: object) -> tuple[bool, float, str]:
    """Sort numbers by value (0 before false), then other labels as text."""
    return (
        (False, float(label), type(label).__name__ if isinstance(label, bool) else "")
        if isinstance(label, int | float)
        else (True, 0.0, str(label))
    )


def _ratio(part: int, total: int) -> float:
    return part / total if total else 0.0


def _means(classes: Sequence[ClassMetrics], weights: Sequence[int]) -> ClassMeans:
    total = sum(weights)

    def mean(values: Iterable[float]) -> float:
        return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / total

    return ClassMeans(
        mean(entry.precision for entry in classes),
        mean(entry.recall for entry in classes),
        mean(entry.f1 for entry in classes),
    )


def _matthews_correlation(rows: int, correct: int, classes: Sequence[ClassMetrics]) -> float:
    """Return Matthews' correlation for any number of classes (Gorodkin: Comput. Biol. Chem. 28, 2004)."""
    covariance = correct * rows - sum(entry.predicted * entry.support for entry in classes)
    predicted = rows**2 - sum(entry.predicted**2 for entry in classes)
    true = rows**2 - sum(entry.support**2 for entry in classes)
    return covariance / math.sqrt(predicted * true) if predicted * true else 0.0
