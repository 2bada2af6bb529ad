"""Names of telemetry that Modeltrace adds to the semantic conventions, and the bounds of its histograms.

Names with a stable semantic convention come from `opentelemetry.semconv`. There is no convention for classic machine
learning, so this module defines names with the prefix `ml.`. docs/telemetry.md explains each name; a test compares the
two.
"""

from typing import Final

# Spans: children of the SERVER span of a request, in this order.
SPAN_VALIDATE: Final = "validate"
SPAN_QUEUE: Final = "queue"
SPAN_FEATURES: Final = "features"
SPAN_INFERENCE: Final = "inference"
# One call of the model for several requests: a root span, linked to each of them.
SPAN_BATCH: Final = "batch"
# Predictions of a challenger for a shadow request: a child of the SERVER span.
SPAN_SHADOW: Final = "shadow"
# One true label: a child of the SERVER span of its request, linked to the SERVER span of its prediction.
SPAN_FEEDBACK: Final = "feedback"

# Attributes
ML_MODEL_NAME: Final = "ml.model.name"
ML_MODEL_VERSION: Final = "ml.model.version"
ML_MODEL_HASH: Final = "ml.model.hash"
ML_MODEL_ROLE: Final = "ml.model.role"
ML_MODEL_PART: Final = "ml.model.part"
ML_MODEL_PARTS: Final = "ml.model.parts"
ML_PREDICTION_ID: Final = "ml.prediction.id"
ML_PREDICTION_LABEL: Final = "ml.prediction.label"
ML_PREDICTION_BIN: Final = "ml.prediction.bin"
ML_PREDICTION_VALUE: Final = "ml.prediction.value"
ML_PREDICTION_CONFIDENCE: Final = "ml.prediction.confidence"
ML_PREDICTION_TRACE_ID: Final = "ml.prediction.trace_id"
ML_PREDICTION_ROW: Final = "ml.prediction.row"
ML_PREDICTION_SHADOW_OF: Final = "ml.prediction.shadow_of"
ML_PREDICTION_INPUTS: Final = "ml.prediction.inputs"
ML_BATCH_SIZE: Final = "ml.inference.batch.size"
ML_BATCH_REJECTED: Final = "ml.inference.batch.rejected"
ML_BATCH_LOWEST_CONFIDENCE: Final = "ml.inference.batch.lowest_confidence"
ML_FEATURE_NAME: Final = "ml.feature.name"
ML_FEATURE_BIN: Final = "ml.feature.bin"
ML_FEATURE_SIGN: Final = "ml.feature.sign"
ML_DRIFT_STATISTIC: Final = "ml.drift.statistic"
ML_VIOLATION_REASON: Final = "ml.data.violation.reason"
ML_VIOLATION_ROWS: Final = "ml.data.violation.rows"
ML_FEEDBACK_LABEL: Final = "ml.feedback.label"
ML_FEEDBACK_VALUE: Final = "ml.feedback.value"
ML_FEEDBACK_AGE: Final = "ml.feedback.age"
ML_EVALUATION_LABEL: Final = "ml.evaluation.label"
QUANTILE: Final = "quantile"
ML_VIOLATION_ACTION: Final = "ml.data.violation.action"

# Events
EVENT_PREDICTION: Final = "ml.prediction"
EVENT_VIOLATION: Final = "ml.data.violation"
EVENT_MODEL: Final = "ml.model"
EVENT_FEEDBACK: Final = "ml.feedback"

# Metrics
METRIC_INFERENCE_DURATION: Final = "ml.inference.duration"
METRIC_PREDICTIONS: Final = "ml.predictions"
METRIC_SYNTHETIC_PREDICTIONS: Final = "ml.predictions.synthetic"
METRIC_REPEATED_PREDICTIONS: Final = "ml.predictions.repeated"
METRIC_REPEATED_LIMIT: Final = "ml.predictions.repeated.limit"
METRIC_CONFIDENCE: Final = "ml.prediction.confidence"
METRIC_LOW_CONFIDENCE: Final = "ml.predictions.low_confidence"
METRIC_CONFIDENCE_THRESHOLD: Final = "ml.prediction.confidence.threshold"
METRIC_PREDICTION_REFERENCE: Final = "ml.prediction.reference"
METRIC_VIOLATIONS: Final = "ml.data.violations"
METRIC_FEATURE_OBSERVATIONS: Final = "ml.feature.observations"
METRIC_FEATURE_SUM: Final = "ml.feature.sum"
METRIC_FEATURE_REFERENCE: Final = "ml.feature.reference"
METRIC_FEATURE_REFERENCE_MEAN: Final = "ml.feature.reference.mean"
METRIC_FEEDBACK: Final = "ml.feedback"
METRIC_FEEDBACK_DELAY: Final = "ml.feedback.delay"
METRIC_FEEDBACK_ERROR: Final = "ml.feedback.error"
METRIC_FEEDBACK_REJECTED: Final = "ml.feedback.rejected"
METRIC_EVALUATION_PREDICTIONS: Final = "ml.evaluation.predictions"
METRIC_EVALUATION_LABELS: Final = "ml.evaluation.labels"
METRIC_EVALUATION_LABEL_COVERAGE: Final = "ml.evaluation.label_coverage"
METRIC_EVALUATION_LABEL_DELAY: Final = "ml.evaluation.label_delay"
METRIC_EVALUATION_ACCURACY: Final = "ml.evaluation.accuracy"
METRIC_EVALUATION_PRECISION: Final = "ml.evaluation.precision"
METRIC_EVALUATION_RECALL: Final = "ml.evaluation.recall"
METRIC_EVALUATION_F1: Final = "ml.evaluation.f1"
METRIC_EVALUATION_CALIBRATION_ERROR: Final = "ml.evaluation.calibration_error"
METRIC_EVALUATION_BRIER_SCORE: Final = "ml.evaluation.brier_score"
METRIC_EVALUATION_MEAN_ABSOLUTE_ERROR: Final = "ml.evaluation.mean_absolute_error"
METRIC_EVALUATION_ROOT_MEAN_SQUARED_ERROR: Final = "ml.evaluation.root_mean_squared_error"
METRIC_EVALUATION_R2: Final = "ml.evaluation.r2"
METRIC_CONCEPT_DRIFT_LEVEL: Final = "ml.concept_drift.level"
METRIC_CONCEPT_DRIFT_ERROR_RATE: Final = "ml.concept_drift.error_rate"
METRIC_FEATURE_REFERENCE_DEVIATION: Final = "ml.feature.reference.deviation"
METRIC_FEATURE_REFERENCE_SIZE: Final = "ml.feature.reference.size"
METRIC_DRIFT_MIN_EFFECT: Final = "ml.drift.min_effect"
METRIC_DRIFT_CRITICAL_VALUE: Final = "ml.drift.critical_value"

# Baggage: pins a request, so that it is a preferred exemplar. It is also an attribute of its span, for tail samplers.
BAGGAGE_PIN: Final = "modeltrace.pin"
# Baggage: marks a request as synthetic traffic, with a token that is derived from the service's key
# (`modeltrace.keys.derive_synthetic_token`). It is also an attribute of its span and of its prediction log records.
SYNTHETIC: Final = "modeltrace.synthetic"

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
