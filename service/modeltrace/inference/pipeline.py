"""The prediction pipeline: validate ► features ► inference. Each stage is timed in the request's trace.

The pipeline does not depend on HTTP or OpenTelemetry. It fills in a `RequestTrace`, from which telemetry is created
later.
"""

import math
import secrets
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final, NamedTuple

from modeltrace.errors import InvalidFeaturesError, InvalidRowError, ModeltraceError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef
from modeltrace.inference.privacy import redact_exception
from modeltrace.inference.validate import RowValidator, Values
from modeltrace.printable import truncate
from modeltrace.telemetry.names import SPAN_FEATURES, SPAN_INFERENCE, SPAN_VALIDATE
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import Failure, PredictedRow, Value
from modeltrace.telemetry.records.trace import RequestTrace

# One row as the client sent it. Anything but a mapping of feature names to values is a violation.
Row = object
LATENCY_TRIALS = 7
# Maximum number of recorded characters of an exception. An estimator's message may contain a long input text.
MAX_MESSAGE_LENGTH = 4_096
MAX_STACKTRACE_LENGTH = 32_768


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one row."""

    id: str
    output: ModelOutput


class RecordedDetails(NamedTuple):
    """Which details of each prediction are recorded, even if the client does not ask for them."""

    max_classes: int = 0  # the probability of each class, if the model has at most this number of classes
    intervals: bool = False  # the prediction interval


NO_DETAILS: Final = RecordedDetails()


class Pipeline:
    """Predicts rows with one model and records the stages and predictions in the request's trace.

    `role` is `primary` or `challenger`, or empty if no other version is served. A prediction interval is also
    recorded if the client asks for it.
    """

    def __init__(
        self,
        model: Model,
        ids: PredictionIdSigner,
        role: str = "",
        *,
        recorded_details: RecordedDetails = NO_DETAILS,
    ) -> None:
        self.model = model
        self.info = model_info(model, role, max_recorded_classes=recorded_details.max_classes)
        self._records_probabilities = bool(self.info.classes)
        self._records_details = self._records_probabilities or (
            recorded_details.intervals and model.interval is not None
        )
        self._ids = ids
        self._validator = RowValidator(model.schema)
        self._has_private_features = model.schema.has_private_features

    def predict(self, row: Row, trace: RequestTrace, *, details: bool = False) -> Prediction:
        """Predict one row.

        `details`: also return the probability of each class, or the prediction interval. The other methods have the
        same parameter.

        Raises:
            InvalidFeaturesError: the row violates the feature schema.
            InferenceError: the model failed.
        """
        values = self.validate(row, trace)
        (output,) = self.infer([values], [trace], details=details)
        return self.record_prediction(0, values, output, trace)

    def predict_batch(
        self,
        rows: Sequence[Row],
        trace: RequestTrace,
        row_indices: Sequence[int] | None = None,
        *,
        details: bool = False,
    ) -> list[Prediction | InvalidFeaturesError]:
        """Predict the rows of one request with one call of the model.

        `row_indices` are the positions of the rows in the request; `None` if `rows` are all rows of the request.

        Returns:
            The prediction of each row, in order; for an invalid row, the error.

        Raises:
            InferenceError: the model failed; there is no prediction for any row.
        """
        validated = self._validate_batch(rows, trace)
        valid = [values for values in validated if isinstance(values, tuple)]
        trace.rejected_rows = len(rows) - len(valid)
        outputs = iter(self.infer(valid, [trace], details=details) if valid else ())
        return [
            self.record_prediction(index, values, next(outputs), trace) if isinstance(values, tuple) else values
            for index, values in zip(row_indices or range(len(validated)), validated, strict=True)
        ]

    def predict_all(self, rows: Sequence[Row], trace: RequestTrace, *, details: bool = False) -> list[Prediction]:
        """Predict the rows of one request, for a protocol whose response cannot contain errors of single rows.

        Raises:
            InvalidFeaturesError: a row violates the feature schema; no row was predicted.
            InferenceError: the model failed.
        """
        if len(rows) == 1:
            return [self.predict(rows[0], trace, details=details)]
        validated = self._validate_batch(rows, trace)
        invalid = [(index, row) for index, row in enumerate(validated) if isinstance(row, InvalidFeaturesError)]
        if invalid:
            trace.rejected_rows = len(rows)
            raise InvalidRowError(*invalid[0], len(invalid))
        values = [row for row in validated if isinstance(row, tuple)]
        outputs = self.infer(values, [trace], details=details) if values else []
        triples = zip(range(len(values)), values, outputs, strict=True)
        return [self.record_prediction(index, row, output, trace) for index, row, output in triples]

    def _validate_batch(self, rows: Sequence[Row], trace: RequestTrace) -> list[Values | InvalidFeaturesError]:
        trace.model = self.info
        trace.is_batch = True
        trace.rows = len(rows)
        trace.validate_start = trace.now()
        try:
            validated = self._validator.validate_many(rows, trace.violations)
        except Exception as error:
            self._record_failure(trace, SPAN_VALIDATE, error)
            raise
        trace.validate_end = trace.now()
        return validated

    def validate(self, row: Row, trace: RequestTrace) -> Values:
        """Validate one row and return its values in the order of the schema.

        Raises:
            InvalidFeaturesError: the row violates the feature schema.
        """
        trace.model = self.info
        trace.rows = 1
        trace.validate_start = trace.now()
        try:
            return self._validator.validate(row, trace.violations)
        except InvalidFeaturesError:
            trace.rejected_rows = 1
            raise
        except Exception as error:
            self._record_failure(trace, SPAN_VALIDATE, error)
            raise
        finally:
            trace.validate_end = trace.now()

    def infer(
        self, rows: Sequence[Values], traces: Sequence[RequestTrace], *, details: bool = False
    ) -> list[ModelOutput]:
        """Call the model once and record the stages in all traces, with times of the first trace's clock.

        Raises:
            InferenceError: the model failed.
        """
        now = traces[0].now
        start = now() if traces[0].batch_span else traces[0].validate_end
        _set_time(traces, "features_start", start)
        stage = SPAN_FEATURES
        try:
            matrix = to_matrix(rows, self.model.schema, as_frame=self.model.as_frame)
            _set_time(traces, "inference_start", now())
            stage = SPAN_INFERENCE
            outputs = self.model.predict(matrix, details=details or self._records_details)
            _set_time(traces, "inference_end", now())
        except Exception as error:
            for trace in traces:
                self._record_failure(trace, stage, error)
            raise
        return outputs

    def record_prediction(self, index: int, values: Values, output: ModelOutput, trace: RequestTrace) -> Prediction:
        """Sign the ID of a prediction and add the prediction to the trace."""
        time = trace.now()
        # Without a span ID, a random number makes the IDs of equal outputs in the same millisecond different.
        span_id = int.from_bytes(trace.span_id) or secrets.randbits(64)
        label, confidence, value = output.label, output.confidence, output.value
        label_or_value = ("" if label is None else str(label)) if value is None else value
        ref = PredictionRef(int.from_bytes(trace.trace_id), span_id, index, time, self.model.version, label_or_value)
        prediction = Prediction(self._ids.sign(ref), output)
        probabilities = output.probabilities if self._records_probabilities else None
        recorded: tuple[Value, ...] = values  # type: ignore[assignment]  # validated: JSON's plain values
        trace.predictions.append(
            PredictedRow(
                index,
                prediction.id,
                label,
                confidence,
                value,
                recorded,
                time,
                probabilities,
                output.outputs,
                output.interval,
            )
        )
        return prediction

    def measure_latency(self) -> float:
        """Return the lowest latency of one row in seconds; infinite if it is unknown or the model may wait for I/O.

        A model that may wait for I/O must never run on the event loop, even if it is usually fast.
        """
        if not self.model.cpu_bound:
            return math.inf
        try:
            return min(self.time_example() for _ in range(LATENCY_TRIALS))
        except ModeltraceError:
            return math.inf

    def time_example(self) -> float:
        """Predict the example row of the schema and return the duration in seconds. Nothing is recorded.

        Raises:
            InvalidFeaturesError: the example violates the schema.
            InferenceError: the model failed.
        """
        schema = self.model.schema
        values = self._validator.validate({feature.name: feature.example for feature in schema.features})
        start = perf_counter()
        self.model.predict(to_matrix([values], schema, as_frame=self.model.as_frame))
        return perf_counter() - start

    def _record_failure(self, trace: RequestTrace, stage: str, error: Exception) -> None:
        record_failure(trace, stage, redact_exception(error) if self._has_private_features else error)


def model_info(model: Model, role: str = "", *, max_recorded_classes: int = 0) -> ModelInfo:
    """Return the description of a model that telemetry records contain.

    It has classes if the model has probabilities of at most `max_recorded_classes` classes.
    """
    names, schema_hash = model.schema.recorded_names, model.schema.hash
    edges = (model.output_reference.edges if model.output_reference else None) or ()
    recorded = model.has_probabilities and len(model.classes or ()) <= max_recorded_classes
    return ModelInfo(
        model.name, model.version, model.hash, names, schema_hash, role, edges, model.confidence_threshold,
        (model.classes or ()) if recorded else (), model.output_names,
        None if model.interval is None else model.interval.level,
    )  # fmt: skip


def record_failure(trace: RequestTrace, stage: str, error: BaseException) -> None:
    """Record the exception that ended a stage, with the fields of the SDK's `Span.record_exception`."""
    cause = _qualified_name(error.__cause__ or error) if stage == SPAN_INFERENCE else ""
    stacktrace = truncate("".join(traceback.format_exception(error)), MAX_STACKTRACE_LENGTH)
    message = truncate(str(error), MAX_MESSAGE_LENGTH)
    trace.failure = Failure(stage, cause, _qualified_name(error), message, stacktrace, trace.now())


def _set_time(traces: Sequence[RequestTrace], attribute: str, time: int) -> None:
    for trace in traces:
        setattr(trace, attribute, time)


def _qualified_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
