"""Records requests with the OpenTelemetry SDK before they are answered.

opentelemetry-instrumentation-fastapi creates the SERVER span. The recorder creates all other spans, log records and
measurements with the SDK. `MODELTRACE_INSTRUMENTATION=sdk` selects this path; tests compare the sidecar's telemetry
with it.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.baggage import get_baggage
from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer
from opentelemetry.util.types import AttributeValue

from modeltrace.telemetry.metrics.instruments import (
    CONFIDENCE,
    INFERENCE_DURATION,
    LOW_CONFIDENCE,
    PREDICTIONS,
    SYNTHETIC_PREDICTIONS,
    VIOLATIONS,
)
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.names import (
    BAGGAGE_PIN,
    EVENT_PREDICTION,
    EVENT_VIOLATION,
    ML_PREDICTION_INPUTS,
    ML_PREDICTION_OUTPUTS,
    SPAN_BATCH,
    SPAN_INFERENCE,
    SPAN_SCORE,
    SPAN_SHADOW,
)
from modeltrace.telemetry.records.attributes import (
    EVENT_EXCEPTION,
    batch_attributes,
    exception_attributes,
    prediction_attributes,
    prediction_message,
    request_attributes,
    stages,
    status_description,
)
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import (
    DATA_LOGGER,
    MAX_VIOLATION_EVENTS,
    PREDICTION_LOGGER,
    BatchRecord,
    SchemaViolation,
)
from modeltrace.telemetry.records.trace import (
    NO_REQUEST,
    HTTPRequest,
    RequestTrace,
    Scope,
    verified_synthetic_token,
)

Attributes = dict[str, AttributeValue]


class SDKRecorder:
    """Records requests, each in its own context."""

    def __init__(
        self,
        tracer: Tracer,
        meter: Meter,
        listeners: Sequence[Callable[[RequestTrace], object]] = (),
        *,
        raw_listeners: Iterable[Callable[[RequestTrace], object]] = (),
        model_catalog: ModelCatalog | None = None,
        trust_context: bool = True,
        synthetic_token: str = "",
    ) -> None:
        """Create the instruments.

        Args:
            tracer: starts the spans.
            meter: creates the instruments.
            listeners: receive each finished request after redaction. More may be appended later.
            raw_listeners: receive each finished request before redaction.
            model_catalog: redacts requests by the privacy rules of their models.
            trust_context: whether callers may pin traces.
            synthetic_token: marks requests as synthetic; if it is empty, no request is synthetic.
        """
        self._raw_listeners, self._listeners, self._model_catalog = tuple(raw_listeners), listeners, model_catalog
        self._synthetic_token = synthetic_token
        self._tracer = tracer
        self._trust_context = trust_context
        self._duration, self._confidence = (
            meter.create_histogram(histogram.name, histogram.unit, histogram.description)
            for histogram in (INFERENCE_DURATION, CONFIDENCE)
        )
        self._predictions, self._low_confidence, self._violations, self._synthetic = (
            meter.create_counter(counter.name, counter.unit, counter.description)
            for counter in (PREDICTIONS, LOW_CONFIDENCE, VIOLATIONS, SYNTHETIC_PREDICTIONS)
        )
        self._prediction_log, self._data_log = logging.getLogger(PREDICTION_LOGGER), logging.getLogger(DATA_LOGGER)

    @contextmanager
    def record_request(self, scope: Scope) -> Iterator[RequestTrace]:
        """Yield the trace of the current request. It is recorded when the block ends or raises."""
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
            self._finish(request)

    @contextmanager
    def record_shadow(self, parent: RequestTrace, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[RequestTrace]:
        """Yield the trace of a shadow request. Its span is a child of the SERVER span of the finished request."""
        server_span = span_context(parent.trace_id, parent.span_id, parent.trace_flags)
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
                self._finish(request)

    @contextmanager
    def record_scoring(self) -> Iterator[RequestTrace]:
        """Yield the trace of rows that are predicted without a request. Its root span is recorded like a request."""
        with self._tracer.start_as_current_span(SPAN_SCORE, Context(), record_exception=False) as span:
            context = span.get_span_context()
            ids = context.trace_id.to_bytes(16), context.span_id.to_bytes(8)
            request = RequestTrace(NO_REQUEST, *ids, int(context.trace_flags))
            try:
                yield request
            finally:
                self._finish(request)

    def _finish(self, request: RequestTrace) -> None:
        for listener in self._raw_listeners:
            listener(request)
        if self._model_catalog and request.model:
            request.predictions = [*self._model_catalog.redact_rows(request.model, request.predictions)]
        self._record(request)
        for listener in self._listeners:
            listener(request)

    def record_batch(self, batch: BatchRecord) -> None:
        """Record the span of one call of the model for several requests.

        This span has links to the spans of the requests. Those have no link back, because the SDK generates the ID of
        this span.
        """
        attributes: Attributes = {**batch.model.span_attributes(), **batch_attributes(batch)}
        links = [Link(span_context(*request_span)) for request_span in batch.request_spans]
        context = trace.set_span_in_context(trace.INVALID_SPAN)
        span = self._tracer.start_span(SPAN_BATCH, context, attributes=attributes, links=links, start_time=batch.start)
        if batch.error_type:
            span.set_status(Status(StatusCode.ERROR))
        span.end(batch.end)

    def _record(self, request: RequestTrace) -> None:
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
            self._data_log.info("%s", violation.message(), extra=extra)
        for row in request.predictions:
            attributes = prediction_attributes(request, row)
            attributes[ML_PREDICTION_INPUTS] = dict(zip(model.features, row.inputs, strict=True))
            if row.outputs is not None:
                attributes[ML_PREDICTION_OUTPUTS] = dict(zip(model.outputs, row.outputs, strict=True))
            event = {OTEL_EVENT_NAME: EVENT_PREDICTION, **model.log_attributes()}
            self._prediction_log.info("%s", prediction_message(row), extra={**event, **attributes})

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
        attributes: Attributes = {**model.metric_attributes()}
        if request.inference_start:
            failure = request.failure
            end = request.inference_end or (failure.time if failure else request.inference_start)
            error = {ERROR_TYPE: failure.error_type} if failure and failure.stage == SPAN_INFERENCE else {}
            self._duration.record((end - request.inference_start) / 1e9, {**attributes, **error})
        if request.synthetic:
            if request.predictions:
                self._synthetic.add(len(request.predictions), attributes)
            return
        for violation in violations:
            self._violations.add(violation.rows, {**attributes, **violation.metric_attributes()})
        outcomes: Counter[tuple[tuple[str, str], ...]] = Counter()
        for row in request.predictions:
            outcome = model.outcome_attributes(row)
            outcomes[tuple(outcome.items())] += 1
            if row.confidence is not None:
                self._confidence.record(row.confidence, {**attributes, **outcome})
        for items, number in outcomes.items():
            self._predictions.add(number, {**attributes, **dict(items)})
        if low := sum(map(model.is_low_confidence, request.predictions)):
            self._low_confidence.add(low, attributes)


def span_context(
    trace_id: bytes, span_id: bytes, flags: int = TraceFlags.SAMPLED, *, is_remote: bool = False
) -> SpanContext:
    """Return the SDK's context of a recorded span."""
    ids = int.from_bytes(trace_id), int.from_bytes(span_id)
    return SpanContext(*ids, is_remote=is_remote, trace_flags=TraceFlags(flags))
