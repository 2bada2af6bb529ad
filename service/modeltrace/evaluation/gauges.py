"""Export metrics of models as gauges. Served versions and the classes of bundles limit the number of series."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from modeltrace.evaluation.baseline_comparison import STATE_NUMBERS, BaselineComparison
from modeltrace.evaluation.clustering import ClusteringMetrics
from modeltrace.evaluation.metrics import (
    ClassificationMetrics,
    ClassMeans,
    ClassMetrics,
    ModelMetrics,
    RegressionMetrics,
)
from modeltrace.evaluation.probability_metrics import ClassRanking, ProbabilityMetrics, RankingMeans
from modeltrace.store.rows import label_key
from modeltrace.telemetry.metrics import instruments
from modeltrace.telemetry.metrics.instruments import Instrument
from modeltrace.telemetry.names import (
    ML_EVALUATION_AVERAGE,
    ML_EVALUATION_LABEL,
    ML_MODEL_HASH,
    ML_MODEL_NAME,
    ML_MODEL_VERSION,
    ML_OUTPUT_NAME,
    QUANTILE,
)

if TYPE_CHECKING:  # its import takes a second
    from modeltrace.evaluation.expected_rows import ExpectedPerformance

_SECOND: Final = 10**9
# Gauges of a model with several outputs that are the same for each output.
_OF_ALL_OUTPUTS: Final = (
    instruments.EVALUATED_PREDICTIONS, instruments.LABEL_COVERAGE, instruments.LABEL_DELAY,
    instruments.EVALUATION_WINDOW, instruments.EVALUATION_TIME,
)  # fmt: skip


class GaugePoint(NamedTuple):
    """A value of a gauge and its attributes, without the attributes of the model."""

    instrument: Instrument
    value: float
    attributes: dict[str, str]


def register_gauges(
    meter: Meter,
    models: Callable[[], Mapping[str, Iterable[object]]],
    current_metrics: Callable[[], Sequence[ModelMetrics]],
) -> None:
    """Create the gauges.

    Args:
        meter: the meter of the gauges.
        models: returns the classes of each model, by its name.
        current_metrics: returns the metrics to export; without metrics the gauges have no points.
    """

    def callback_of(instrument: Instrument) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            classes = models()
            for metrics in current_metrics():
                model = {ML_MODEL_NAME: metrics.model_name, ML_MODEL_VERSION: metrics.model_version}
                if metrics.model_hash:
                    model[ML_MODEL_HASH] = metrics.model_hash
                known_labels = {label_key(label) for label in classes.get(metrics.model_name, ())}
                for point in metric_points(metrics, known_labels):
                    if point.instrument is instrument:
                        yield Observation(point.value, {**model, **point.attributes})

        return observe

    for gauge in instruments.EVALUATION_GAUGES:
        meter.create_observable_gauge(gauge.name, [callback_of(gauge)], gauge.unit, gauge.description)


def metric_points(metrics: ModelMetrics, known_labels: set[tuple[bool, object]]) -> Iterator[GaugePoint]:
    """Yield the points of one model version, or of one of its outputs.

    Classes whose `label_key` is not among `known_labels` are omitted.
    """
    if metrics.output is None:
        yield from _points(metrics, known_labels)
        return
    for point in _points(metrics, known_labels):
        if point.instrument not in _OF_ALL_OUTPUTS:
            yield point._replace(attributes={**point.attributes, ML_OUTPUT_NAME: metrics.output})


def _points(metrics: ModelMetrics, known_labels: set[tuple[bool, object]]) -> Iterator[GaugePoint]:
    yield GaugePoint(instruments.EVALUATED_PREDICTIONS, metrics.predictions, {})
    yield GaugePoint(instruments.LABELS, metrics.labels, {})
    if metrics.label_coverage is not None:
        yield GaugePoint(instruments.LABEL_COVERAGE, metrics.label_coverage, {})
    for quantile, delay in metrics.label_delays.items():
        yield GaugePoint(instruments.LABEL_DELAY, delay, {QUANTILE: str(quantile)})
    yield from _figures(metrics, known_labels)
    if metrics.baseline:
        yield from _baseline_points(metrics.baseline)
    if metrics.expected:
        yield from _expected_points(metrics.expected)
    if metrics.drift and metrics.drift.labels:
        yield GaugePoint(instruments.DRIFT_LEVEL, metrics.drift.level, {})
        if metrics.error_rate is not None:
            yield GaugePoint(instruments.DRIFT_ERROR_RATE, metrics.error_rate, {})
    if metrics.period:
        start, end = metrics.period
        yield GaugePoint(instruments.EVALUATION_WINDOW, (end - start) / _SECOND, {})
        yield GaugePoint(instruments.EVALUATION_TIME, end / _SECOND, {})


def _figures(metrics: ModelMetrics, known_labels: set[tuple[bool, object]]) -> Iterator[GaugePoint]:
    if metrics.classification:
        yield from _classification_points(metrics.classification, known_labels)
    if metrics.regression:
        yield from _regression_points(metrics.regression)
    if metrics.clustering:
        yield from _clustering_points(metrics.clustering)


def _expected_points(expected: "ExpectedPerformance") -> Iterator[GaugePoint]:
    """Yield the points of an estimate without labels; only its state if it does not exist or cannot be trusted."""
    accuracy, state = expected.accuracy, -1
    if accuracy is not None:
        state = 0 if expected.reason is None else 1
    yield GaugePoint(instruments.EXPECTED_STATE, state, {})
    if accuracy is None or state:
        return
    yield GaugePoint(instruments.EXPECTED_ACCURACY, accuracy.estimate, {})
    yield GaugePoint(instruments.EXPECTED_ACCURACY_LOW, accuracy.low, {})
    yield GaugePoint(instruments.EXPECTED_ACCURACY_HIGH, accuracy.high, {})
    for instrument, interval in (
        (instruments.EXPECTED_F1, expected.f1),
        (instruments.EXPECTED_ROC_AUC, expected.roc_auc),
    ):
        if interval is not None:
            yield GaugePoint(instrument, interval.estimate, {})


def _classification_points(
    metrics: ClassificationMetrics, known_labels: set[tuple[bool, object]]
) -> Iterator[GaugePoint]:
    """Yield the points of a classifier."""
    yield GaugePoint(instruments.ACCURACY, metrics.accuracy, {})
    yield GaugePoint(instruments.BALANCED_ACCURACY, metrics.balanced_accuracy, {})
    yield GaugePoint(instruments.MATTHEWS_CORRELATION, metrics.matthews_correlation, {})
    averages: list[tuple[dict[str, str], ClassMeans | ClassMetrics]] = [
        ({ML_EVALUATION_AVERAGE: "macro"}, metrics.macro),
        ({ML_EVALUATION_AVERAGE: "weighted"}, metrics.weighted),
    ]
    per_class = [
        ({ML_EVALUATION_LABEL: str(entry.label)}, entry)
        for entry in metrics.classes
        if label_key(entry.label) in known_labels
    ]
    for attributes, entry in averages + per_class:
        yield GaugePoint(instruments.PRECISION, entry.precision, attributes)
        yield GaugePoint(instruments.RECALL, entry.recall, attributes)
        yield GaugePoint(instruments.F1, entry.f1, attributes)
        if isinstance(entry, ClassMetrics):
            yield GaugePoint(instruments.CLASS_LABELS, entry.support, attributes)
    if metrics.probabilities:
        yield from _probability_points(metrics.probabilities)
    if (ranking := metrics.outlier_ranking) is not None:
        yield from _ranking_points([("macro", ranking), ("weighted", ranking)])
    if metrics.calibration:
        yield GaugePoint(instruments.CALIBRATION_ERROR, metrics.calibration.expected_calibration_error, {})
        yield GaugePoint(instruments.TOP_LABEL_BRIER_SCORE, metrics.calibration.top_label_brier_score, {})


def _probability_points(metrics: ProbabilityMetrics) -> Iterator[GaugePoint]:
    yield from _ranking_points([("macro", metrics.macro), ("weighted", metrics.weighted)])
    yield GaugePoint(instruments.LOG_LOSS, metrics.log_loss, {})
    yield GaugePoint(instruments.BRIER_SCORE, metrics.brier_score, {})


def _ranking_points(rankings: Sequence[tuple[str, RankingMeans | ClassRanking]]) -> Iterator[GaugePoint]:
    for average, means in rankings:
        if means.roc_auc is not None and means.average_precision is not None:
            yield GaugePoint(instruments.ROC_AUC, means.roc_auc, {ML_EVALUATION_AVERAGE: average})
            yield GaugePoint(instruments.AVERAGE_PRECISION, means.average_precision, {ML_EVALUATION_AVERAGE: average})


def _regression_points(metrics: RegressionMetrics) -> Iterator[GaugePoint]:
    yield GaugePoint(instruments.MEAN_ABSOLUTE_ERROR, metrics.mean_absolute_error, {})
    yield GaugePoint(instruments.ROOT_MEAN_SQUARED_ERROR, metrics.root_mean_squared_error, {})
    yield GaugePoint(instruments.BIAS, metrics.bias, {})
    if metrics.mean_absolute_percentage_error is not None:
        yield GaugePoint(instruments.MEAN_ABSOLUTE_PERCENTAGE_ERROR, metrics.mean_absolute_percentage_error, {})
    if metrics.r2 is not None:
        yield GaugePoint(instruments.R2, metrics.r2, {})
    for quantile, error in metrics.absolute_error_quantiles.items():
        yield GaugePoint(instruments.ABSOLUTE_ERROR, error, {QUANTILE: str(quantile)})
    if (intervals := metrics.intervals) is not None:
        yield GaugePoint(instruments.INTERVAL_LABELS, intervals.rows, {})
        yield GaugePoint(instruments.INTERVAL_COVERAGE, intervals.coverage, {})
        yield GaugePoint(instruments.INTERVAL_COVERAGE_LOW, intervals.low, {})
        yield GaugePoint(instruments.INTERVAL_COVERAGE_HIGH, intervals.high, {})
        yield GaugePoint(instruments.INTERVAL_LEVEL, intervals.level, {})
        yield GaugePoint(instruments.INTERVAL_WIDTH, intervals.mean_width, {})


def _clustering_points(metrics: ClusteringMetrics) -> Iterator[GaugePoint]:
    yield GaugePoint(instruments.ADJUSTED_RAND_INDEX, metrics.adjusted_rand_index, {})
    yield GaugePoint(instruments.HOMOGENEITY, metrics.homogeneity, {})
    yield GaugePoint(instruments.COMPLETENESS, metrics.completeness, {})
    yield GaugePoint(instruments.V_MEASURE, metrics.v_measure, {})
    yield GaugePoint(instruments.FOWLKES_MALLOWS, metrics.fowlkes_mallows, {})
    yield GaugePoint(instruments.PURITY, metrics.purity, {})


def _baseline_points(baseline: BaselineComparison) -> Iterator[GaugePoint]:
    yield GaugePoint(instruments.BASELINE_ERROR, baseline.baseline_error, {})
    yield GaugePoint(instruments.BASELINE_INCREASE, baseline.increase, {})
    yield GaugePoint(instruments.BASELINE_STANDARD_ERROR, baseline.increase_standard_error, {})
    yield GaugePoint(instruments.BASELINE_THRESHOLD, baseline.threshold, {})
    yield GaugePoint(instruments.BASELINE_STATE, STATE_NUMBERS[baseline.state], {})
