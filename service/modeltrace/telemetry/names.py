"""Names of spans, attributes and events that Modeltrace adds to the semantic conventions.

Names with a stable semantic convention come from `opentelemetry.semconv`. There is no convention for classic machine
learning, so this module defines names with the prefix `ml.`. Metrics are in `modeltrace.telemetry.metrics.instruments`.
docs/telemetry.md explains each name; a test compares the two.
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
# Rows of a file that `modeltrace score` predicts with one call of the model: a root span with the stages as children.
SPAN_SCORE: Final = "score"
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
ML_PREDICTION_EXTERNAL_ID: Final = "ml.prediction.external_id"
ML_PREDICTION_LABEL: Final = "ml.prediction.label"
ML_PREDICTION_BIN: Final = "ml.prediction.bin"
ML_PREDICTION_VALUE: Final = "ml.prediction.value"
ML_PREDICTION_OUTPUTS: Final = "ml.prediction.outputs"
ML_PREDICTION_CONFIDENCE: Final = "ml.prediction.confidence"
ML_PREDICTION_INTERVAL_LOW: Final = "ml.prediction.interval.low"
ML_PREDICTION_INTERVAL_HIGH: Final = "ml.prediction.interval.high"
ML_PREDICTION_INTERVAL_LEVEL: Final = "ml.prediction.interval.level"
ML_PREDICTION_TRACE_ID: Final = "ml.prediction.trace_id"
ML_PREDICTION_ROW: Final = "ml.prediction.row"
ML_PREDICTION_SHADOW_OF: Final = "ml.prediction.shadow_of"
ML_PREDICTION_INPUTS: Final = "ml.prediction.inputs"
# Prefix of the attributes of a request's tags: `ml.tag.NAME`.
ML_TAG: Final = "ml.tag"
ML_BATCH_SIZE: Final = "ml.inference.batch.size"
ML_BATCH_REJECTED: Final = "ml.inference.batch.rejected"
ML_BATCH_LOWEST_CONFIDENCE: Final = "ml.inference.batch.lowest_confidence"
ML_FEATURE_NAME: Final = "ml.feature.name"
ML_FEATURE_BIN: Final = "ml.feature.bin"
ML_FEATURE_SIGN: Final = "ml.feature.sign"
ML_OUTPUT_NAME: Final = "ml.output.name"
ML_OUTPUT_BIN: Final = "ml.output.bin"
ML_DRIFT_STATISTIC: Final = "ml.drift.statistic"
ML_VIOLATION_REASON: Final = "ml.data.violation.reason"
ML_VIOLATION_ROWS: Final = "ml.data.violation.rows"
ML_FEEDBACK_LABEL: Final = "ml.feedback.label"
ML_FEEDBACK_VALUE: Final = "ml.feedback.value"
ML_FEEDBACK_CLASS: Final = "ml.feedback.class"
ML_FEEDBACK_OUTPUTS: Final = "ml.feedback.outputs"
ML_FEEDBACK_AGE: Final = "ml.feedback.age"
ML_EVALUATION_LABEL: Final = "ml.evaluation.label"
ML_EVALUATION_AVERAGE: Final = "ml.evaluation.average"
QUANTILE: Final = "quantile"
ML_VIOLATION_ACTION: Final = "ml.data.violation.action"

# Events
EVENT_PREDICTION: Final = "ml.prediction"
EVENT_VIOLATION: Final = "ml.data.violation"
EVENT_MODEL: Final = "ml.model"
EVENT_FEEDBACK: Final = "ml.feedback"

# Baggage: pins a request, so that it is preferred as exemplar. It is also an attribute of its span, for tail samplers.
BAGGAGE_PIN: Final = "modeltrace.pin"
# Baggage: marks a request as synthetic traffic, with a token that is derived from the service's key
# (`modeltrace.keys.derive_synthetic_token`). It is also an attribute of its span and of its prediction log records.
SYNTHETIC: Final = "modeltrace.synthetic"

# The number of items that the sidecar keeps on disk, and what the items of each signal are called in messages.
METRIC_SPOOLED: Final = "modeltrace.sidecar.spooled"
ITEM_NAMES: Final = {"traces": "spans", "logs": "log records", "metrics": "metric points"}
