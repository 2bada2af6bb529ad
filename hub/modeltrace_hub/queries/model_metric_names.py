"""The names of the metrics that model_metrics.py reads."""

from typing import Final

PREDICTIONS: Final = "ml.predictions"
SYNTHETIC: Final = "ml.predictions.synthetic"
CONFIDENCE: Final = "ml.prediction.confidence"
LOW_CONFIDENCE_PREDICTIONS: Final = "ml.predictions.low_confidence"
REPEATED: Final = "ml.predictions.repeated"
REPEATED_LIMIT: Final = "ml.predictions.repeated.limit"
VIOLATIONS: Final = "ml.data.violations"
FEEDBACK: Final = "ml.feedback"
FEEDBACK_ERRORS: Final = "ml.feedback.error"
REJECTED_FEEDBACK: Final = "ml.feedback.rejected"
LOW_CONFIDENCE_STATISTIC: Final = "low_confidence"
CONFIDENCE_THRESHOLD: Final = "ml.prediction.confidence.threshold"
LOW_CONFIDENCE_REFERENCE: Final = "ml.prediction.low_confidence.reference"
HELD_OUT_ROWS: Final = "ml.prediction.reference.held_out"
COUNTERS: Final = (
    *(PREDICTIONS, SYNTHETIC, REPEATED, CONFIDENCE, LOW_CONFIDENCE_PREDICTIONS, VIOLATIONS),
    *(FEEDBACK, FEEDBACK_ERRORS, REJECTED_FEEDBACK),
)
DRIFT_COUNTERS: Final = (
    *(PREDICTIONS, VIOLATIONS, "ml.feature.observations", "ml.feature.sum", "ml.predictions.pairs"),
    *("ml.feature.successive_difference", "ml.prediction.successive_difference"),
    *("ml.output.observations", "ml.output.successive_difference"),
)

EVALUATION: Final = "ml.evaluation."
# Metrics of a model version; the others have attributes.
SCORES: Final = (
    *("accuracy", "balanced_accuracy", "matthews_correlation"),
    *("log_loss", "brier_score", "calibration_error", "top_label_brier_score"),
    *("mean_absolute_error", "root_mean_squared_error", "bias", "mean_absolute_percentage_error", "r2"),
    *("adjusted_rand_index", "homogeneity", "completeness", "v_measure", "fowlkes_mallows", "purity"),
    *("predictions", "labels", "label_coverage"),
)
# Metrics of the prediction intervals of a regressor.
INTERVAL_SCORES: Final = ("labels", "coverage", "coverage.low", "coverage.high", "level", "width")
INTERVAL: Final = "ml.evaluation.interval."
# The means over classes: unweighted, and by the number of true labels of each class.
AVERAGES: Final = ("macro", "weighted")
_EVALUATION_GAUGES: Final = (
    *SCORES, "precision", "recall", "f1", "roc_auc", "average_precision", "label_delay", "absolute_error", "window",
    "time",
    *(f"interval.{name}" for name in INTERVAL_SCORES),
    "baseline.error", "baseline.increase", "baseline.standard_error", "baseline.threshold", "baseline.state",
)  # fmt: skip
EVALUATED_PREDICTIONS: Final = "ml.evaluation.predictions"
BASELINE: Final = "ml.evaluation.baseline."
BASELINE_STATES: Final[dict[float, str]] = {1: "worse", 0: "ok", -1: "not enough labels", -2: "baseline too small"}
CONCEPT_DRIFT: Final = "ml.concept_drift."
CONCEPT_DRIFT_LEVELS: Final = ("stable", "drift")
LEVEL: Final = "ml.concept_drift.level"
ERROR_RATE: Final = "ml.concept_drift.error_rate"
MIN_EFFECT: Final = "ml.drift.min_effect"
CRITICAL_VALUE: Final = "ml.drift.critical_value"
GAUGES: Final = (
    *(CONFIDENCE_THRESHOLD, LOW_CONFIDENCE_REFERENCE, HELD_OUT_ROWS, REPEATED_LIMIT),
    *(MIN_EFFECT, CRITICAL_VALUE, LEVEL, ERROR_RATE),
    *(f"{EVALUATION}{name}" for name in _EVALUATION_GAUGES),
)
