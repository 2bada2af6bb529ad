"""The stock way: a request's trace told through the OpenTelemetry SDK, while the request waits.

The SERVER span is that of opentelemetry-instrumentation-fastapi. What the records say is made by the SDK's own spans,
instruments and handlers, so it is what `modeltrace.sidecar` is compared with, and what a setting switches back to.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.baggage import get_baggage
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer
from opentelemetry.util.types import AttributeValue

from modeltrace.telemetry.metrics.instruments import Instruments
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.names import (
    BAGGAGE_PIN,
    EVENT_PREDICTION,
    EVENT_VIOLATION,
    ML_PREDICTION_INPUTS,
    SPAN_BATCH,
    SPAN_INFERENCE,
    SPAN_SHADOW,
)
from modeltrace.telemetry.records.describe import (
    EVENT_EXCEPTION,
    batch_attributes,
    exception_attributes,
    prediction_attributes,
    prediction_message,
    request_attributes,
    stages,
    status_description,
)
from modeltrace.telemetry.records.prediction import (
    DATA_LOGGER,
    MAX_VIOLATION_EVENTS,
    PREDICTION_LOGGER,
    BatchRecord,
    ModelInfo,
    SchemaViolation,
)
from modeltrace.telemetry.records.trace import HTTPRequest, RequestTrace, Scope, verified_synthetic_token

Attributes = dict[str, AttributeValue]


class SDKRecorder:
    """Tells what was written down of a request, in the context of that request."""

    def __init__(
        self,
        tracer: Tracer,
        instruments: Instruments,
        listeners: Sequence[Callable[[RequestTrace], object]] = (),
        *,
        raw_listeners: Iterable[Callable[[RequestTrace], object]] = (),
        model_catalog: ModelCatalog | None = None,
        trust_context: bool = True,
        synthetic_token: str = "",
    ) -> None:
        """`counts` take each request as it is; `also` once it is told, and as `watched` tells it.

        Who joins `also` later takes them, too. Without `trust_context`, callers do not pin traces. `synthetic_token` as
        for `RequestTracer`.
        """
        self._counts, self._also, self._watched = tuple(raw_listeners), listeners, model_catalog
        self._synthetic_token = synthetic_token
        self._tracer = tracer
        self._trust_context = trust_context
        self._instruments = instruments
        self._audit, self._data = logging.getLogger(PREDICTION_LOGGER), logging.getLogger(DATA_LOGGER)

    @contextmanager
    def record_request(self, scope: Scope) -> Iterator[RequestTrace]:
        """A trace to write to; it is told when the block ends, however it ends."""
        context = trace.get_current_span().get_span_context()
        request = RequestTrace(
            HTTPRequest.from_scope(scope),
            context.trace_id.to_bytes(16),
            context.span_id.to_bytes(8),
            int(context.trace_flags),
        )
        request.pinned = self._trust_context and get_baggage(BAGGAGE_PIN) is not None
        request.synthetic_token = verified_synthetic_token(None, self._synthetic_token)
        try:
            yield request
        finally:
            self._over(request)

    @contextmanager
    def record_shadow(self, parent: RequestTrace, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[RequestTrace]:
        """The same for what a challenger makes of a request that is over: a span below its SERVER span."""
        flags = TraceFlags(parent.trace_flags)
        server_span = SpanContext(
            int.from_bytes(parent.trace_id), int.from_bytes(parent.span_id), is_remote=False, trace_flags=flags
        )
        span = self._tracer.start_span(SPAN_SHADOW, trace.set_span_in_context(NonRecordingSpan(server_span)), kind)
        request = parent.start_shadow(span.get_span_context().span_id.to_bytes(8))
        with trace.use_span(span, end_on_exit=True):
            try:
                yield request
            finally:
                if request.remote_call:
                    span.set_attributes({**request.remote_call.span_attributes()})
                    if request.remote_call.error_type:
                        span.set_status(Status(StatusCode.ERROR))
                self._over(request)

    def _over(self, request: RequestTrace) -> None:
        for count in self._counts:
            count(request)
        if self._watched and request.model and (rules := self._watched.privacy_rules(request.model)):
            request.predictions = [*rules.redact_rows(request.predictions)]
        self._tell(request)
        for take in self._also:
            take(request)

    def record_batch(self, batch: BatchRecord) -> None:
        """Record the span of one call of the model for several requests.

        The SDK generates its IDs, so the links of the requests do not lead to it.
        """
        attributes: Attributes = {**batch.model.span_attributes(), **batch_attributes(batch)}
        links = [_link(*request_span) for request_span in batch.request_spans]
        context = trace.set_span_in_context(trace.INVALID_SPAN)
        span = self._tracer.start_span(SPAN_BATCH, context, attributes=attributes, links=links, start_time=batch.start)
        if batch.error_type:
            span.set_status(Status(StatusCode.ERROR))
        span.end(batch.end)

    def _tell(self, request: RequestTrace) -> None:
        server_span = trace.get_current_span()
        server_span.set_attributes({**request_attributes(request)})
        model = request.model
        if model is None:
            return
        server_span.set_attributes({**model.span_attributes()})
        violations = request.schema_violations()
        self._record_stages(request, violations)
        if request.remote_call is None:
            self._measure(request, violations, model)
        for violation in violations[:MAX_VIOLATION_EVENTS]:
            extra = {**model.log_attributes(), OTEL_EVENT_NAME: EVENT_VIOLATION, **violation.event_attributes()}
            self._data.info("%s", violation.message(), extra=extra)
        for row in request.predictions:
            attributes = prediction_attributes(request, row)
            attributes[ML_PREDICTION_INPUTS] = dict(zip(model.features, row.inputs, strict=True))
            event = {OTEL_EVENT_NAME: EVENT_PREDICTION, **model.log_attributes()}
            self._audit.info("%s", prediction_message(row), extra={**event, **attributes})

    def _record_stages(self, request: RequestTrace, violations: Sequence[SchemaViolation]) -> None:
        for name, start, end, attributes, events, _, failure in stages(request, violations):
            span = self._tracer.start_span(name, attributes=attributes, start_time=start)
            for violation in events:
                span.add_event(EVENT_VIOLATION, violation.event_attributes(), request.validate_end)
            if failure is not None:
                span.add_event(EVENT_EXCEPTION, exception_attributes(failure), failure.time)
                span.set_status(Status(StatusCode.ERROR, status_description(failure)))
            span.end(end)

    def _measure(self, request: RequestTrace, violations: Sequence[SchemaViolation], model: ModelInfo) -> None:
        series: Attributes = {**model.metric_attributes()}
        if request.inference_start:
            failure = request.failure
            ended = request.inference_end or (failure.time if failure else request.inference_start)
            attributes = {**series}
            if failure and failure.stage == SPAN_INFERENCE:
                attributes[ERROR_TYPE] = failure.error_type
            self._instruments.inference_duration.record((ended - request.inference_start) / 1e9, attributes)
        if request.synthetic_token:
            if request.predictions:
                self._instruments.synthetic.add(len(request.predictions), series)
            return
        for violated in violations:
            self._instruments.violations.add(violated.rows, {**series, **violated.metric_attributes()})
        for one in request.predictions:
            if one.confidence is not None:
                self._instruments.confidence.record(one.confidence, {**series, **model.outcome_attributes(one)})
        for outcome, number in Counter(
            tuple(model.outcome_attributes(one).items()) for one in request.predictions
        ).items():
            self._instruments.predictions.add(number, {**series, **dict(outcome)})
        if unsure := sum(map(model.is_low_confidence, request.predictions)):
            self._instruments.low_confidence.add(unsure, series)


def _link(trace_id: bytes, span_id: bytes) -> Link:
    context = SpanContext(
        int.from_bytes(trace_id),
        int.from_bytes(span_id),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return Link(context)
