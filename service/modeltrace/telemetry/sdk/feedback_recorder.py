"""Records true labels with the OpenTelemetry SDK before the request is answered.

The SDK creates an exemplar from the context of a measurement, so each label is measured in the context of its
prediction.
"""

import logging

from opentelemetry import trace
from opentelemetry.context import Context, get_current, set_value
from opentelemetry.metrics import Meter
from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, Tracer

from modeltrace.telemetry.metrics.exemplars import WRONG_PREDICTION
from modeltrace.telemetry.metrics.instruments import FEEDBACK, FEEDBACK_DELAY, FEEDBACK_ERROR, FEEDBACK_REJECTED
from modeltrace.telemetry.names import EVENT_FEEDBACK, SPAN_FEEDBACK
from modeltrace.telemetry.records.feedback import FEEDBACK_LOGGER, FeedbackRecord, TrueLabel
from modeltrace.telemetry.sdk.recorder import span_context


class SDKFeedbackRecorder:
    """Records labels, in the context of their request."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        self._log = logging.getLogger(FEEDBACK_LOGGER)
        self._labels, self._rejected = (
            meter.create_counter(counter.name, counter.unit, counter.description)
            for counter in (FEEDBACK, FEEDBACK_REJECTED)
        )
        self._delay, self._error = (
            meter.create_histogram(histogram.name, histogram.unit, histogram.description)
            for histogram in (FEEDBACK_DELAY, FEEDBACK_ERROR)
        )

    def record(self, feedback: FeedbackRecord) -> None:
        """Record the span, the log record and the metrics of each label."""
        for label in feedback.labels:
            # It is unknown whether the prediction's span was sampled; assume so.
            flags = TraceFlags.SAMPLED if label.has_trace else TraceFlags.DEFAULT
            prediction = span_context(label.trace_id, label.span_id, flags, is_remote=True)
            links = [Link(prediction)] if prediction.is_valid else []
            span = self._tracer.start_span(
                SPAN_FEEDBACK, attributes=feedback.span_attributes(label), links=links, start_time=feedback.start
            )
            span.end(feedback.end)
            event = {OTEL_EVENT_NAME: EVENT_FEEDBACK, **feedback.log_attributes(label)}
            self._log.info("%s", label.message(), extra=event)
            if feedback.synthetic:
                continue
            context = _measurement_context(label, prediction)
            self._labels.add(1, {**feedback.metric_attributes(label)}, context)
            self._delay.record(feedback.label_delay(label), {**feedback.model_attributes(label)}, context)
            if label.absolute_error is not None:
                self._error.record(label.absolute_error, {**feedback.model_attributes(label)}, context)
        for reason, number in () if feedback.synthetic else feedback.rejected:
            self._rejected.add(number, {**feedback.rejection_attributes(reason)})


def _measurement_context(label: TrueLabel, prediction: SpanContext) -> Context:
    context = trace.set_span_in_context(NonRecordingSpan(prediction), get_current())
    return set_value(WRONG_PREDICTION, label.is_wrong, context)
