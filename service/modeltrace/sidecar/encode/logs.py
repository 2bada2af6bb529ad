"""Encode log records of predictions, violations and access. The SDK's logging handler creates equal log records.

If all inputs of a prediction are floats, which is common, one `struct` packs them together with the names of the
features. Times are those of the records in nanoseconds; the SDK's handler computes them from a float.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, cast

from modeltrace.sidecar.encode.http import ACCESS_FIELDS, access_log
from modeltrace.sidecar.encode.protobuf import (
    CACHE_SIZE,
    FIXED32,
    FIXED64,
    ITEM,
    MAP_ENTRY,
    MAX_CACHED_REQUEST_TEXT,
    MAX_REQUEST_BYTES,
    VARINT,
    ExportRequest,
    ExportRequests,
    any_map,
    any_value,
    attribute,
    attribute_encoder,
    delimited,
    double_prefix,
    key,
    key_value,
    tag,
)
from modeltrace.telemetry.names import EVENT_PREDICTION, EVENT_VIOLATION, ML_PREDICTION_INPUTS, ML_PREDICTION_OUTPUTS
from modeltrace.telemetry.records.attributes import prediction_attributes, prediction_message
from modeltrace.telemetry.records.feedback import FeedbackRecord
from modeltrace.telemetry.records.model_info import ModelInfo, PerModelCache
from modeltrace.telemetry.records.prediction import (
    ACCESS_LOGGER,
    DATA_LOGGER,
    INVALID_TRACE_ID,
    MAX_VIOLATION_EVENTS,
    PREDICTION_LOGGER,
    Origin,
    PredictedRow,
    RequestRecord,
    SchemaViolation,
    Value,
)

MAX_CACHED_INPUT_TEXT = 64

# Fields of LogRecord.
TIME, OBSERVED = tag(1, FIXED64)[0], tag(11, FIXED64)[0]
INFO = tag(2, VARINT) + b"\x09" + delimited(tag(3), b"INFO")
ATTRIBUTE, EVENT_NAME = tag(6), tag(12)
_BODY, _FLAGS = tag(5), tag(8, FIXED32)[0]
_TRACE_ID, _SPAN_ID = tag(9) + b"\x10", tag(10) + b"\x08"
_PREDICTION, _VIOLATION = (delimited(EVENT_NAME, name.encode()) for name in (EVENT_PREDICTION, EVENT_VIOLATION))

pack_times: Final = struct.Struct("<BQBQ").pack
_double: Final = struct.Struct("<d").pack
_flags: Final = struct.Struct("<BI").pack


class LogEncoder:
    """Encodes the prediction, violation and access log records of one process."""

    def __init__(self, origin: Origin, max_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._prediction_request = ExportRequest(origin.resource, PREDICTION_LOGGER, max_bytes)
        self._violation_request = ExportRequest(origin.resource, DATA_LOGGER, max_bytes)
        self._access_request = ExportRequest(origin.resource, ACCESS_LOGGER, max_bytes)
        self._attribute = attribute_encoder(ATTRIBUTE)
        self._model = PerModelCache(_ModelConstants)
        self._body = lru_cache(CACHE_SIZE)(encode_body)
        self._access = lru_cache(CACHE_SIZE)(_encode_access)

    def encode(self, requests: Sequence[RequestRecord]) -> ExportRequests:
        """Return export requests with all log records of requests."""
        return [*self.predictions(requests), *self.violations(requests), *self.access(requests)]

    def predictions(self, requests: Iterable[RequestRecord]) -> ExportRequests:
        """Return export requests with a log record per predicted row."""
        return self._prediction_request.split(self._predictions(requests))

    def violations(self, requests: Iterable[RequestRecord]) -> ExportRequests:
        """Return export requests with a log record per schema violation, up to `MAX_VIOLATION_EVENTS` per request."""
        return self._violation_request.split(self._violations(requests))

    def access(self, requests: Iterable[RequestRecord]) -> ExportRequests:
        """Return export requests with a log record per request that got a response."""
        return self._access_request.split(self._access_records(requests))

    def _predictions(self, requests: Iterable[RequestRecord]) -> Iterator[bytes]:
        for request in requests:
            if request.predictions and request.model is not None:
                model = self._model(request.model)
                context = model.prediction + encode_context(request)
                for row in request.predictions:
                    times = pack_times(TIME, row.time, OBSERVED, row.time)
                    fields = self._prediction(request, row, model)
                    yield delimited(ITEM, b"".join((times, context, *fields)))

    def _prediction(self, request: RequestRecord, row: PredictedRow, model: "_ModelConstants") -> Iterator[bytes]:
        # Values of a regressor rarely repeat, so they are not cached.
        yield (self._body if row.value is None else encode_body)(prediction_message(row))
        for name, value in prediction_attributes(request, row).items():
            if type(value) is tuple:  # one check is cheaper than comparing each name with two
                yield (model.inputs if name == ML_PREDICTION_INPUTS else model.outputs).encode(value)
            else:
                yield self._attribute(name, cast("Value", value))

    def _violations(self, requests: Iterable[RequestRecord]) -> Iterator[bytes]:
        for request in requests:
            if request.violations and request.model is not None:
                times = pack_times(TIME, request.validate_end, OBSERVED, request.validate_end)
                shared = times + self._model(request.model).violation + encode_context(request)
                for violation in request.violations[:MAX_VIOLATION_EVENTS]:
                    yield delimited(ITEM, b"".join((shared, *_encode_violation(violation))))

    def _access_records(self, requests: Iterable[RequestRecord]) -> Iterator[bytes]:
        for request in requests:
            if request.status:
                is_cached = len(request.path) + len(request.query) <= MAX_CACHED_REQUEST_TEXT
                access = (self._access if is_cached else _encode_access)(*ACCESS_FIELDS(request))
                times = pack_times(TIME, request.end, OBSERVED, request.end)
                yield delimited(ITEM, b"".join((times, encode_context(request), access)))


class _ModelConstants:
    """The encoded fields that all records of one model share."""

    def __init__(self, model: ModelInfo) -> None:
        attributes = b"".join(attribute(ATTRIBUTE, *item) for item in model.log_attributes().items())
        self.prediction, self.violation = INFO + _PREDICTION + attributes, INFO + _VIOLATION + attributes
        self.inputs = _MapEncoder(ML_PREDICTION_INPUTS, model.features)
        self.outputs = _MapEncoder(ML_PREDICTION_OUTPUTS, model.outputs)


class _MapEncoder:
    """Encodes an attribute with all inputs, or all named outputs, of a prediction."""

    def __init__(self, attribute: str, names: Sequence[str]) -> None:
        self._attribute = key(attribute)
        self._keys = [key(name) for name in names]
        # Encode the attribute once with zeros and split it before each number.
        self._prefixes = [double_prefix(MAP_ENTRY, name) for name in self._keys]
        whole = key_value(ATTRIBUTE, self._attribute, any_map(prefix + bytes(8) for prefix in self._prefixes))
        start = whole[: len(whole) - sum(len(prefix) + 8 for prefix in self._prefixes)]
        constants = [start + prefix if index == 0 else prefix for index, prefix in enumerate(self._prefixes)]
        self._template: list[Value | bytes] = [part for constant in constants for part in (constant, 0.0)]
        self._pack = struct.Struct("<" + "".join(f"{len(constant)}sd" for constant in constants)).pack
        self._cached_entry = lru_cache(4 * CACHE_SIZE, typed=True)(_encode_entry)  # typed: 1 equals True

    def encode(self, values: tuple[Value, ...]) -> bytes:
        """Encode the values, in the order of the names."""
        if set(map(type, values)) == {float}:
            filled = self._template.copy()
            filled[1::2] = values
            return self._pack(*filled)
        return key_value(ATTRIBUTE, self._attribute, any_map(map(self._entry, self._keys, self._prefixes, values)))

    def _entry(self, name: bytes, prefix: bytes, value: Value) -> bytes:
        if type(value) is float:
            return prefix + _double(value)
        if type(value) is str and len(value) > MAX_CACHED_INPUT_TEXT:
            return _encode_entry(name, value)
        return self._cached_entry(name, value)


def _encode_entry(name: bytes, value: Value) -> bytes:
    return key_value(MAP_ENTRY, name, any_value(value))


def encode_body(message: str) -> bytes:
    """Encode the message of a log record."""
    return delimited(_BODY, any_value(message))


def _encode_violation(violation: SchemaViolation) -> Iterator[bytes]:
    yield encode_body(violation.message())
    for item in violation.event_attributes().items():
        yield attribute(ATTRIBUTE, *item)


def encode_context(record: RequestRecord | FeedbackRecord) -> bytes:
    """Encode trace ID, span ID and flags; empty if there is no trace."""
    if record.trace_id == INVALID_TRACE_ID:
        return b""
    flags = _flags(_FLAGS, record.trace_flags)
    return b"".join((_TRACE_ID, record.trace_id, _SPAN_ID, record.span_id, flags))


def _encode_access(*fields: Any) -> bytes:  # noqa: ANN401  those of `ACCESS_FIELDS`
    message, attributes = access_log(*fields)
    encoded = (attribute(ATTRIBUTE, *item) for item in attributes.items())
    return b"".join((INFO, encode_body(message), *encoded))
