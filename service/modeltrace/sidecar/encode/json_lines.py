"""Encode JSON lines from records. The service's log formatter creates equal lines from the same log records.

Every value can be encoded: a lone surrogate becomes U+FFFD, and an integer of more than 64 bits is written in full.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import orjson
from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME

from modeltrace.sidecar.encode.http import ACCESS_FIELDS, access_log
from modeltrace.telemetry.json_values import to_json_compatible
from modeltrace.telemetry.names import EVENT_PREDICTION, EVENT_VIOLATION, ML_PREDICTION_INPUTS, ML_PREDICTION_OUTPUTS
from modeltrace.telemetry.records.attributes import prediction_attributes, prediction_message
from modeltrace.telemetry.records.model_info import ModelInfo, PerModelCache
from modeltrace.telemetry.records.prediction import (
    ACCESS_LOGGER,
    DATA_LOGGER,
    INVALID_TRACE_ID,
    MAX_VIOLATION_EVENTS,
    PREDICTION_LOGGER,
    RequestRecord,
)


class LineEncoder:
    """Encodes the log lines of one process."""

    def __init__(self) -> None:
        self._model_fields = PerModelCache(_model_fields)

    def encode(self, requests: Iterable[RequestRecord]) -> bytes:
        """Return the lines of each request: violations, predictions, and the access line if it got a response."""
        # Lines are not collected in a list: with about a hundred lines, each list would need memory from the system.
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
                    event = {**model_fields, OTEL_EVENT_NAME: EVENT_VIOLATION, **violation.event_attributes()}
                    yield encode_line(DATA_LOGGER, violation.message(), event, ids, request.validate_end)
                for row in request.predictions:
                    attributes = {**model_fields, **prediction_attributes(request, row)}
                    attributes[ML_PREDICTION_INPUTS] = dict(zip(features, row.inputs, strict=True))
                    if row.outputs is not None:
                        attributes[ML_PREDICTION_OUTPUTS] = dict(zip(request.model.outputs, row.outputs, strict=True))
                    yield encode_line(PREDICTION_LOGGER, prediction_message(row), attributes, ids, row.time)
            if request.status:
                yield encode_line(ACCESS_LOGGER, *access_log(*ACCESS_FIELDS(request)), ids, request.end)


def _model_fields(model: ModelInfo) -> dict[str, str]:
    return {OTEL_EVENT_NAME: EVENT_PREDICTION, **model.log_attributes()}


def trace_ids(trace_id: bytes, span_id: bytes) -> dict[str, str]:
    """Return the fields of a line that identify its span; empty if there is no trace."""
    if trace_id == INVALID_TRACE_ID:
        return {}
    return {"trace_id": trace_id.hex(), "span_id": span_id.hex()}


def encode_line(
    logger: str, message: str, attributes: Mapping[str, object], ids: dict[str, str], nanoseconds: int
) -> bytes:
    """Encode a line, even if orjson cannot represent a value. The time has microseconds, as in a log record."""
    line = {
        "level": "INFO",
        "logger": logger,
        "message": message,
        **attributes,
        **ids,
        "timestamp": datetime.fromtimestamp(nanoseconds / 1e9, UTC),
    }
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        return orjson.dumps(to_json_compatible(line), option=orjson.OPT_APPEND_NEWLINE)
