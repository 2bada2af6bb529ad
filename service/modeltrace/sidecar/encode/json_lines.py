"""JSON lines from records: what the line handler and its formatter write of the same audit, data and access records.

A value that JSON cannot hold costs no line: a lone surrogate becomes U+FFFD, and an integer of more than 64 bits is
written as it is, in full.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import orjson
from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME

from modeltrace.sidecar.encode.http import access_log
from modeltrace.sidecar.encode.logs import ACCESS_SCOPE, AUDIT_SCOPE, DATA_SCOPE
from modeltrace.sidecar.encode.protobuf import utf8
from modeltrace.telemetry.metrics.per_model_cache import PerModelCache
from modeltrace.telemetry.names import (
    EVENT_PREDICTION,
    EVENT_VIOLATION,
    ML_PREDICTION_CONFIDENCE,
    ML_PREDICTION_ID,
    ML_PREDICTION_INPUTS,
    ML_PREDICTION_LABEL,
    ML_PREDICTION_ROW,
    ML_PREDICTION_SHADOW_OF,
    ML_PREDICTION_VALUE,
    SYNTHETIC,
)
from modeltrace.telemetry.records.prediction import (
    MAX_VIOLATION_EVENTS,
    ModelInfo,
    PredictedRow,
    RequestRecord,
    SchemaViolation,
)

_NO_TRACE = bytes(16)


class LineEncoder:
    """Writes the log lines of one process."""

    def __init__(self) -> None:
        self._model_fields = PerModelCache(_model_fields)

    def encode(self, requests: Iterable[RequestRecord]) -> bytes:
        """The lines of some requests: for each what broke the schema, its answered rows, and its access line if any."""
        # Not joined from a list: a hundred lines that live at once make the allocator go to the system each time.
        lines = bytearray()
        for line in self._lines(requests):
            lines += line
        return bytes(lines)

    def _lines(self, requests: Iterable[RequestRecord]) -> Iterator[bytes]:
        for request in requests:
            ids = _trace_ids(request)
            if request.model is not None:
                said, features = self._model_fields(request.model), request.model.features
                for violated in request.violations[:MAX_VIOLATION_EVENTS]:
                    yield encode_line(_violation_line(violated, said, ids, request.validate_end))
                for row in request.predictions:
                    more: Mapping[str, object] = ids
                    if request.synthetic:
                        more = {SYNTHETIC: True, **more}
                    if of := request.shadow_of[row.row_index] if request.shadow_of else None:
                        more = {ML_PREDICTION_SHADOW_OF: of, **more}
                    yield encode_line(_prediction_line(row, said, features, more))
            if request.status:
                yield encode_line(_access_line(request, ids))


def _model_fields(model: ModelInfo) -> dict[str, str]:
    return {OTEL_EVENT_NAME: EVENT_PREDICTION, **model.log_attributes()}


def _violation_line(
    violated: SchemaViolation, said: dict[str, str], ids: dict[str, str], time: int
) -> dict[str, object]:
    head = {"level": "INFO", "logger": DATA_SCOPE, "message": violated.message()}
    event = {**said, OTEL_EVENT_NAME: EVENT_VIOLATION, **violated.event_attributes()}
    return {**head, **event, **ids, "timestamp": to_datetime(time)}


def _prediction_line(
    row: PredictedRow, said: dict[str, str], features: Sequence[str], more: Mapping[str, object]
) -> dict[str, object]:
    line: dict[str, object] = {
        "level": "INFO",
        "logger": AUDIT_SCOPE,
        "message": f"predicted {row.label if row.value is None else row.value}",
        **said,
        ML_PREDICTION_ID: row.prediction_id,
        ML_PREDICTION_ROW: row.row_index,
        ML_PREDICTION_INPUTS: dict(zip(features, row.inputs, strict=True)),
    }
    if row.value is None:
        line[ML_PREDICTION_LABEL] = str(row.label)
    else:
        line[ML_PREDICTION_VALUE] = row.value
    if row.confidence is not None:
        line[ML_PREDICTION_CONFIDENCE] = row.confidence
    line.update(more)
    line["timestamp"] = to_datetime(row.time)
    return line


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
    head = {"level": "INFO", "logger": ACCESS_SCOPE, "message": message}
    return {**head, **attributes, **ids, "timestamp": to_datetime(request.end)}


def _trace_ids(request: RequestRecord) -> dict[str, str]:
    if request.trace_id == _NO_TRACE:
        return {}
    return {"trace_id": request.trace_id.hex(), "span_id": request.span_id.hex()}


def to_datetime(nanoseconds: int) -> datetime:
    """A time to the microsecond, as a log record has it."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def encode_line(line: dict[str, object]) -> bytes:
    """A line, whatever its values."""
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        return orjson.dumps(_to_json_compatible(line), option=orjson.OPT_APPEND_NEWLINE)


def _to_json_compatible(value: object) -> object:
    """The same, of what JSON and orjson can hold."""
    if isinstance(value, dict):
        return {_to_json_compatible(name): _to_json_compatible(content) for name, content in value.items()}
    if isinstance(value, str):
        return utf8(value).decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return orjson.Fragment(str(value))
    return value
