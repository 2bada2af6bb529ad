"""Records of true labels, in addition to the record of the request that sent them.

These records contain plain values, as in `modeltrace.telemetry.records.prediction`. A large request creates several
records, one for each transaction.
"""

from typing import Final, NamedTuple

from opentelemetry.semconv._incubating.attributes.enduser_attributes import ENDUSER_ID
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from modeltrace.telemetry.names import (
    ML_FEEDBACK_AGE,
    ML_FEEDBACK_CLASS,
    ML_FEEDBACK_LABEL,
    ML_FEEDBACK_OUTPUTS,
    ML_FEEDBACK_VALUE,
    ML_MODEL_NAME,
    ML_MODEL_VERSION,
    ML_PREDICTION_ID,
    ML_PREDICTION_LABEL,
    ML_PREDICTION_TRACE_ID,
    ML_PREDICTION_VALUE,
    SYNTHETIC,
)
from modeltrace.telemetry.records.prediction import INVALID_TRACE_ID

# The logger of log records about labels. In OTLP it is the instrumentation scope.
FEEDBACK_LOGGER: Final = "modeltrace.feedback"
# Buckets of the age of a prediction when its label arrives, in seconds; `OLDER` is any other age.
AGE_BUCKETS: Final = (("1h", 3600), ("1d", 86_400), ("7d", 604_800), ("30d", 2_592_000))
OLDER: Final = "older"

LabelValue = str | float  # a class as text, or the value of a regressor
OutputLabels = dict[str, str | int | float | bool]  # true labels of several outputs by name, those that are known
Attributes = dict[str, str | int | float | bool]


class TrueLabel(NamedTuple):
    """A new label, and the prediction that it belongs to.

    The true classes of the rows of a clusterer are not known to its bundle. There may be any number of them, so they
    are in spans and log records, but not in metrics. Labels of several outputs are in log records only.
    """

    prediction_id: str
    trace_id: bytes  # of the prediction; zeros if it was made without telemetry
    span_id: bytes
    prediction_time: int  # nanoseconds since the epoch, with a resolution of 1 ms
    model_version: str  # of the model that made the prediction
    label: LabelValue | OutputLabels
    predicted: LabelValue  # "" for several outputs
    is_class_of_cluster: bool = False

    @property
    def has_trace(self) -> bool:
        """Whether the prediction has a trace."""
        return self.trace_id != INVALID_TRACE_ID

    @property
    def absolute_error(self) -> float | None:
        """The absolute error of a regressor; `None` for a classifier."""
        if not isinstance(self.label, int | float) or isinstance(self.predicted, str):
            return None
        return abs(self.label - self.predicted)

    @property
    def classes(self) -> tuple[str, str] | None:
        """The true and the predicted class of a classifier; `None` for another model."""
        if not isinstance(self.label, str) or self.is_class_of_cluster:
            return None
        return self.label, str(self.predicted)

    @property
    def is_wrong(self) -> bool:
        """Whether a classifier predicted another class."""
        return self.classes is not None and self.label != self.predicted

    def message(self) -> str:
        """Return the body of a log record."""
        if isinstance(self.label, dict):
            return f"labelled {len(self.label)} outputs"
        kind = "cluster " if self.is_class_of_cluster else ""
        return f"labelled {self.label}, predicted {kind}{self.predicted}"


class FeedbackRecord(NamedTuple):
    """Labels that were stored in one transaction, and how many were rejected with them."""

    trace_id: bytes  # of the SERVER span of the request that sent the labels, as in `RequestRecord`
    span_id: bytes
    trace_state: str
    trace_flags: int
    pinned: bool
    start: int
    end: int  # when the labels were stored; used as their time of arrival
    model_name: str
    model_version: str  # of the primary model; rejected labels are counted for it
    labels: tuple[TrueLabel, ...]
    rejected: tuple[tuple[str, int], ...]  # by `error.type`
    synthetic: bool = False  # labels of generated traffic, which metrics leave out
    api_key_name: str = ""  # of the client that sent the labels; "": it has no key, or one without a name

    def label_delay(self, label: TrueLabel) -> float:
        """Return the seconds from a prediction to its label; 0 if clock skew between replicas makes it negative."""
        return max(self.end - label.prediction_time, 0) / 1e9

    def age_bucket(self, label: TrueLabel) -> str:
        """Return the bucket of the delay."""
        delay = self.label_delay(label)
        return next((name for name, upper in AGE_BUCKETS if delay <= upper), OLDER)

    def model_attributes(self, label: TrueLabel) -> dict[str, str]:
        """Return the attributes of every metric point of a label."""
        return {ML_MODEL_NAME: self.model_name, ML_MODEL_VERSION: label.model_version}

    def metric_attributes(self, label: TrueLabel) -> dict[str, str]:
        """Return the attributes of the point that counts a label."""
        classes = {}
        if label.classes is not None:
            classes = dict(zip((ML_FEEDBACK_LABEL, ML_PREDICTION_LABEL), label.classes, strict=True))
        return {**self.model_attributes(label), **classes, ML_FEEDBACK_AGE: self.age_bucket(label)}

    def log_attributes(self, label: TrueLabel) -> "dict[str, str | float | bool | OutputLabels]":
        """Return the attributes of the log record of a label. The labels of several outputs are a map."""
        outputs = {ML_FEEDBACK_OUTPUTS: label.label} if isinstance(label.label, dict) else {}
        return {**self.span_attributes(label), **outputs}

    def span_attributes(self, label: TrueLabel) -> Attributes:
        """Return the attributes of the span of a label."""
        attributes: Attributes = {**self.metric_attributes(label), ML_PREDICTION_ID: label.prediction_id}
        if label.is_class_of_cluster:
            attributes |= {ML_FEEDBACK_CLASS: str(label.label), ML_PREDICTION_LABEL: str(label.predicted)}
        elif isinstance(label.label, int | float):
            attributes |= {ML_FEEDBACK_VALUE: label.label, ML_PREDICTION_VALUE: label.predicted}
        if label.has_trace:
            attributes[ML_PREDICTION_TRACE_ID] = label.trace_id.hex()
        if self.api_key_name:
            attributes[ENDUSER_ID] = self.api_key_name
        return {**attributes, SYNTHETIC: True} if self.synthetic else attributes

    def rejection_attributes(self, reason: str) -> dict[str, str]:
        """Return the attributes of the point that counts rejected labels. They count for the primary model."""
        return {ML_MODEL_NAME: self.model_name, ML_MODEL_VERSION: self.model_version, ERROR_TYPE: reason}
