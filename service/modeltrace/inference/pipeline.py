"""From rows to predictions: validate ► features ► inference, each step marked in the request's trace.

It knows nothing of HTTP and makes no telemetry: what it writes down is told by whoever holds the trace.
"""

import math
import secrets
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from modeltrace.errors import InvalidFeaturesError, ModeltraceError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Answer, Model
from modeltrace.inference.prediction_ids import PredictionIds, PredictionRef
from modeltrace.inference.privacy import withhold
from modeltrace.inference.validate import RowReader, Values
from modeltrace.printable import shorten
from modeltrace.telemetry.names import SPAN_FEATURES, SPAN_INFERENCE, SPAN_VALIDATE
from modeltrace.telemetry.records.prediction import Answered, Failure, ModelInfo
from modeltrace.telemetry.records.trace import NO_ID, NO_TRACE, RequestTrace

# What a caller sends as one row; anything but a mapping of feature names to values is a violation of its own.
Row = object
TRIES = 7
# Characters of an exception that telemetry is told: an estimator's message may repeat a text that it was given.
LONGEST_MESSAGE = 4_096
LONGEST_STACK = 32_768


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered row."""

    id: str
    answer: Answer


class Pipeline:
    """Answers rows with one model and writes down how."""

    def __init__(self, model: Model, ids: PredictionIds, role: str = "") -> None:
        """`role`: what the model is beside another one, if there is one."""
        self.model = model
        self.info = describe(model, role)
        self._ids = ids
        self._reader = RowReader(model.schema)
        self._private = model.schema.private

    def predict(self, row: Row, trace: RequestTrace) -> Prediction:
        """Answer one row.

        Raises:
            InvalidFeaturesError: the row breaks the feature schema.
            InferenceError: the model failed.
        """
        values = self.read(row, trace)
        (answer,) = self.infer([values], [trace])
        return self.keep(0, values, answer, trace)

    def predict_batch(
        self, rows: Sequence[Row], trace: RequestTrace, numbers: Sequence[int] | None = None
    ) -> list[Prediction | InvalidFeaturesError]:
        """Answer many rows with one call of the model, in order; a bad row has its error in its place.

        `numbers` are the places of the rows in the request, if these are not all of its rows.

        Raises:
            InferenceError: the model failed, for all of them.
        """
        trace.model = self.info
        trace.many = True
        trace.rows = len(rows)
        trace.validate_start = trace.now()
        try:
            read = [self._read_or_refuse(row, trace) for row in rows]
        except Exception as error:
            self._fail(trace, SPAN_VALIDATE, error)
            raise
        trace.validate_end = trace.now()
        accepted = [values for values in read if isinstance(values, tuple)]
        trace.rejected = len(rows) - len(accepted)
        answers = iter(self.infer(accepted, [trace]) if accepted else ())
        return [
            self.keep(index, values, next(answers), trace) if isinstance(values, tuple) else values
            for index, values in zip(numbers or range(len(read)), read, strict=True)
        ]

    def read(self, row: Row, trace: RequestTrace) -> Values:
        """The values of one row.

        Raises:
            InvalidFeaturesError: the row breaks the feature schema.
        """
        trace.model = self.info
        trace.rows = 1
        trace.validate_start = trace.now()
        try:
            return self._reader.read(row, trace.violations)
        except InvalidFeaturesError:
            trace.rejected = 1
            raise
        except Exception as error:
            self._fail(trace, SPAN_VALIDATE, error)
            raise
        finally:
            trace.validate_end = trace.now()

    def infer(self, rows: Sequence[Values], traces: Sequence[RequestTrace]) -> list[Answer]:
        """Ask the model once; every request in `traces` gets the marks of it, by the first one's clock.

        Raises:
            InferenceError: the model failed.
        """
        now = traces[0].now
        start = now() if traces[0].batch else traces[0].validate_end
        _mark(traces, "features_start", start)
        stage = SPAN_FEATURES
        try:
            matrix = to_matrix(rows, self.model.schema, as_frame=self.model.as_frame)
            _mark(traces, "inference_start", now())
            stage = SPAN_INFERENCE
            answers = self.model.answer(matrix)
            _mark(traces, "inference_end", now())
        except Exception as error:
            for trace in traces:
                self._fail(trace, stage, error)
            raise
        return answers

    def keep(self, index: int, values: Values, answer: Answer, trace: RequestTrace) -> Prediction:
        """Sign the ID of one answer and write the prediction down."""
        time = trace.now()
        # Without telemetry there is no span, and its ID is what tells two equal answers of one millisecond apart.
        span_id = int.from_bytes(trace.span_id) or secrets.randbits(64)
        said = str(answer.label) if answer.value is None else answer.value
        ref = PredictionRef(int.from_bytes(trace.trace_id), span_id, index, time, self.model.version, said)
        prediction = Prediction(self._ids.sign(ref), answer)
        trace.answered.append(
            Answered(index, prediction.id, answer.label, answer.confidence, answer.value, values, time)  # type: ignore[arg-type]  # validated: JSON's plain values
        )
        return prediction

    def seconds_a_row(self) -> float:
        """What one row costs, at best; infinite for a model that may do more than compute, or has no row to try.

        A model that waits for something must never be asked where everything else waits for it, however fast it
        usually is.
        """
        if not self.model.computes_only:
            return math.inf
        try:
            return min(self.try_example() for _ in range(TRIES))
        except ModeltraceError:
            return math.inf

    def try_example(self) -> float:
        """Ask the model for the example that its schema has; how many seconds that took. Nothing is told of it.

        Raises:
            InvalidFeaturesError: the example breaks the schema.
            InferenceError: the model failed.
        """
        values = self._reader.read({feature.name: feature.example for feature in self.model.schema.features})
        start = perf_counter()
        self.infer([values], [RequestTrace({}, NO_TRACE, NO_ID, 0)])
        return perf_counter() - start

    def _fail(self, trace: RequestTrace, stage: str, error: Exception) -> None:
        fail(trace, stage, withhold(error) if self._private else error)

    def _read_or_refuse(self, row: Row, trace: RequestTrace) -> Values | InvalidFeaturesError:
        try:
            return self._reader.read(row, trace.violations)
        except InvalidFeaturesError as error:
            return error


def describe(model: Model, role: str = "") -> ModelInfo:
    """What telemetry says of a model."""
    edges = model.answers.edges if model.answers else None
    return ModelInfo(
        model.name,
        model.version,
        model.hash,
        model.schema.told,
        model.schema.hash,
        role,
        edges or (),
        model.confidence_threshold,
    )


def fail(trace: RequestTrace, stage: str, error: BaseException) -> None:
    """Write down the exception that ended a stage, as the SDK's `record_exception` would."""
    cause = _qualified(error.__cause__ or error) if stage == SPAN_INFERENCE else ""
    stack = shorten("".join(traceback.format_exception(error)), LONGEST_STACK)
    message = shorten(str(error), LONGEST_MESSAGE)
    trace.failure = Failure(stage, cause, _qualified(error), message, stack, trace.now())


def _mark(traces: Sequence[RequestTrace], name: str, time: int) -> None:
    for trace in traces:
        setattr(trace, name, time)


def _qualified(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
