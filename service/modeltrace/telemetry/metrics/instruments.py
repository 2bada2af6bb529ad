"""Instruments for predictions, with their bounds and cardinality limits."""

from typing import Final, NamedTuple

from opentelemetry.semconv.metrics.http_metrics import HTTP_SERVER_REQUEST_DURATION

# Bounds in seconds. Alerts use 0.3 and 0.5, because a percentile between two bounds is only an estimate.
DURATION_BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
CONFIDENCE_BOUNDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# Seconds between a prediction and its label, including the bounds of the age buckets.
DELAY_BOUNDS: Final = (
    1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0, 7_776_000.0,
)  # fmt: skip
# Absolute errors of a regressor, in any unit: two bounds per decade.
ERROR_BOUNDS: Final = (
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6,
)  # fmt: skip
# Limit of the series of one bundle. 300 features with 12 bins need 3,600.
MAX_BUNDLE_SERIES: Final = 50_000


class Instrument(NamedTuple):
    """Definition of an instrument: a histogram if it has bounds, otherwise a counter or a gauge."""

    name: str
    unit: str
    description: str
    cardinality_limit: int  # number of attribute sets
    bounds: tuple[float, ...] = ()


REQUEST_DURATION: Final = Instrument(
    HTTP_SERVER_REQUEST_DURATION, "s", "Duration of HTTP server requests.", 500, DURATION_BOUNDS
)
INFERENCE_DURATION: Final = Instrument(
    "ml.inference.duration", "s", "Duration of one call of the model.", 100, DURATION_BOUNDS
)
CONFIDENCE: Final = Instrument(
    "ml.prediction.confidence", "1", "Probability of the predicted label.", 1000, CONFIDENCE_BOUNDS
)
PREDICTIONS: Final = Instrument("ml.predictions", "{prediction}", "Number of predictions.", 1000)
SYNTHETIC_PREDICTIONS: Final = Instrument(
    "ml.predictions.synthetic", "{prediction}", "Number of predictions for synthetic requests.", 100
)
LOW_CONFIDENCE: Final = Instrument(
    "ml.predictions.low_confidence", "{prediction}", "Number of predictions with low confidence.", 100
)
VIOLATIONS: Final = Instrument(
    "ml.data.violations", "{violation}", "Number of values that violate the feature schema.", 2000
)
# One series per pair of classes, age (five) and version: 100 classes reach the limit. Clients cannot add classes.
FEEDBACK: Final = Instrument("ml.feedback", "{label}", "Number of true labels that arrived.", MAX_BUNDLE_SERIES)
FEEDBACK_DELAY: Final = Instrument(
    "ml.feedback.delay", "s", "Time from a prediction to the arrival of its label.", 100, DELAY_BOUNDS
)
FEEDBACK_ERROR: Final = Instrument("ml.feedback.error", "1", "Absolute error of a predicted value.", 100, ERROR_BOUNDS)
FEEDBACK_REJECTED: Final = Instrument("ml.feedback.rejected", "{label}", "Number of rejected labels.", 100)
# The bundle defines the number of features and bins; clients cannot add any.
FEATURE_OBSERVATIONS: Final = Instrument(
    "ml.feature.observations", "{observation}", "Number of values of a feature in a bin.", MAX_BUNDLE_SERIES
)
FEATURE_SUM: Final = Instrument(
    "ml.feature.sum", "1", "Sum of the values of a feature, by their sign.", MAX_BUNDLE_SERIES
)
FEATURE_DIFFERENCE: Final = Instrument(
    "ml.feature.successive_difference",
    "1",
    "Sum of half the squared differences between consecutive requests.",
    MAX_BUNDLE_SERIES,
)
FEATURE_REFERENCE: Final = Instrument(
    "ml.feature.reference", "1", "Share of the training data in a bin.", MAX_BUNDLE_SERIES
)
FEATURE_REFERENCE_MEAN: Final = Instrument(
    "ml.feature.reference.mean", "1", "Mean of a feature in the training data.", MAX_BUNDLE_SERIES
)
FEATURE_REFERENCE_DEVIATION: Final = Instrument(
    "ml.feature.reference.deviation", "1", "Standard deviation of a feature in the training data.", MAX_BUNDLE_SERIES
)
REFERENCE_SCORE: Final = Instrument(
    "ml.feature.reference.score", "1", "Normal score of a bin of numbers.", MAX_BUNDLE_SERIES
)
REFERENCE_SIZE: Final = Instrument(
    "ml.feature.reference.size", "{row}", "Number of rows of a reference distribution.", MAX_BUNDLE_SERIES
)
PREDICTION_REFERENCE: Final = Instrument(
    "ml.prediction.reference", "1", "Share of the model's predictions before it was served.", 1000
)
OUTPUT_REFERENCE: Final = Instrument(
    "ml.output.reference", "1", "Share of a named output in a bin before the model was served.", MAX_BUNDLE_SERIES
)
OUTPUT_OBSERVATIONS: Final = Instrument(
    "ml.output.observations", "{prediction}", "Number of predictions by the bin of a named output.", MAX_BUNDLE_SERIES
)
OUTPUT_DIFFERENCE: Final = Instrument(
    "ml.output.successive_difference",
    "1",
    "Sum of half the squared differences between the named outputs of consecutive requests.",
    MAX_BUNDLE_SERIES,
)
CONFIDENCE_THRESHOLD: Final = Instrument(
    "ml.prediction.confidence.threshold", "1", "Confidence below which it counts as low.", 100
)
HELD_OUT_ROWS: Final = Instrument(
    "ml.prediction.reference.held_out", "{row}", "Number of held-out rows whose predictions are the reference.", 100
)
LOW_CONFIDENCE_REFERENCE: Final = Instrument(
    "ml.prediction.low_confidence.reference", "1", "Share of held-out predictions with low confidence.", 100
)
REPEATED_PREDICTIONS: Final = Instrument(
    "ml.predictions.repeated", "{prediction}", "Number of predictions for repeated rows.", 100
)
PREDICTION_DIFFERENCE: Final = Instrument(
    "ml.prediction.successive_difference",
    "1",
    "Sum of half the squared differences between the predictions of consecutive requests.",
    100,
)
REQUEST_PAIRS: Final = Instrument(
    "ml.predictions.pairs", "{pair}", "Number of pairs of consecutive requests that are compared.", 100
)
REPEATED_LIMIT: Final = Instrument(
    "ml.predictions.repeated.limit", "1", "Share of repeated rows above which drift is uncertain.", 100
)
DRIFT_MIN_EFFECT: Final = Instrument(
    "ml.drift.min_effect", "1", "Value above which a drift statistic is relevant.", 100
)
DRIFT_CRITICAL_VALUE: Final = Instrument(
    "ml.drift.critical_value", "1", "Value above which a drift statistic is significant.", MAX_BUNDLE_SERIES
)
MODEL_LOADED: Final = Instrument("ml.model.loaded", "{model}", "Model in use, by the hash of its file; always 1.", 100)
# Reference data of a bundle.
REFERENCE_GAUGES: Final = (
    FEATURE_REFERENCE, FEATURE_REFERENCE_MEAN, FEATURE_REFERENCE_DEVIATION, REFERENCE_SCORE, REFERENCE_SIZE,
    PREDICTION_REFERENCE, OUTPUT_REFERENCE, CONFIDENCE_THRESHOLD, HELD_OUT_ROWS, LOW_CONFIDENCE_REFERENCE,
    REPEATED_LIMIT, DRIFT_MIN_EFFECT, DRIFT_CRITICAL_VALUE, MODEL_LOADED,
)  # fmt: skip

