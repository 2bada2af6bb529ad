"""Describe predictions as spans and log records: which names, attributes, events and statuses they have.

The SDK path (`modeltrace.telemetry.sdk`) and the encoders of the sidecar (`modeltrace.sidecar.encode`) only convert
these descriptions, so that both paths emit the same telemetry. Attributes of the model are not included: they are
constant per model, so encoders cache them (`ModelInfo.span_attributes`, `ModelInfo.log_attributes`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry.semconv._incubating.attributes.enduser_attributes import ENDUSER_ID
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.exception_attributes import (
    EXCEPTION_ESCAPED,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
)
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE

from modeltrace.telemetry.names import (
    BAGGAGE_PIN,
    ML_BATCH_LOWEST_CONFIDENCE,
    ML_BATCH_REJECTED,
    ML_BATCH_SIZE,
    ML_PREDICTION_CONFIDENCE,
    ML_PREDICTION_EXTERNAL_ID,
    ML_PREDICTION_ID,
    ML_PREDICTION_INPUTS,
    ML_PREDICTION_INTERVAL_HIGH,
    ML_PREDICTION_INTERVAL_LEVEL,
    ML_PREDICTION_INTERVAL_LOW,
    ML_PREDICTION_LABEL,
    ML_PREDICTION_OUTPUTS,
    ML_PREDICTION_ROW,
    ML_PREDICTION_SHADOW_OF,
    ML_PREDICTION_VALUE,
    ML_TAG,
    SPAN_FEATURES,
    SPAN_INFERENCE,
    SPAN_QUEUE,
    SPAN_VALIDATE,
    SYNTHETIC,
)
from modeltrace.telemetry.records.prediction import (
    MAX_VIOLATION_EVENTS,
    BatchRecord,
    Failure,
    PredictedRow,
    RequestRecord,
    SchemaViolation,
    Tags,
    Value,
)

if TYPE_CHECKING:  # the sidecar starts without the SDK
    from modeltrace.telemetry.records.trace import RequestTrace

Attributes = dict[str, Value]
# Name, start, end, attributes, violations as events, trace and span ID of a linked batch, and the exception that ended
# the span. A plain tuple: the sidecar creates three of them per prediction.
Stage = tuple[str, int, int, Attributes, Sequence[SchemaViolation], tuple[bytes, bytes] | None, Failure | None]

INVALID_FEATURES: Final = "invalid_features"
EVENT_EXCEPTION: Final = "exception"


def stages(request: "RequestRecord | RequestTrace", violations: Sequence[SchemaViolation]) -> list[Stage]:
    """Return the spans of the stages that have ended, successfully or with an exception.

    Args:
        request: The request.
        violations: All violations of the request; only the first `MAX_VIOLATION_EVENTS` become events.
    """
    rejected: Attributes = {}
    if request.rejected_rows:
        rejected = {ERROR_TYPE: INVALID_FEATURES, ML_BATCH_REJECTED: request.rejected_rows}
    events = violations[:MAX_VIOLATION_EVENTS]
    size: Attributes = {ML_BATCH_SIZE: request.rows - request.rejected_rows}
    batch, inference_start = request.batch_span, request.inference_start
    spans: list[Stage] = [
        (SPAN_VALIDATE, request.validate_start, request.validate_end, rejected, events, None, None),
        (SPAN_FEATURES, request.features_start, inference_start, {}, (), None, None),
        (SPAN_INFERENCE, inference_start, request.inference_end, size, (), batch, None),
    ]
    if batch:
        spans.insert(1, (SPAN_QUEUE, request.validate_end, request.features_start, {}, (), None, None))
    if request.failure is not None:
        spans = [_fail(span, request.failure) if span[0] == request.failure.stage else span for span in spans]
    return [span for span in spans if span[1] and span[2]]


def _fail(span: Stage, failure: Failure) -> Stage:
    name, start, end, attributes, events, batch, _ = span
    if failure.error_type:
        attributes = {**attributes, ERROR_TYPE: failure.error_type}
    return name, start, end or failure.time, attributes, events, batch, failure


def server_failure(request: RequestRecord) -> Failure | None:
    """Return the exception that the SERVER span reports; `None` if the span of a stage reports it."""
    if request.failure is None:
        return None
    starts = {
        SPAN_VALIDATE: request.validate_start,
        SPAN_QUEUE: request.validate_end if request.batch_span else 0,
        SPAN_FEATURES: request.features_start,
        SPAN_INFERENCE: request.inference_start,
    }
    return None if starts.get(request.failure.stage) else request.failure


def request_attributes(request: "RequestRecord | RequestTrace") -> Attributes:
    """Return the attributes of the SERVER span, or of a challenger's span, about the request and its predictions."""
    attributes: Attributes = {}
    if request.pinned:
        attributes[BAGGAGE_PIN] = True
    if request.synthetic:
        attributes[SYNTHETIC] = True
    if request.api_key_name:
        attributes[ENDUSER_ID] = request.api_key_name
    if request.tags:
        attributes |= tag_attributes(request.tags)
    if request.external_ids and not request.is_batch:  # of one row, whether or not it was predicted
        attributes[ML_PREDICTION_EXTERNAL_ID] = request.external_ids[0]
    if request.is_batch:
        if request.model is not None and request.failure is None:
            attributes[ML_BATCH_SIZE] = request.rows
            attributes[ML_BATCH_REJECTED] = request.rejected_rows
            confidences = [row.confidence for row in request.predictions if row.confidence is not None]
            if confidences:
                attributes[ML_BATCH_LOWEST_CONFIDENCE] = min(confidences)
    elif request.predictions:
        row = request.predictions[0]
        attributes[ML_PREDICTION_ID] = row.prediction_id
        _add_output(attributes, row)
    return attributes


