"""The instruments of the prediction path, and the Views that give all instruments their bounds and limits."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View
from opentelemetry.semconv.metrics.http_metrics import HTTP_SERVER_REQUEST_DURATION

from modeltrace.telemetry.metrics.exemplars import reservoir_factory
from modeltrace.telemetry.names import (
    CONFIDENCE_BOUNDS,
    DELAY_BOUNDS,
    DURATION_BOUNDS,
    ERROR_BOUNDS,
    METRIC_CONCEPT_DRIFT_ERROR_RATE,
    METRIC_CONCEPT_DRIFT_LEVEL,
    METRIC_CONFIDENCE,
    METRIC_CONFIDENCE_THRESHOLD,
    METRIC_DRIFT_CRITICAL_VALUE,
    METRIC_DRIFT_MIN_EFFECT,
    METRIC_EVALUATION_ACCURACY,
    METRIC_EVALUATION_BRIER_SCORE,
    METRIC_EVALUATION_CALIBRATION_ERROR,
    METRIC_EVALUATION_F1,
    METRIC_EVALUATION_LABEL_COVERAGE,
    METRIC_EVALUATION_LABEL_DELAY,
    METRIC_EVALUATION_LABELS,
    METRIC_EVALUATION_MEAN_ABSOLUTE_ERROR,
    METRIC_EVALUATION_PRECISION,
    METRIC_EVALUATION_PREDICTIONS,
    METRIC_EVALUATION_R2,
    METRIC_EVALUATION_RECALL,
    METRIC_EVALUATION_ROOT_MEAN_SQUARED_ERROR,
    METRIC_FEATURE_OBSERVATIONS,
    METRIC_FEATURE_REFERENCE,
    METRIC_FEATURE_REFERENCE_DEVIATION,
    METRIC_FEATURE_REFERENCE_MEAN,
    METRIC_FEATURE_REFERENCE_SIZE,
    METRIC_FEATURE_SUM,
    METRIC_FEEDBACK,
    METRIC_FEEDBACK_DELAY,
    METRIC_FEEDBACK_ERROR,
    METRIC_FEEDBACK_REJECTED,
    METRIC_INFERENCE_DURATION,
    METRIC_LOW_CONFIDENCE,
    METRIC_PREDICTION_REFERENCE,
    METRIC_PREDICTIONS,
    METRIC_REPEATED_LIMIT,
    METRIC_REPEATED_PREDICTIONS,
    METRIC_SYNTHETIC_PREDICTIONS,
    METRIC_VIOLATIONS,
)

# Series that a bundle may ask for: 300 features in 12 bins are 3,600.
MAX_BUNDLE_SERIES: Final = 50_000


class Instrument(NamedTuple):
    """What an instrument is called, and how it is aggregated: a histogram, or a counter if it has no bounds."""

    name: str
    unit: str
    description: str
    cardinality_limit: int  # of attribute sets
    bounds: tuple[float, ...] = ()


REQUEST_DURATION: Final = Instrument(
    HTTP_SERVER_REQUEST_DURATION, "s", "Duration of HTTP server requests.", 500, DURATION_BOUNDS
)
INFERENCE_DURATION: Final = Instrument(
    METRIC_INFERENCE_DURATION, "s", "Duration of one call of the model, for all its rows.", 100, DURATION_BOUNDS
)
CONFIDENCE: Final = Instrument(
    METRIC_CONFIDENCE, "1", "Probability that the model gave to the label it answered.", 1000, CONFIDENCE_BOUNDS
)
PREDICTIONS: Final = Instrument(METRIC_PREDICTIONS, "{prediction}", "Predictions answered.", 1000)
SYNTHETIC_PREDICTIONS: Final = Instrument(
    METRIC_SYNTHETIC_PREDICTIONS, "{prediction}", "Predictions answered to synthetic requests, in no other figure.", 100
)
LOW_CONFIDENCE: Final = Instrument(
    METRIC_LOW_CONFIDENCE, "{prediction}", "Predictions answered with less confidence than the bundle expects.", 100
)
VIOLATIONS: Final = Instrument(METRIC_VIOLATIONS, "{violation}", "Values that broke the feature schema.", 2000)
# Pairs of classes, five ages, versions: a hundred classes fill it. Which there are, the bundle says, not a client.
FEEDBACK: Final = Instrument(
    METRIC_FEEDBACK, "{label}", "True labels that arrived, by what was predicted.", MAX_BUNDLE_SERIES
)
FEEDBACK_DELAY: Final = Instrument(
    METRIC_FEEDBACK_DELAY, "s", "Time from a prediction to the arrival of its label.", 100, DELAY_BOUNDS
)
FEEDBACK_ERROR: Final = Instrument(
    METRIC_FEEDBACK_ERROR, "1", "Absolute difference between a predicted value and the true one.", 100, ERROR_BOUNDS
)
FEEDBACK_REJECTED: Final = Instrument(METRIC_FEEDBACK_REJECTED, "{label}", "Labels that were refused.", 100)
# How many features and bins there are, the bundle says, not a client.
FEATURE_OBSERVATIONS: Final = Instrument(
    METRIC_FEATURE_OBSERVATIONS, "{observation}", "Values of a feature in a bin.", MAX_BUNDLE_SERIES
)
FEATURE_SUM: Final = Instrument(
    METRIC_FEATURE_SUM, "1", "Sum of the values of a feature, by their sign.", MAX_BUNDLE_SERIES
)
FEATURE_REFERENCE: Final = Instrument(
    METRIC_FEATURE_REFERENCE, "1", "Share of the training data in a bin.", MAX_BUNDLE_SERIES
)
FEATURE_REFERENCE_MEAN: Final = Instrument(
    METRIC_FEATURE_REFERENCE_MEAN, "1", "Mean of a feature in the training data.", MAX_BUNDLE_SERIES
)
FEATURE_REFERENCE_DEVIATION: Final = Instrument(
    METRIC_FEATURE_REFERENCE_DEVIATION, "1", "Standard deviation of a feature in the training data.", MAX_BUNDLE_SERIES
)
REFERENCE_SIZE: Final = Instrument(
    METRIC_FEATURE_REFERENCE_SIZE,
    "{row}",
    "Rows that a reference was made of: of a feature, or of the model's answers.",
    MAX_BUNDLE_SERIES,
)
PREDICTION_REFERENCE: Final = Instrument(
    METRIC_PREDICTION_REFERENCE, "1", "Share of the model's answers before it was served.", 1000
)
CONFIDENCE_THRESHOLD: Final = Instrument(
    METRIC_CONFIDENCE_THRESHOLD, "1", "Confidence below which an answer is called low.", 100
)
REPEATED_PREDICTIONS: Final = Instrument(
    METRIC_REPEATED_PREDICTIONS,
    "{prediction}",
    "Predictions answered to a row that equals one of the last ones.",
    100,
)
REPEATED_LIMIT: Final = Instrument(
    METRIC_REPEATED_LIMIT, "1", "Share of repeated rows above which rows are not independent, and drift is unsure.", 100
)
DRIFT_MIN_EFFECT: Final = Instrument(METRIC_DRIFT_MIN_EFFECT, "1", "What a drift statistic must exceed to matter.", 100)
DRIFT_CRITICAL_VALUE: Final = Instrument(
    METRIC_DRIFT_CRITICAL_VALUE,
    "1",
    "What a drift statistic must exceed, scaled by sample sizes, not to be chance.",
    MAX_BUNDLE_SERIES,
)
# What a bundle says of a model, told as it is.
REFERENCE_GAUGES: Final = (
    FEATURE_REFERENCE,
    FEATURE_REFERENCE_MEAN,
    FEATURE_REFERENCE_DEVIATION,
    REFERENCE_SIZE,
    PREDICTION_REFERENCE,
    CONFIDENCE_THRESHOLD,
    REPEATED_LIMIT,
    DRIFT_MIN_EFFECT,
    DRIFT_CRITICAL_VALUE,
)

# Of labelled predictions, by version; PRECISION, RECALL and F1 by class, too.
ACCURACY: Final = Instrument(METRIC_EVALUATION_ACCURACY, "1", "Share of labelled predictions that are right.", 1000)
PRECISION: Final = Instrument(
    METRIC_EVALUATION_PRECISION, "1", "Of what was answered so, the share that is.", MAX_BUNDLE_SERIES
)
RECALL: Final = Instrument(
    METRIC_EVALUATION_RECALL, "1", "Of what is so, the share that was answered so.", MAX_BUNDLE_SERIES
)
F1: Final = Instrument(METRIC_EVALUATION_F1, "1", "Harmonic mean of precision and recall.", MAX_BUNDLE_SERIES)
CALIBRATION_ERROR: Final = Instrument(
    METRIC_EVALUATION_CALIBRATION_ERROR, "1", "Expected calibration error, over ten bins of the confidence.", 1000
)
BRIER_SCORE: Final = Instrument(
    METRIC_EVALUATION_BRIER_SCORE, "1", "Mean squared distance of the confidence from being right.", 1000
)
MEAN_ABSOLUTE_ERROR: Final = Instrument(
    METRIC_EVALUATION_MEAN_ABSOLUTE_ERROR, "1", "Mean distance of value and label.", 1000
)
ROOT_MEAN_SQUARED_ERROR: Final = Instrument(
    METRIC_EVALUATION_ROOT_MEAN_SQUARED_ERROR, "1", "Root of the mean squared distance of value and label.", 1000
)
R2: Final = Instrument(METRIC_EVALUATION_R2, "1", "Share of the labels' variance that the model explains.", 1000)
EVALUATED_PREDICTIONS: Final = Instrument(
    METRIC_EVALUATION_PREDICTIONS, "{prediction}", "Predictions of the window.", 1000
)
LABELS: Final = Instrument(METRIC_EVALUATION_LABELS, "{label}", "Predictions of the window that have a label.", 1000)
LABEL_COVERAGE: Final = Instrument(METRIC_EVALUATION_LABEL_COVERAGE, "1", "Share of them.", 1000)
LABEL_DELAY: Final = Instrument(
    METRIC_EVALUATION_LABEL_DELAY, "s", "Time from prediction to label that a share of labels does not exceed.", 1000
)
DRIFT_LEVEL: Final = Instrument(
    METRIC_CONCEPT_DRIFT_LEVEL, "{level}", "0: the rate of errors is stable, 1: a warning, 2: it has risen.", 1000
)
DRIFT_ERROR_RATE: Final = Instrument(
    METRIC_CONCEPT_DRIFT_ERROR_RATE, "1", "Rate of errors since it was last found to have risen.", 1000
)
EVALUATION_GAUGES: Final = (
    ACCURACY, PRECISION, RECALL, F1, CALIBRATION_ERROR, BRIER_SCORE, MEAN_ABSOLUTE_ERROR, ROOT_MEAN_SQUARED_ERROR, R2,
    EVALUATED_PREDICTIONS, LABELS, LABEL_COVERAGE, LABEL_DELAY, DRIFT_LEVEL, DRIFT_ERROR_RATE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instruments:
    """What the prediction path records into."""

    inference_duration: Histogram
    predictions: Counter
    confidence: Histogram
    low_confidence: Counter
    violations: Counter
    synthetic: Counter


def build_instruments(meter: Meter) -> Instruments:
    """Create each instrument once."""
    duration, confidence = (
        meter.create_histogram(one.name, one.unit, one.description) for one in (INFERENCE_DURATION, CONFIDENCE)
    )
    predictions, low_confidence, violations, synthetic = (
        meter.create_counter(one.name, one.unit, one.description)
        for one in (PREDICTIONS, LOW_CONFIDENCE, VIOLATIONS, SYNTHETIC_PREDICTIONS)
    )
    return Instruments(duration, predictions, confidence, low_confidence, violations, synthetic)


def build_views() -> list[View]:
    """Bounds where the alerts look, exemplars worth following, and a limit to what clients can make us keep."""
    return [
        *(
            View(
                instrument_name=one.name,
                aggregation=ExplicitBucketHistogramAggregation(boundaries=one.bounds) if one.bounds else None,
                exemplar_reservoir_factory=reservoir_factory,
                aggregation_cardinality_limit=one.cardinality_limit,
            )
            for one in (
                *(REQUEST_DURATION, INFERENCE_DURATION, CONFIDENCE, PREDICTIONS, LOW_CONFIDENCE, VIOLATIONS),
                SYNTHETIC_PREDICTIONS,
                *(FEEDBACK, FEEDBACK_DELAY, FEEDBACK_ERROR, FEEDBACK_REJECTED),
            )
        ),
        *(
            View(instrument_name=one.name, aggregation_cardinality_limit=one.cardinality_limit)
            for one in (FEATURE_OBSERVATIONS, FEATURE_SUM, REPEATED_PREDICTIONS, *REFERENCE_GAUGES, *EVALUATION_GAUGES)
        ),
        # The stock bounds are for milliseconds.
        View(
            instrument_name="otel.sdk.*.duration",
            aggregation=ExplicitBucketHistogramAggregation(boundaries=DURATION_BOUNDS),
        ),
        # The instrumentation keeps the response's size on itself, not on the request: wrong under concurrency.
        View(instrument_name="http.server.*.body.size", aggregation=DropAggregation()),
    ]
