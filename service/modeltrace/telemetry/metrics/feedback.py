"""Metrics of true labels, counted from their records.

`ml.feedback` is a confusion matrix: the number of labels by true class, predicted class, version and age. Exemplars
refer to the spans of the predictions, not to the requests that sent the labels. A user can therefore open the trace of
a wrong prediction, unless it was not sampled; this is not known here.
"""

from collections.abc import Iterable
from typing import NamedTuple

from modeltrace.telemetry.metrics.exemplars import FAILED, LATEST, PINNED
from modeltrace.telemetry.metrics.instruments import FEEDBACK, FEEDBACK_DELAY, FEEDBACK_ERROR, FEEDBACK_REJECTED
from modeltrace.telemetry.metrics.series import RecordMetrics
from modeltrace.telemetry.records.feedback import FeedbackRecord
from modeltrace.telemetry.records.prediction import SAMPLED


class _PredictionSpan(NamedTuple):
    """The span of a prediction, at the time when its label arrived."""

    trace_id: bytes
    span_id: bytes
    end: int


class FeedbackMetrics(RecordMetrics):
    """Counts labels."""

    def _reset(self) -> None:
        self._labels, self._delays = self._register(FEEDBACK), self._register(FEEDBACK_DELAY)
        self._errors, self._rejected = self._register(FEEDBACK_ERROR), self._register(FEEDBACK_REJECTED)

    def add(self, feedback: Iterable[FeedbackRecord]) -> None:
        """Count the labels of further records."""
        with self._lock:
            for record in feedback:
                if not record.synthetic:
                    self._add(record)

    def _add(self, record: FeedbackRecord) -> None:
        exemplars = self._always or self._sampled
        for label in record.labels:
            error = label.absolute_error
            span = _PredictionSpan(label.trace_id, label.span_id, record.end) if exemplars and label.has_trace else None
            rank = PINNED if record.pinned else FAILED if label.is_wrong else LATEST
            model = (record.model_name, label.model_version)

            key = (*model, record.age_bucket(label), *(label.classes or ()))
            series = self._labels.series.get(key) or self._labels.create(key, {**record.metric_attributes(label)})
            series.add(1, rank, span)
            series = self._delays.series.get(model) or self._delays.create(model, {**record.model_attributes(label)})
            series.add(record.label_delay(label), rank, span)
            if error is not None:
                attributes = record.model_attributes(label)
                series = self._errors.series.get(model) or self._errors.create(model, {**attributes})
                series.add(error, rank, span)

        source = record if self._always or (self._sampled and record.trace_flags & SAMPLED) else None
        for reason, number in record.rejected:
            rejected = (record.model_name, record.model_version, reason)
            series = self._rejected.series.get(rejected) or self._rejected.create(
                rejected, {**record.rejection_attributes(reason)}
            )
            series.add(number, PINNED if record.pinned else LATEST, source, count=number)
