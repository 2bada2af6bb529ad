"""The stock way: a request's trace told through the OpenTelemetry SDK, while the request waits.

The SERVER span is that of opentelemetry-instrumentation-fastapi. What the records say is made by the SDK's own spans,
instruments and handlers, so it is what `modeltrace.sidecar` is compared with, and what a setting switches back to.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.baggage import get_baggage
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.exception_attributes import (
    EXCEPTION_ESCAPED,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
)
from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer
from opentelemetry.util.types import AttributeValue

from modeltrace.telemetry.metrics.instruments import Instruments
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.names import (
    BAGGAGE_PIN,
    EVENT_PREDICTION,
    EVENT_VIOLATION,
    ML_BATCH_LOWEST_CONFIDENCE,
    ML_BATCH_REJECTED,
    ML_BATCH_SIZE,
    ML_PREDICTION_CONFIDENCE,
    ML_PREDICTION_ID,
    ML_PREDICTION_INPUTS,
    ML_PREDICTION_LABEL,
    ML_PREDICTION_ROW,
    ML_PREDICTION_SHADOW_OF,
    ML_PREDICTION_VALUE,
    SPAN_BATCH,
    SPAN_FEATURES,
    SPAN_INFERENCE,
    SPAN_QUEUE,
    SPAN_SHADOW,
    SPAN_VALIDATE,
    SYNTHETIC,
)
from modeltrace.telemetry.records.prediction import (
    DATA_LOGGER,
    MAX_VIOLATION_EVENTS,
    PREDICTION_LOGGER,
    BatchRecord,
    Failure,
    ModelInfo,
    PredictedRow,
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
        """The span of a call that answered several requests. Its IDs are the SDK's, so no request's link finds it."""
        flags = TraceFlags(TraceFlags.SAMPLED)
        links = [
            Link(SpanContext(int.from_bytes(t), int.from_bytes(s), is_remote=False, trace_flags=flags))
            for t, s in batch.request_spans
        ]
        attributes: Attributes = {**batch.model.span_attributes(), ML_BATCH_SIZE: batch.rows}
        context = trace.set_span_in_context(trace.INVALID_SPAN)
        span = self._tracer.start_span(SPAN_BATCH, context, attributes=attributes, links=links, start_time=batch.start)
        if batch.error_type:
            span.set_attribute(ERROR_TYPE, batch.error_type)
            span.set_status(Status(StatusCode.ERROR))
        span.end(batch.end)

    def _tell(self, request: RequestTrace) -> None:
        server = trace.get_current_span()
        if request.pinned:
            server.set_attribute(BAGGAGE_PIN, True)  # noqa: FBT003  the value of an attribute
        if request.synthetic_token:
            server.set_attribute(SYNTHETIC, True)  # noqa: FBT003  the value of an attribute
        model = request.model
        if model is None:
            return
        server.set_attributes({**model.span_attributes()})
        server.set_attributes(_answer(request))
        violations = request.schema_violations()
        self._stages(request, violations[:MAX_VIOLATION_EVENTS])
        if request.remote_call is None:
            self._measure(request, violations, model)
        for violated in violations[:MAX_VIOLATION_EVENTS]:
            extra = {**model.log_attributes(), OTEL_EVENT_NAME: EVENT_VIOLATION, **violated.event_attributes()}
            self._data.info("%s", violated.message(), extra=extra)
        for one in request.predictions:
            self._write(one, model, request)

    def _stages(self, request: RequestTrace, violations: Sequence[SchemaViolation]) -> None:
        rejected: Attributes = {}
        if request.rejected_rows:
            rejected = {ERROR_TYPE: "invalid_features", ML_BATCH_REJECTED: request.rejected_rows}
        self._stage(SPAN_VALIDATE, request.validate_start, request.validate_end, request, rejected, violations)
        if request.batch_span:
            self._stage(SPAN_QUEUE, request.validate_end, request.features_start, request, {})
        self._stage(SPAN_FEATURES, request.features_start, request.inference_start, request, {})
        size: Attributes = {ML_BATCH_SIZE: request.rows - request.rejected_rows}
        self._stage(SPAN_INFERENCE, request.inference_start, request.inference_end, request, size)

    def _stage(
        self,
        name: str,
        start: int,
        end: int,
        request: RequestTrace,
        attributes: Attributes,
        violations: Sequence[SchemaViolation] = (),
    ) -> None:
        if not start:
            return
        span = self._tracer.start_span(name, attributes=attributes, start_time=start)
        for violated in violations:
            span.add_event(EVENT_VIOLATION, violated.event_attributes(), end)
        failure = request.failure
        if failure and failure.stage == name:
            if failure.error_type:
                span.set_attribute(ERROR_TYPE, failure.error_type)
            span.add_event("exception", _exception(failure), failure.time)
            kind = failure.exception_type.rpartition(".")[2]
            span.set_status(Status(StatusCode.ERROR, f"{kind}: {failure.message}"))
            end = end or failure.time
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

    def _write(self, one: PredictedRow, model: ModelInfo, request: RequestTrace) -> None:
        extra: dict[str, object] = {
            OTEL_EVENT_NAME: EVENT_PREDICTION,
            **model.log_attributes(),
            ML_PREDICTION_ID: one.prediction_id,
            ML_PREDICTION_ROW: one.row_index,
            ML_PREDICTION_INPUTS: dict(zip(model.features, one.inputs, strict=True)),
        }
        if one.value is not None:
            extra[ML_PREDICTION_VALUE] = one.value
        else:
            extra[ML_PREDICTION_LABEL] = str(one.label)
        if one.confidence is not None:
            extra[ML_PREDICTION_CONFIDENCE] = one.confidence
        if request.shadow_of and (answer := request.shadow_of[one.row_index]):
            extra[ML_PREDICTION_SHADOW_OF] = answer
        if request.synthetic_token:
            extra[SYNTHETIC] = True
        self._audit.info("predicted %s", one.label if one.value is None else one.value, extra=extra)


def _answer(request: RequestTrace) -> Attributes:
    """What the SERVER span says of what was answered."""
    if request.is_batch:
        if request.failure:
            return {}
        attributes: Attributes = {ML_BATCH_SIZE: request.rows, ML_BATCH_REJECTED: request.rejected_rows}
        confidences = [one.confidence for one in request.predictions if one.confidence is not None]
        return {**attributes, ML_BATCH_LOWEST_CONFIDENCE: min(confidences)} if confidences else attributes
    if not request.predictions:
        return {}
    (one,) = request.predictions
    if one.value is not None:
        return {ML_PREDICTION_ID: one.prediction_id, ML_PREDICTION_VALUE: one.value}
    attributes = {ML_PREDICTION_ID: one.prediction_id, ML_PREDICTION_LABEL: str(one.label)}
    return attributes if one.confidence is None else {**attributes, ML_PREDICTION_CONFIDENCE: one.confidence}


def _exception(failure: Failure) -> Mapping[str, str]:
    return {
        EXCEPTION_TYPE: failure.exception_type,
        EXCEPTION_MESSAGE: failure.message,
        EXCEPTION_STACKTRACE: failure.stacktrace,
        EXCEPTION_ESCAPED: "False",
    }
