"""Encode JSON lines from records. The service's log formatter creates equal lines from the same log records.

Every value can be encoded: a lone surrogate becomes U+FFFD, and an integer of more than 64 bits is written in full.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import orjson
from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME

from modeltrace.sidecar.encode.http import access_log
from modeltrace.sidecar.encode.protobuf import utf8
from modeltrace.telemetry.metrics.per_model_cache import PerModelCache
from modeltrace.telemetry.names import EVENT_PREDICTION, EVENT_VIOLATION, ML_PREDICTION_INPUTS
from modeltrace.telemetry.records.prediction import (
    ACCESS_LOGGER,
    DATA_LOGGER,
    MAX_VIOLATION_EVENTS,
    PREDICTION_LOGGER,
    ModelInfo,
    PredictedRow,
    RequestRecord,
    SchemaViolation,
)
from modeltrace.telemetry.records.spans_and_logs import prediction_attributes, prediction_message

_NO_TRACE = bytes(16)


class LineEncoder:
    """Encodes the log lines of one process."""

    def __init__(self) -> None:
        self._model_fields = PerModelCache(_model_fields)

    def encode(self, requests: Iterable[RequestRecord]) -> bytes:
        """Return the lines of requests: for each, its violations, its predictions, and its access line if any."""
        # Do not collect lines in a list: for about a hundred lines, the allocator would request memory each time.
        lines = bytearray()
        for line in self._lines(requests):
            lines += line
        return bytes(lines)

    def _lines(self, requests: Iterable[RequestRecord]) -> Iterator[bytes]:
        for request in requests:
            ids = trace_ids(request.trace_id, request.span_id)
            if request.model is not None:
                model_fields, features = self._model_fields(request.model), request.model.features
                for violation in request.violations[:MAX_VIOLATION_EVENTS]:
                    yield encode_line(_violation_line(violation, model_fields, ids, request.validate_end))
                for row in request.predictions:
                    yield encode_line(_prediction_line(request, row, model_fields, features, ids))
            if request.status:
                yield encode_line(_access_line(request, ids))


def _model_fields(model: ModelInfo) -> dict[str, str]:
    return {OTEL_EVENT_NAME: EVENT_PREDICTION, **model.log_attributes()}


def _violation_line(
    violation: SchemaViolation, model_fields: dict[str, str], ids: dict[str, str], time: int
) -> dict[str, object]:
    head = {"level": "INFO", "logger": DATA_LOGGER, "message": violation.message()}
    event = {**model_fields, OTEL_EVENT_NAME: EVENT_VIOLATION, **violation.event_attributes()}
    return {**head, **event, **ids, "timestamp": to_datetime(time)}


def _prediction_line(
    request: RequestRecord,
    row: PredictedRow,
    model_fields: dict[str, str],
    features: Sequence[str],
    ids: dict[str, str],
) -> dict[str, object]:
    attributes = prediction_attributes(request, row)
    attributes[ML_PREDICTION_INPUTS] = dict(zip(features, row.inputs, strict=True))
    return {
        "level": "INFO",
        "logger": PREDICTION_LOGGER,
        "message": prediction_message(row),
        **model_fields,
        **attributes,
        **ids,
        "timestamp": to_datetime(row.time),
    }


def _access_line(request: RequestRecord, ids: dict[str, str]) -> dict[str, object]:
    message, attributes = access_log(
        request.method,
        request.path,
        request.query,
        request.http_version,
        request.client_address,
        request.client_port,
        request.status,
    )
    head = {"level": "INFO", "logger": ACCESS_LOGGER, "message": message}
    return {**head, **attributes, **ids, "timestamp": to_datetime(request.end)}


def trace_ids(trace_id: bytes, span_id: bytes) -> dict[str, str]:
    """Return the fields of a line that identify its span; empty if there is no trace."""
    if trace_id == _NO_TRACE:
        return {}
    return {"trace_id": trace_id.hex(), "span_id": span_id.hex()}


def to_datetime(nanoseconds: int) -> datetime:
    """Convert nanoseconds since the Unix epoch to a `datetime`, with microseconds as in a log record."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def encode_line(line: dict[str, object]) -> bytes:
    """Encode a line, even if orjson cannot represent a value."""
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        return orjson.dumps(_to_json_compatible(line), option=orjson.OPT_APPEND_NEWLINE)


def _to_json_compatible(value: object) -> object:
    """Replace values that JSON or orjson cannot represent."""
    if isinstance(value, dict):
        return {_to_json_compatible(name): _to_json_compatible(content) for name, content in value.items()}
    if isinstance(value, str):
        return utf8(value).decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return orjson.Fragment(str(value))
    return value
