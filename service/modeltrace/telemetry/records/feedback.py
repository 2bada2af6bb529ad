"""What one request with true labels leaves behind, beside the record of the request itself.

Plain values that cross a pipe, as in `modeltrace.telemetry.records.prediction`; it says by itself which model each
label is about. Large requests leave several, one for each part that was stored at a time.
"""

from typing import Final, NamedTuple

from modeltrace.telemetry.names import (
    ML_FEEDBACK_AGE,
    ML_FEEDBACK_LABEL,
    ML_FEEDBACK_VALUE,
    ML_MODEL_NAME,
    ML_MODEL_VERSION,
    ML_PREDICTION_ID,
    ML_PREDICTION_LABEL,
    ML_PREDICTION_TRACE_ID,
    ML_PREDICTION_VALUE,
    SYNTHETIC,
)

# The logger whose records are made of these; over OTLP it is a scope.
FEEDBACK_LOGGER: Final = "modeltrace.feedback"
# Ages of predictions when their labels arrive, in seconds; the last is any other.
AGE_BUCKETS: Final = (("1h", 3600), ("1d", 86_400), ("7d", 604_800), ("30d", 2_592_000))
OLDER: Final = "older"
_NO_TRACE: Final = bytes(16)

LabelValue = str | float  # a class as text, or a value
Attributes = dict[str, str | int | float | bool]


class TrueLabel(NamedTuple):
    """A label that was new, and the prediction that it is about."""

    prediction_id: str
    trace_id: bytes  # the prediction's; zeros when that was made without telemetry
    span_id: bytes
    prediction_time: int  # the prediction's, to the millisecond
    model_version: str  # the one that predicted
    label: LabelValue
    predicted: LabelValue

    @property
    def has_trace(self) -> bool:
        """Whether there was a trace."""
        return self.trace_id != _NO_TRACE

    @property
    def absolute_error(self) -> float | None:
        """The absolute error of a regressor; none of a classifier."""
        if isinstance(self.label, str) or isinstance(self.predicted, str):
            return None
        return abs(self.label - self.predicted)

    @property
    def is_wrong(self) -> bool:
        """Whether another class was predicted."""
        return isinstance(self.label, str) and self.label != self.predicted

    def message(self) -> str:
        """It in words."""
        return f"labelled {self.label}, predicted {self.predicted}"


class FeedbackRecord(NamedTuple):
    """Labels that were stored together, and how many were refused with them."""

    trace_id: bytes  # of the SERVER span that they came with, as in `Request`
    span_id: bytes
    trace_state: str
    trace_flags: int
    pinned: bool
    start: int
    end: int  # when they were stored: they have arrived
    model_name: str
    model_version: str  # the one that serves, for what is refused
    labels: tuple[TrueLabel, ...]
    rejected: tuple[tuple[str, int], ...]  # by `error.type`
    synthetic: bool = False  # the labels of synthetic traffic: in no figure

    def label_delay(self, one: TrueLabel) -> float:
        """Seconds from a prediction to its label; clocks of replicas may differ."""
        return max(self.end - one.prediction_time, 0) / 1e9

    def age_bucket(self, one: TrueLabel) -> str:
        """The bucket of that."""
        delay = self.label_delay(one)
        return next((name for name, most in AGE_BUCKETS if delay <= most), OLDER)

    def model_attributes(self, one: TrueLabel) -> dict[str, str]:
        """What every metric point about a label carries."""
        return {ML_MODEL_NAME: self.model_name, ML_MODEL_VERSION: one.model_version}

    def metric_attributes(self, one: TrueLabel) -> dict[str, str]:
        """What the point that counts a label carries."""
        classes = {}
        if isinstance(one.label, str):
            classes = {ML_FEEDBACK_LABEL: one.label, ML_PREDICTION_LABEL: str(one.predicted)}
        return {**self.model_attributes(one), **classes, ML_FEEDBACK_AGE: self.age_bucket(one)}

    def event_attributes(self, one: TrueLabel) -> Attributes:
        """What the span and the log record of a label say."""
        said: Attributes = {**self.metric_attributes(one), ML_PREDICTION_ID: one.prediction_id}
        if not isinstance(one.label, str):
            said |= {ML_FEEDBACK_VALUE: one.label, ML_PREDICTION_VALUE: one.predicted}
        if one.has_trace:
            said[ML_PREDICTION_TRACE_ID] = one.trace_id.hex()
        return {**said, SYNTHETIC: True} if self.synthetic else said


def plain(one: FeedbackRecord) -> tuple[object, ...]:
    """A record as `marshal` takes it."""
    return (*one[:-3], tuple(map(tuple, one.labels)), one.rejected, one.synthetic)


def feedback(fields: tuple[object, ...]) -> FeedbackRecord:
    """The inverse of `plain`."""
    *head, labels, rejected, synthetic = fields
    return FeedbackRecord(*head, tuple(map(TrueLabel._make, labels)), rejected, bool(synthetic))  # type: ignore[arg-type, call-arg, call-overload]  # as `plain` took them apart
