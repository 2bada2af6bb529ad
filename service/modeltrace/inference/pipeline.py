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
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef
from modeltrace.inference.privacy import redact_exception
from modeltrace.inference.validate import RowValidator, Values
from modeltrace.printable import truncate
from modeltrace.telemetry.names import SPAN_FEATURES, SPAN_INFERENCE, SPAN_VALIDATE
from modeltrace.telemetry.records.prediction import Failure, ModelInfo, PredictedRow
from modeltrace.telemetry.records.trace import RequestTrace

# What a caller sends as one row; anything but a mapping of feature names to values is a violation of its own.
Row = object
LATENCY_TRIALS = 7
# Characters of an exception that telemetry is told: an estimator's message may repeat a text that it was given.
MAX_MESSAGE_LENGTH = 4_096
MAX_STACKTRACE_LENGTH = 32_768


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered row."""

    id: str
    output: ModelOutput


class Pipeline:
    """Answers rows with one model and writes down how."""

    def __init__(self, model: Model, ids: PredictionIdSigner, role: str = "") -> None:
        """`role`: what the model is beside another one, if there is one."""
        self.model = model
        self.info = model_info(model, role)
        self._ids = ids
        self._reader = RowValidator(model.schema)
        self._private = model.schema.has_private_features

    def predict(self, row: Row, trace: RequestTrace) -> Prediction:
        """Answer one row.

        Raises:
            InvalidFeaturesError: the row breaks the feature schema.
            InferenceError: the model failed.
        """
        values = self.validate(row, trace)
        (answer,) = self.infer([values], [trace])
        return self.record_prediction(0, values, answer, trace)

    def predict_batch(
        self, rows: Sequence[Row], trace: RequestTrace, row_indices: Sequence[int] | None = None
    ) -> list[Prediction | InvalidFeaturesError]:
        """Answer many rows with one call of the model, in order; a bad row has its error in its place.

        `numbers` are the places of the rows in the request, if these are not all of its rows.

        Raises:
            InferenceError: the model failed, for all of them.
        """
        trace.model = self.info
        trace.is_batch = True
        trace.rows = len(rows)
        trace.validate_start = trace.now()
        try:
            read = [self._read_or_refuse(row, trace) for row in rows]
        except Exception as error:
            self._fail(trace, SPAN_VALIDATE, error)
            raise
        trace.validate_end = trace.now()
        accepted = [values for values in read if isinstance(values, tuple)]
        trace.rejected_rows = len(rows) - len(accepted)
        answers = iter(self.infer(accepted, [trace]) if accepted else ())
        return [
            self.record_prediction(index, values, next(answers), trace) if isinstance(values, tuple) else values
            for index, values in zip(row_indices or range(len(read)), read, strict=True)
        ]

    def validate(self, row: Row, trace: RequestTrace) -> Values:
        """The values of one row.

        Raises:
            InvalidFeaturesError: the row breaks the feature schema.
        """
        trace.model = self.info
        trace.rows = 1
        trace.validate_start = trace.now()
        try:
            return self._reader.validate(row, trace.violations)
        except InvalidFeaturesError:
            trace.rejected_rows = 1
            raise
        except Exception as error:
            self._fail(trace, SPAN_VALIDATE, error)
            raise
        finally:
            trace.validate_end = trace.now()

    def infer(self, rows: Sequence[Values], traces: Sequence[RequestTrace]) -> list[ModelOutput]:
        """Ask the model once; every request in `traces` gets the marks of it, by the first one's clock.

        Raises:
            InferenceError: the model failed.
        """
        now = traces[0].now
        start = now() if traces[0].batch_span else traces[0].validate_end
        _mark(traces, "features_start", start)
        stage = SPAN_FEATURES
        try:
            matrix = to_matrix(rows, self.model.schema, as_frame=self.model.as_frame)
            _mark(traces, "inference_start", now())
            stage = SPAN_INFERENCE
            answers = self.model.predict(matrix)
            _mark(traces, "inference_end", now())
        except Exception as error:
            for trace in traces:
                self._fail(trace, stage, error)
            raise
        return answers

    def record_prediction(self, index: int, values: Values, answer: ModelOutput, trace: RequestTrace) -> Prediction:
        """Sign the ID of one answer and write the prediction down."""
        time = trace.now()
        # Without telemetry there is no span, and its ID is what tells two equal answers of one millisecond apart.
        span_id = int.from_bytes(trace.span_id) or secrets.randbits(64)
        said = str(answer.label) if answer.value is None else answer.value
        ref = PredictionRef(int.from_bytes(trace.trace_id), span_id, index, time, self.model.version, said)
        prediction = Prediction(self._ids.sign(ref), answer)
        trace.predictions.append(
            PredictedRow(index, prediction.id, answer.label, answer.confidence, answer.value, values, time)  # type: ignore[arg-type]  # validated: JSON's plain values
        )
        return prediction

    def measure_latency(self) -> float:
        """What one row costs, at best; infinite for a model that may do more than compute, or has no row to try.

        A model that waits for something must never be asked where everything else waits for it, however fast it
        usually is.
        """
        if not self.model.cpu_bound:
            return math.inf
        try:
            return min(self.time_example() for _ in range(LATENCY_TRIALS))
        except ModeltraceError:
            return math.inf

    def time_example(self) -> float:
        """Ask the model for the example that its schema has; how many seconds that took. Nothing is told of it.

        Raises:
            InvalidFeaturesError: the example breaks the schema.
            InferenceError: the model failed.
        """
        values = self._reader.validate({feature.name: feature.example for feature in self.model.schema.features})
        start = perf_counter()
        self.infer([values], [RequestTrace()])
        return perf_counter() - start

    def _fail(self, trace: RequestTrace, stage: str, error: Exception) -> None:
        record_failure(trace, stage, redact_exception(error) if self._private else error)

    def _read_or_refuse(self, row: Row, trace: RequestTrace) -> Values | InvalidFeaturesError:
        try:
            return self._reader.validate(row, trace.violations)
        except InvalidFeaturesError as error:
            return error


def model_info(model: Model, role: str = "") -> ModelInfo:
    """What telemetry says of a model."""
    edges = model.output_reference.edges if model.output_reference else None
    return ModelInfo(
        model.name,
        model.version,
        model.hash,
        model.schema.recorded_names,
        model.schema.hash,
        role,
        edges or (),
        model.confidence_threshold,
    )


def record_failure(trace: RequestTrace, stage: str, error: BaseException) -> None:
    """Write down the exception that ended a stage, as the SDK's `record_exception` would."""
    cause = _qualified(error.__cause__ or error) if stage == SPAN_INFERENCE else ""
    stack = truncate("".join(traceback.format_exception(error)), MAX_STACKTRACE_LENGTH)
    message = truncate(str(error), MAX_MESSAGE_LENGTH)
    trace.failure = Failure(stage, cause, _qualified(error), message, stack, trace.now())


def _mark(traces: Sequence[RequestTrace], name: str, time: int) -> None:
    for trace in traces:
        setattr(trace, name, time)


def _qualified(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
