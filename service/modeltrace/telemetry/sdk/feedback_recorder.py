"""The stock way for true labels: told through the OpenTelemetry SDK while their request waits.

An exemplar is recorded in the context of a measurement, so labels are measured in that of their predictions.
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


class SDKFeedbackRecorder:
    """Tells labels, in the context of the request that brought them."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        self._log = logging.getLogger(FEEDBACK_LOGGER)
        self._labels, self._rejected = (
            meter.create_counter(one.name, one.unit, one.description) for one in (FEEDBACK, FEEDBACK_REJECTED)
        )
        self._delay, self._error = (
            meter.create_histogram(one.name, one.unit, one.description) for one in (FEEDBACK_DELAY, FEEDBACK_ERROR)
        )

    def record(self, feedback: FeedbackRecord) -> None:
        """Tell all of it."""
        for one in feedback.labels:
            predicted = _predicted(one)
            links = [Link(predicted)] if predicted.is_valid else []
            said = feedback.event_attributes(one)
            span = self._tracer.start_span(SPAN_FEEDBACK, attributes=said, links=links, start_time=feedback.start)
            span.end(feedback.end)
            self._log.info("%s", one.message(), extra={OTEL_EVENT_NAME: EVENT_FEEDBACK, **said})
            if feedback.synthetic:
                continue
            context = _measured(one, predicted)
            self._labels.add(1, {**feedback.metric_attributes(one)}, context)
            self._delay.record(feedback.label_delay(one), {**feedback.model_attributes(one)}, context)
            if one.absolute_error is not None:
                self._error.record(one.absolute_error, {**feedback.model_attributes(one)}, context)
        for reason, number in () if feedback.synthetic else feedback.rejected:
            self._rejected.add(number, {**feedback.rejection_attributes(reason)})


def _predicted(one: TrueLabel) -> SpanContext:
    """The span of the prediction; whether it was sampled is not known, and taken for granted."""
    flags = TraceFlags(TraceFlags.SAMPLED if one.has_trace else TraceFlags.DEFAULT)
    return SpanContext(int.from_bytes(one.trace_id), int.from_bytes(one.span_id), is_remote=True, trace_flags=flags)


def _measured(one: TrueLabel, predicted: SpanContext) -> Context:
    context = trace.set_span_in_context(NonRecordingSpan(predicted), get_current())
    return set_value(WRONG_PREDICTION, one.is_wrong, context)
