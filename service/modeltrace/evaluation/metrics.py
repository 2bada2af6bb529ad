"""The figures themselves, from counts: how often a model is right, how sure it may be, how far off.

Names and formulas are scikit-learn's (`accuracy_score`, `precision_recall_fscore_support`, `brier_score_loss`,
`mean_absolute_error`, `r2_score`, …), so are its conventions: a share of nothing is 0, and a mean over classes is over
those that were answered or true. No database here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from modeltrace.evaluation.concept_drift import DriftResult
from modeltrace.store.rows import label_key

# Bins of the confidence, all equally wide: the bin `i` holds EDGES[i-1] < c <= EDGES[i].
N_BINS: Final = 10
BIN_EDGES: Final = tuple(place * (1 / N_BINS) for place in range(1, N_BINS))


class LabelledCount(NamedTuple):
    """Labelled predictions of one answer, one true label and one bin of the confidence."""

    label: object
    true_label: object
    correct: bool
    bin: int | None  # None where the model gave no confidence
    rows: int
    confidence_sum: float  # the sum of it
    squared_error_sum: float  # the sum of (confidence - right)²


class ResidualSums(NamedTuple):
    """Sums over labelled predictions of a regressor: of |error|, error², and (label - mean label)²."""

    rows: int
    absolute_error: float
    squared_error: float
    total_squares: float


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """How one class fares."""

    label: object
    precision: float
    recall: float
    f1: float
    predicted: int  # labelled predictions that say so
    support: int  # labels that say so


class ConfusionCell(NamedTuple):
    """A cell of the confusion matrix."""

    label: object
    true_label: object
    rows: int


class CalibrationBin(NamedTuple):
    """A bin of the confidence: what was said, and what came of it. `confidence` and `accuracy` are means."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class CalibrationMetrics:
    """Whether a model is right as often as it says, over predictions that have a confidence."""

    expected_calibration_error: float
    brier_score: float
    bins: tuple[CalibrationBin, ...]  # those that are not empty


@dataclass(frozen=True, slots=True)
class ClassificationMetrics:
    """How well a classifier does; the means are over classes, each counting the same."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[ConfusionCell, ...]
    calibration: CalibrationMetrics | None


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """How well a regressor does; `r2` is `None` below two labels."""

    rows: int
    mean_absolute_error: float
    root_mean_squared_error: float
    r2: float | None


class PredictionRef(NamedTuple):
    """A prediction: nanoseconds since the epoch, and where it is found."""

    time: int
    prediction_id: str
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """Everything about one version of a model, over some predictions."""

    model_name: str
    model_version: str
    predictions: int
    labels: int
    label_delays: dict[float, float]  # seconds from prediction to label, by quantile
    classification: ClassificationMetrics | None = None
    regression: RegressionMetrics | None = None
    drift: DriftResult | None = None
    drift_predictions: tuple[PredictionRef, ...] = ()  # the predictions at which drift was found, if that was asked for
    model_hash: str | None = None  # SHA-256 of its file, where several models have this name and version

    @property
    def label_coverage(self) -> float | None:
        """The share of predictions that have their label; `None` without predictions."""
        return self.labels / self.predictions if self.predictions else None


def classification_metrics(counted: Sequence[LabelledCount]) -> ClassificationMetrics | None:
    """The figures of a classifier; `None` without labels. Labels that are one are given as one object."""
    rows = sum(one.rows for one in counted)
    if not rows:
        return None
    cells: Counter[tuple[object, object]] = Counter()
    answered: Counter[object] = Counter()
    support: Counter[object] = Counter()
    right: Counter[object] = Counter()
    labels: dict[object, object] = {}
    for one in counted:
        said, true = label_key(one.label), label_key(one.true_label)
        labels = {said: one.label, true: one.true_label} | labels
        cells[said, true] += one.rows
        answered[said] += one.rows
        support[true] += one.rows
        right[said] += one.rows if one.correct else 0
    order = sorted(labels, key=lambda name: _sort_key(labels[name]))
    classes = tuple(_class_metrics(labels[name], right[name], answered[name], support[name]) for name in order)
    return ClassificationMetrics(
        accuracy=sum(right.values()) / rows,
        precision=_mean(one.precision for one in classes),
        recall=_mean(one.recall for one in classes),
        f1=_mean(one.f1 for one in classes),
        classes=classes,
        confusion=tuple(
            ConfusionCell(labels[said], labels[true], cells[said, true])
            for said in order
            for true in order
            if cells[said, true]
        ),
        calibration=_calibrate([one for one in counted if one.bin is not None]),
    )


def regression_metrics(sums: ResidualSums) -> RegressionMetrics | None:
    """The figures of a regressor; `None` without labels."""
    rows = sums.rows
    if not rows:
        return None
    r2 = None
    if rows > 1:
        perfect = 1.0 if sums.squared_error == 0 else 0.0
        r2 = 1 - sums.squared_error / sums.total_squares if sums.total_squares > 0 else perfect
    return RegressionMetrics(rows, sums.absolute_error / rows, math.sqrt(sums.squared_error / rows), r2)


def _class_metrics(label: object, right: int, answered: int, support: int) -> ClassMetrics:
    return ClassMetrics(
        label, _ratio(right, answered), _ratio(right, support), _ratio(2 * right, answered + support), answered, support
    )


def _calibrate(counted: Sequence[LabelledCount]) -> CalibrationMetrics | None:
    """Expected calibration error (Naeini, Cooper, Hauskrecht: AAAI 2015): the mean of |accuracy - confidence|.

    The mean is over predictions, each with those of its bin.
    """
    total = sum(one.rows for one in counted)
    if not total:
        return None
    bins = []
    for place in range(N_BINS):
        these = [one for one in counted if one.bin == place]
        if rows := sum(one.rows for one in these):
            confidence = math.fsum(one.confidence_sum for one in these) / rows
            accuracy = sum(one.rows for one in these if one.correct) / rows
            low, high = (0.0, *BIN_EDGES, 1.0)[place : place + 2]
            bins.append(CalibrationBin(low, high, rows, confidence, accuracy))
    error = math.fsum(one.rows * abs(one.accuracy - one.confidence) for one in bins) / total
    return CalibrationMetrics(error, math.fsum(one.squared_error_sum for one in counted) / total, tuple(bins))


def _sort_key(label: object) -> tuple[bool, float, str]:
    """Numbers by their size, then the rest by what they say."""
    return (False, float(label), "") if isinstance(label, int | float) else (True, 0.0, str(label))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _mean(values: Iterable[float]) -> float:
    all_of_them = list(values)
    return math.fsum(all_of_them) / len(all_of_them)