# Metrics of labelled predictions, by version; precision, recall and F1 also by class.
ACCURACY: Final = Instrument("ml.evaluation.accuracy", "1", "Share of labelled predictions that are correct.", 1000)
BALANCED_ACCURACY: Final = Instrument("ml.evaluation.balanced_accuracy", "1", "Mean recall of the classes.", 1000)
MATTHEWS_CORRELATION: Final = Instrument(
    "ml.evaluation.matthews_correlation", "1", "Matthews' correlation of predicted and true labels, -1 to 1.", 1000
)
ROC_AUC: Final = Instrument(
    "ml.evaluation.roc_auc", "1", "Area under the ROC curve of the positive class, or mean over classes.", 1000
)
AVERAGE_PRECISION: Final = Instrument(
    "ml.evaluation.average_precision", "1", "Average precision of the positive class, or mean over classes.", 1000
)
LOG_LOSS: Final = Instrument(
    "ml.evaluation.log_loss", "1", "Mean of -ln p, where p is the probability of the true label.", 1000
)
BRIER_SCORE: Final = Instrument(
    "ml.evaluation.brier_score", "1", "Mean squared error of the probabilities of all classes.", 1000
)
PRECISION: Final = Instrument(
    "ml.evaluation.precision", "1", "Share of the predictions of a class that are correct.", MAX_BUNDLE_SERIES
)
RECALL: Final = Instrument(
    "ml.evaluation.recall", "1", "Share of the rows of a class that were predicted correctly.", MAX_BUNDLE_SERIES
)
F1: Final = Instrument("ml.evaluation.f1", "1", "Harmonic mean of precision and recall.", MAX_BUNDLE_SERIES)
CLASS_LABELS: Final = Instrument(
    "ml.evaluation.class_labels", "{label}", "Number of true labels of a class.", MAX_BUNDLE_SERIES
)
EXPECTED_ACCURACY: Final = Instrument(
    "ml.evaluation.expected.accuracy", "1", "Accuracy of recent predictions, estimated without their labels.", 1000
)
EXPECTED_ACCURACY_LOW: Final = Instrument(
    "ml.evaluation.expected.accuracy.low", "1", "Lower bound of the 95 % interval of the estimated accuracy.", 1000
)
EXPECTED_ACCURACY_HIGH: Final = Instrument(
    "ml.evaluation.expected.accuracy.high", "1", "Upper bound of the 95 % interval of the estimated accuracy.", 1000
)
EXPECTED_F1: Final = Instrument(
    "ml.evaluation.expected.f1", "1", "F1 of the positive class, estimated without labels.", 1000
)
EXPECTED_ROC_AUC: Final = Instrument(
    "ml.evaluation.expected.roc_auc", "1", "Area under the ROC curve, estimated without labels.", 1000
)
EXPECTED_STATE: Final = Instrument(
    "ml.evaluation.expected.state",
    "{state}",
    "0: the estimate is valid, 1: labels that have arrived contradict it, -1: there is no estimate.",
    1000,
)
CALIBRATION_ERROR: Final = Instrument(
    "ml.evaluation.calibration_error", "1", "Expected calibration error, over ten bins of the confidence.", 1000
)
TOP_LABEL_BRIER_SCORE: Final = Instrument(
    "ml.evaluation.top_label_brier_score", "1", "Mean squared error of the predicted label's confidence.", 1000
)
MEAN_ABSOLUTE_ERROR: Final = Instrument(
    "ml.evaluation.mean_absolute_error", "1", "Mean absolute error of the predicted values.", 1000
)
ROOT_MEAN_SQUARED_ERROR: Final = Instrument(
    "ml.evaluation.root_mean_squared_error", "1", "Root mean squared error of the predicted values.", 1000
)
BIAS: Final = Instrument("ml.evaluation.bias", "1", "Mean of predicted value minus label.", 1000)
MEAN_ABSOLUTE_PERCENTAGE_ERROR: Final = Instrument(
    "ml.evaluation.mean_absolute_percentage_error", "1", "Mean of the absolute errors divided by the labels.", 1000
)
R2: Final = Instrument("ml.evaluation.r2", "1", "Share of the labels' variance that the model explains.", 1000)
ABSOLUTE_ERROR: Final = Instrument(
    "ml.evaluation.absolute_error", "1", "Quantile of the absolute error of the predicted values.", 1000
)
ADJUSTED_RAND_INDEX: Final = Instrument(
    "ml.evaluation.adjusted_rand_index", "1", "Agreement of clusters and true classes, corrected for chance.", 1000
)
HOMOGENEITY: Final = Instrument(
    "ml.evaluation.homogeneity", "1", "How far each cluster has rows of a single true class.", 1000
)
COMPLETENESS: Final = Instrument(
    "ml.evaluation.completeness", "1", "How far the rows of each true class are in a single cluster.", 1000
)
V_MEASURE: Final = Instrument("ml.evaluation.v_measure", "1", "Harmonic mean of homogeneity and completeness.", 1000)
FOWLKES_MALLOWS: Final = Instrument(
    "ml.evaluation.fowlkes_mallows", "1", "Geometric mean of precision and recall over pairs of rows.", 1000
)
PURITY: Final = Instrument(
    "ml.evaluation.purity", "1", "Share of rows that are of the most frequent class of their cluster.", 1000
)
INTERVAL_LABELS: Final = Instrument(
    "ml.evaluation.interval.labels", "{label}", "Number of labelled predictions with a prediction interval.", 1000
)
INTERVAL_COVERAGE: Final = Instrument(
    "ml.evaluation.interval.coverage", "1", "Share of labels inside of the prediction interval.", 1000
)
INTERVAL_COVERAGE_LOW: Final = Instrument(
    "ml.evaluation.interval.coverage.low", "1", "Lower bound of the 95 % interval of the coverage.", 1000
)
INTERVAL_COVERAGE_HIGH: Final = Instrument(
    "ml.evaluation.interval.coverage.high", "1", "Upper bound of the 95 % interval of the coverage.", 1000
)
INTERVAL_LEVEL: Final = Instrument(
    "ml.evaluation.interval.level", "1", "Share of labels that the prediction intervals should enclose.", 1000
)
INTERVAL_WIDTH: Final = Instrument("ml.evaluation.interval.width", "1", "Mean width of the prediction intervals.", 1000)
BASELINE_ERROR: Final = Instrument(
    "ml.evaluation.baseline.error", "1", "Error rate or mean absolute error for held-out rows.", 1000
)
BASELINE_INCREASE: Final = Instrument(
    "ml.evaluation.baseline.increase", "1", "Increase of the error over the baseline.", 1000
)
BASELINE_STANDARD_ERROR: Final = Instrument(
    "ml.evaluation.baseline.standard_error", "1", "Standard error of the increase over the baseline.", 1000
)
BASELINE_THRESHOLD: Final = Instrument(
    "ml.evaluation.baseline.threshold", "1", "Increase above which the model is worse than for held-out rows.", 1000
)
BASELINE_STATE: Final = Instrument(
    "ml.evaluation.baseline.state",
    "{state}",
    "1: worse than for held-out rows, 0: not worse, -1: not enough labels, -2: too few held-out rows.",
    1000,
)
EVALUATION_WINDOW: Final = Instrument("ml.evaluation.window", "s", "Length of the evaluation window.", 1000)
EVALUATION_TIME: Final = Instrument("ml.evaluation.time", "s", "Unix time at which the evaluation window ends.", 1000)
EVALUATED_PREDICTIONS: Final = Instrument(
    "ml.evaluation.predictions", "{prediction}", "Number of predictions in the evaluation window.", 1000
)
LABELS: Final = Instrument(
    "ml.evaluation.labels", "{label}", "Number of labelled predictions in the evaluation window.", 1000
)
LABEL_COVERAGE: Final = Instrument("ml.evaluation.label_coverage", "1", "Share of labelled predictions.", 1000)
LABEL_DELAY: Final = Instrument(
    "ml.evaluation.label_delay", "s", "Quantile of the time from a prediction to its label.", 1000
)
DRIFT_LEVEL: Final = Instrument(
    "ml.concept_drift.level", "{level}", "0: the error rate is stable, 1: it has risen.", 1000
)
DRIFT_ERROR_RATE: Final = Instrument(
    "ml.concept_drift.error_rate", "1", "Error rate since its last detected change.", 1000
)
EVALUATION_GAUGES: Final = (
    ACCURACY, BALANCED_ACCURACY, MATTHEWS_CORRELATION, PRECISION, RECALL, F1, ROC_AUC, AVERAGE_PRECISION, LOG_LOSS,
    BRIER_SCORE, CALIBRATION_ERROR, TOP_LABEL_BRIER_SCORE, MEAN_ABSOLUTE_ERROR, ROOT_MEAN_SQUARED_ERROR, BIAS,
    MEAN_ABSOLUTE_PERCENTAGE_ERROR, R2, ABSOLUTE_ERROR, INTERVAL_LABELS, INTERVAL_COVERAGE, INTERVAL_COVERAGE_LOW,
    INTERVAL_COVERAGE_HIGH, INTERVAL_LEVEL, INTERVAL_WIDTH, BASELINE_ERROR, BASELINE_INCREASE, BASELINE_STANDARD_ERROR,
    BASELINE_THRESHOLD, BASELINE_STATE, EVALUATION_WINDOW, EVALUATION_TIME, EVALUATED_PREDICTIONS, LABELS,
    LABEL_COVERAGE, LABEL_DELAY, DRIFT_LEVEL, DRIFT_ERROR_RATE, CLASS_LABELS, EXPECTED_ACCURACY, EXPECTED_ACCURACY_LOW,
    EXPECTED_ACCURACY_HIGH, EXPECTED_F1, EXPECTED_ROC_AUC, EXPECTED_STATE, ADJUSTED_RAND_INDEX, HOMOGENEITY,
    COMPLETENESS, V_MEASURE, FOWLKES_MALLOWS, PURITY,
)  # fmt: skip


# Instruments whose exemplars are chosen by `PriorityReservoir`.
WITH_EXEMPLARS: Final = (
    REQUEST_DURATION, INFERENCE_DURATION, CONFIDENCE, PREDICTIONS, LOW_CONFIDENCE, VIOLATIONS, SYNTHETIC_PREDICTIONS,
    FEEDBACK, FEEDBACK_DELAY, FEEDBACK_ERROR, FEEDBACK_REJECTED,
)  # fmt: skip
