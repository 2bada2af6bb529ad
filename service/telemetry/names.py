"""Every name that Modeltrace adds to OpenTelemetry's own, and the bounds of its histograms.

Where a stable semantic convention exists it is used, from `opentelemetry.semconv`. There is none for classic machine
learning, hence `ml.*`. docs/telemetry.md explains each; a test holds the two together.
"""

from typing import Final

# Spans: children of the request's SERVER span, in this order.
SPAN_VALIDATE: Final = "validate"
SPAN_QUEUE: Final = "queue"
SPAN_FEATURES: Final = "features"
SPAN_INFERENCE: Final = "inference"
# One call of the model that answered several requests: a root span, linked to each of them.
SPAN_BATCH: Final = "batch"
# The same rows put to a challenger, whose answer is only recorded: a child of the request's SERVER span.
SPAN_SHADOW: Final = "shadow"

# Attributes
ML_MODEL_NAME: Final = "ml.model.name"
ML_MODEL_VERSION: Final = "ml.model.version"
ML_MODEL_HASH: Final = "ml.model.hash"
ML_MODEL_ROLE: Final = "ml.model.role"
ML_PREDICTION_ID: Final = "ml.prediction.id"
ML_PREDICTION_LABEL: Final = "ml.prediction.label"
ML_PREDICTION_VALUE: Final = "ml.prediction.value"
ML_PREDICTION_CONFIDENCE: Final = "ml.prediction.confidence"
ML_PREDICTION_ROW: Final = "ml.prediction.row"
ML_PREDICTION_SHADOW_OF: Final = "ml.prediction.shadow_of"
ML_PREDICTION_INPUTS: Final = "ml.prediction.inputs"
ML_BATCH_SIZE: Final = "ml.inference.batch.size"
ML_REJECTED_ROWS: Final = "ml.inference.batch.rejected"
ML_LOWEST_CONFIDENCE: Final = "ml.inference.batch.lowest_confidence"
ML_FEATURE_NAME: Final = "ml.feature.name"
ML_FEATURE_BIN: Final = "ml.feature.bin"
ML_FEATURE_SIGN: Final = "ml.feature.sign"
ML_VIOLATION_REASON: Final = "ml.data.violation.reason"
ML_VIOLATION_ROWS: Final = "ml.data.violation.rows"

# Events
EVENT_PREDICTION: Final = "ml.prediction"
EVENT_VIOLATION: Final = "ml.data.violation"

# Metrics
METRIC_INFERENCE_DURATION: Final = "ml.inference.duration"
METRIC_PREDICTIONS: Final = "ml.predictions"
METRIC_CONFIDENCE: Final = "ml.prediction.confidence"
METRIC_VIOLATIONS: Final = "ml.data.violations"
METRIC_OBSERVATIONS: Final = "ml.feature.observations"
METRIC_SUM: Final = "ml.feature.sum"
METRIC_REFERENCE: Final = "ml.feature.reference"
METRIC_REFERENCE_MEAN: Final = "ml.feature.reference.mean"

# Baggage: a request that carries it keeps its place as exemplar, and says so on its span for whoever samples.
BAGGAGE_PIN: Final = "modeltrace.pin"

# Seconds. 0.3 and 0.5 are where the alerts look; a percentile cannot be sharper than its bounds.
DURATION_BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
CONFIDENCE_BOUNDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
