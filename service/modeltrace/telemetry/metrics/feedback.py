"""Metric points of true labels, counted from their records.

Confusion counts: a label of a class by what was predicted, per version and age. Their exemplars are the predictions,
not the requests that brought the labels: those of a cell in which the two differ lead to traces of wrong predictions.
Whether such a trace was sampled, its ID does not say.
"""

from collections.abc import Iterable
from threading import Lock
from time import time_ns
from typing import Final, NamedTuple

from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from modeltrace.telemetry.metrics.exemplars import FAILED, LATEST, PINNED
from modeltrace.telemetry.metrics.instruments import FEEDBACK, FEEDBACK_DELAY, FEEDBACK_ERROR, FEEDBACK_REJECTED
from modeltrace.telemetry.metrics.series import InstrumentSeries
from modeltrace.telemetry.names import ML_MODEL_NAME, ML_MODEL_VERSION
from modeltrace.telemetry.records.feedback import FeedbackRecord

SAMPLED: Final = 1


class _Predicted(NamedTuple):
    """The span of a prediction, met when its label arrived."""

    trace_id: bytes
    span_id: bytes
    end: int


class FeedbackMetrics:
    """Counts labels, for readers that take totals, or for one that takes what is new (`delta`)."""

    def __init__(self, *, exemplar_filter: str, delta: bool = False) -> None:
        """`exemplar_filter` and `delta` as for `PredictionMetrics`."""
        self._any, self._all = exemplar_filter != "always_off", exemplar_filter == "always_on"
        self._delta = delta
        self._start = time_ns()
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._labels, self._delays = InstrumentSeries(FEEDBACK), InstrumentSeries(FEEDBACK_DELAY)
        self._errors, self._rejected = InstrumentSeries(FEEDBACK_ERROR), InstrumentSeries(FEEDBACK_REJECTED)

    def add(self, feedback: Iterable[FeedbackRecord]) -> None:
        """Count some more."""
        with self._lock:
            for one in feedback:
                if not one.synthetic:
                    self._add(one)

    def _add(self, feedback: FeedbackRecord) -> None:
        model = feedback.model_name
        for one in feedback.labels:
            version, error = one.model_version, one.absolute_error
            met = _Predicted(one.trace_id, one.span_id, feedback.end) if self._any and one.has_trace else None
            rank = PINNED if feedback.pinned else FAILED if one.is_wrong else LATEST

            cell = (model, version, feedback.age_bucket(one), *((one.label, one.predicted) if error is None else ()))
            series = self._labels.series.get(cell) or self._labels.create(cell, {**feedback.metric_attributes(one)})
            series.add(1, rank, met)
            kind = (model, version)
            series = self._delays.series.get(kind) or self._delays.create(kind, {**feedback.model_attributes(one)})
            series.add(feedback.label_delay(one), rank, met)
            if error is not None:
                series = self._errors.series.get(kind) or self._errors.create(kind, {**feedback.model_attributes(one)})
                series.add(error, rank, met)

        here = feedback if self._all or (self._any and feedback.trace_flags & SAMPLED) else None
        for reason, number in feedback.rejected:
            what = (model, feedback.model_version, reason)
            series = self._rejected.series.get(what) or self._rejected.create(
                what, {**rejection_attributes(feedback, reason)}
            )
            series.add(number, PINNED if feedback.pinned else LATEST, here, count=number)

    def collect(self, *, exemplars: bool = True) -> list[Metric]:
        """Everything counted, as the SDK's metrics. Each exemplar is handed over once, to who asks for exemplars."""
        with self._lock:
            now = time_ns()
            temporality = AggregationTemporality.DELTA if self._delta else AggregationTemporality.CUMULATIVE
            metrics = [
                points.metric(self._start, now, temporality, exemplars=exemplars)
                for points in (self._labels, self._delays, self._errors, self._rejected)
                if points.series
            ]
            if self._delta:
                self._start = now
                self._forget()
        return metrics


def rejection_attributes(feedback: FeedbackRecord, reason: str) -> dict[str, str]:
    """What the point that counts a refused label carries: whatever it was about, it came to the model that serves."""
    return {ML_MODEL_NAME: feedback.model_name, ML_MODEL_VERSION: feedback.model_version, ERROR_TYPE: reason}
