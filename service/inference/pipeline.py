"""From rows to predictions: validate ► features ► inference, each a span, each timed once.

It knows nothing of HTTP. It runs on a worker thread, in the context of the request, whose SERVER span is current when
`predict` is called.
"""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter, time_ns

from opentelemetry import trace
from opentelemetry.baggage import get_baggage
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Span, Tracer
from opentelemetry.util.types import AttributeValue

from service.errors import InvalidFeaturesError, Violation
from service.inference.features import to_matrix
from service.inference.ids import PredictionIds, PredictionRef
from service.inference.model import Answer, Model
from service.inference.validate import validate_row
from service.monitoring.audit import AuditTrail
from service.telemetry.metrics import Instruments
from service.telemetry.names import (
    BAGGAGE_PIN,
    ML_BATCH_SIZE,
    ML_LOWEST_CONFIDENCE,
    ML_MODEL_NAME,
    ML_MODEL_VERSION,
    ML_PREDICTION_CONFIDENCE,
    ML_PREDICTION_ID,
    ML_PREDICTION_LABEL,
    ML_PREDICTION_VALUE,
    ML_REJECTED_ROWS,
    SPAN_FEATURES,
    SPAN_INFERENCE,
    SPAN_VALIDATE,
)

# What a caller sends as one row; anything but a mapping of feature names to values is a violation of its own.
Row = object
NOT_A_ROW = Violation("", "type", "a row must be an object of feature names and values")


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered row."""

    id: str
    answer: Answer


class Pipeline:
    """Answers rows with one model and leaves the trace of each answer."""

    def __init__(
        self, model: Model, tracer: Tracer, instruments: Instruments, audit: AuditTrail, ids: PredictionIds
    ) -> None:
        self.model = model
        self._tracer = tracer
        self._instruments = instruments
        self._audit = audit
        self._ids = ids
        self._series: dict[str, AttributeValue] = {ML_MODEL_NAME: model.name, ML_MODEL_VERSION: model.version}

    def predict(self, row: Row) -> Prediction:
        """Answer one row.

        Raises:
            InvalidFeaturesError: the row breaks the feature schema.
            InferenceError: the model failed.
        """
        request = self._describe_request()
        (outcome,) = self._answer([row])
        if isinstance(outcome, InvalidFeaturesError):
            raise outcome
        request.set_attributes({ML_PREDICTION_ID: outcome.id, **_attributes(outcome.answer)})
        return outcome

    def predict_batch(self, rows: Sequence[Row]) -> list[Prediction | InvalidFeaturesError]:
        """Answer many rows with one call of the model, in order; a bad row has its error in its place.

        Raises:
            InferenceError: the model failed, for all of them.
        """
        request = self._describe_request()
        outcomes = self._answer(rows)
        rejected = sum(isinstance(outcome, InvalidFeaturesError) for outcome in outcomes)
        request.set_attributes({ML_BATCH_SIZE: len(rows), ML_REJECTED_ROWS: rejected})
        if confidences := [c for o in outcomes if isinstance(o, Prediction) and (c := o.answer.confidence) is not None]:
            request.set_attribute(ML_LOWEST_CONFIDENCE, min(confidences))
        return outcomes

    def _describe_request(self) -> Span:
        span = trace.get_current_span()
        span.set_attributes(self._series)
        if get_baggage(BAGGAGE_PIN) is not None:
            span.set_attribute(BAGGAGE_PIN, True)  # noqa: FBT003  the value of an attribute
        return span

    def _answer(self, rows: Sequence[Row]) -> list[Prediction | InvalidFeaturesError]:
        outcomes: list[Prediction | InvalidFeaturesError | None] = [None] * len(rows)
        accepted: list[tuple[int, Mapping[str, object]]] = []
        with self._tracer.start_as_current_span(SPAN_VALIDATE) as span:
            for index, row in enumerate(rows):
                if not isinstance(row, Mapping):
                    outcomes[index] = InvalidFeaturesError([NOT_A_ROW])
                elif violations := validate_row(row, self.model.schema):
                    outcomes[index] = InvalidFeaturesError(violations)
                else:
                    accepted.append((index, row))
            if len(accepted) < len(rows):
                span.set_attributes({ERROR_TYPE: "invalid_features", ML_REJECTED_ROWS: len(rows) - len(accepted)})
        if accepted:
            with self._tracer.start_as_current_span(SPAN_FEATURES):
                matrix = to_matrix([row for _, row in accepted], self.model.schema, as_frame=self.model.as_frame)
            with self._timed_inference(len(accepted)):
                answers = self.model.answer(matrix)
            for (index, row), answer in zip(accepted, answers, strict=True):
                outcomes[index] = self._keep(index, row, answer)
            for label, number in Counter(answer.label for answer in answers).items():
                self._instruments.predictions.add(number, self._series_of(label))
        return [outcome for outcome in outcomes if outcome is not None]

    @contextmanager
    def _timed_inference(self, rows: int) -> Iterator[None]:
        attributes: dict[str, AttributeValue] = {**self._series}
        with self._tracer.start_as_current_span(SPAN_INFERENCE) as span:
            span.set_attribute(ML_BATCH_SIZE, rows)
            start = perf_counter()
            try:
                yield
            except Exception as error:
                attributes[ERROR_TYPE] = _cause(error)
                span.set_attribute(ERROR_TYPE, attributes[ERROR_TYPE])
                raise
            finally:
                self._instruments.inference_duration.record(perf_counter() - start, attributes)

    def _keep(self, index: int, row: Mapping[str, object], answer: Answer) -> Prediction:
        """Sign the ID of one answer, record its confidence and write it to the audit trail."""
        context = trace.get_current_span().get_span_context()
        # Without telemetry there is no span, and its ID is what tells two equal answers of one millisecond apart.
        span_id = context.span_id or secrets.randbits(64)
        said = str(answer.label) if answer.value is None else answer.value
        prediction_id = self._ids.sign(
            PredictionRef(context.trace_id, span_id, index, time_ns(), self.model.version, said)
        )
        if answer.confidence is not None:
            self._instruments.confidence.record(answer.confidence, self._series_of(answer.label))
        self._audit.record(prediction_id, index, row, answer)
        return Prediction(prediction_id, answer)

    def _series_of(self, label: object) -> dict[str, AttributeValue]:
        return self._series if label is None else {**self._series, ML_PREDICTION_LABEL: str(label)}


def _attributes(answer: Answer) -> dict[str, AttributeValue]:
    """What a SERVER span says of the one row that it answered."""
    if answer.value is not None:
        return {ML_PREDICTION_VALUE: answer.value}
    attributes: dict[str, AttributeValue] = {ML_PREDICTION_LABEL: str(answer.label)}
    if answer.confidence is not None:
        attributes[ML_PREDICTION_CONFIDENCE] = answer.confidence
    return attributes


def _cause(error: BaseException) -> str:
    """The type of what the model raised, for `error.type`."""
    kind = type(error.__cause__ or error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