def response_status(status: int, failure: Failure | None) -> tuple[Attributes, str | None]:
    """Return attributes and status of a SERVER span. A client error (4xx) does not set the status `ERROR`.

    Args:
        status: The HTTP status, 0 without a response.
        failure: The exception that the span reports.

    Returns:
        The attributes, and the description of the status `ERROR` ("" for none) or `None` for the status `UNSET`.
    """
    attributes: Attributes = {HTTP_RESPONSE_STATUS_CODE: status} if status else {}
    if status >= 500:
        # The instrumentation of FastAPI sets the status again when the response begins, without the description.
        return {**attributes, ERROR_TYPE: str(status)}, ""
    if failure is None:
        return attributes, None
    if failure.error_type:
        attributes[ERROR_TYPE] = failure.error_type
    return attributes, status_description(failure)


def status_description(failure: Failure) -> str:
    """Return the status description of a span that an exception has ended."""
    return f"{failure.exception_type.rpartition('.')[2]}: {failure.message}"


def exception_attributes(failure: Failure) -> dict[str, str]:
    """Return the attributes of the event `exception`."""
    return {
        EXCEPTION_TYPE: failure.exception_type,
        EXCEPTION_MESSAGE: failure.message,
        EXCEPTION_STACKTRACE: failure.stacktrace,
        EXCEPTION_ESCAPED: "False",
    }


def batch_attributes(batch: BatchRecord) -> dict[str, str | int]:
    """Return the attributes of the span of one call of the model for several requests."""
    size = {ML_BATCH_SIZE: batch.rows}
    return {**size, ERROR_TYPE: batch.error_type} if batch.error_type else {**size}


def prediction_message(row: PredictedRow) -> str:
    """Return the message of a prediction log record."""
    if row.value is not None:
        return f"predicted {row.value}"
    return f"predicted {row.label}" if row.label is not None else f"predicted {len(row.outputs or ())} outputs"


def prediction_attributes(request: "RequestRecord | RequestTrace", row: PredictedRow) -> dict[str, object]:
    """Return the attributes of a prediction log record.

    Inputs and named outputs are tuples in the order of their names; each encoder converts them to maps.
    """
    attributes: dict[str, object] = {
        ML_PREDICTION_ID: row.prediction_id,
        ML_PREDICTION_ROW: row.row_index,
        ML_PREDICTION_INPUTS: row.inputs,
    }
    _add_output(attributes, row)
    if row.outputs is not None:
        attributes[ML_PREDICTION_OUTPUTS] = row.outputs
    if row.interval is not None:
        attributes[ML_PREDICTION_INTERVAL_LOW], attributes[ML_PREDICTION_INTERVAL_HIGH] = row.interval
        if request.model is not None and request.model.interval_level is not None:
            attributes[ML_PREDICTION_INTERVAL_LEVEL] = request.model.interval_level
    if request.shadow_of and (prediction_id := request.shadow_of[row.row_index]):
        attributes[ML_PREDICTION_SHADOW_OF] = prediction_id
    if request.external_ids and (external_id := request.external_ids[row.row_index]) is not None:
        attributes[ML_PREDICTION_EXTERNAL_ID] = external_id
    if request.api_key_name:
        attributes[ENDUSER_ID] = request.api_key_name
    if tags := request.row_tags[row.row_index] if request.row_tags else request.tags:
        attributes |= tag_attributes(tags)
    if request.synthetic:
        attributes[SYNTHETIC] = True
    return attributes


def tag_attributes(tags: Tags) -> dict[str, str]:
    """Return the attributes of tags."""
    return {f"{ML_TAG}.{name}": value for name, value in tags}


def _add_output(attributes: dict[str, object] | Attributes, row: PredictedRow) -> None:
    """Add the output of the model: the label of a classifier or the value of a regressor, and the confidence."""
    if row.value is not None:
        attributes[ML_PREDICTION_VALUE] = row.value
    elif row.label is not None:
        attributes[ML_PREDICTION_LABEL] = str(row.label)
    if row.confidence is not None:
        attributes[ML_PREDICTION_CONFIDENCE] = row.confidence
