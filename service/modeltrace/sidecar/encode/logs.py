"""Log records from records: what the stock logging handler makes of the same audit, data and access lines.

A prediction of floats, the most frequent, is one `struct` with the names of its features between the numbers. Times are
those of the record, to the nanosecond; the stock handler takes them through a float.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from modeltrace.sidecar.encode.http import access_log
from modeltrace.sidecar.encode.protobuf import (
    FIXED32,
    FIXED64,
    ITEM,
    MAP_ENTRY,
    VARINT,
    ExportRequest,
    any_double,
    any_map,
    any_value,
    attribute,
    delimited,
    key,
    key_value,
    tag,
)
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
    ACCESS_LOGGER,
    DATA_LOGGER,
    MAX_VIOLATION_EVENTS,
    PREDICTION_LOGGER,
    ModelInfo,
    Origin,
    PredictedRow,
    RequestRecord,
    SchemaViolation,
    Value,
)

AUDIT_SCOPE, DATA_SCOPE, ACCESS_SCOPE = PREDICTION_LOGGER, DATA_LOGGER, ACCESS_LOGGER
MAX_REQUEST_BYTES = 4_000_000  # bytes; a gRPC server refuses more than 4 MiB unless it is told otherwise
# As many of the last values are kept as bytes: of labels, of inputs that are no floats, of clients with what they ask
# for. Longer texts of clients are not: what is kept stays small whatever they send.
CACHE_SIZE, MAX_CACHED_LENGTH = 1024, 1024

# Fields of LogRecord.
_TIME, _OBSERVED, _FLAGS = tag(1, FIXED64)[0], tag(11, FIXED64)[0], tag(8, FIXED32)[0]
_INFO = tag(2, VARINT) + b"\x09" + delimited(tag(3), b"INFO")
_BODY, _ATTRIBUTE = tag(5), tag(6)
_TRACE_ID, _SPAN_ID = tag(9) + b"\x10", tag(10) + b"\x08"
_PREDICTED, _VIOLATED = (delimited(tag(12), name.encode()) for name in (EVENT_PREDICTION, EVENT_VIOLATION))
_NO_TRACE = bytes(16)

_times: Final = struct.Struct("<BQBQ").pack
_double: Final = struct.Struct("<d").pack
_flags: Final = struct.Struct("<BI").pack


class LogEncoder:
    """Writes the audit, data and access records of one process."""

    def __init__(self, origin: Origin) -> None:
        self._audit = ExportRequest(origin.resource, AUDIT_SCOPE)
        self._data = ExportRequest(origin.resource, DATA_SCOPE)
        self._access = ExportRequest(origin.resource, ACCESS_SCOPE)
        self._model_constants = PerModelCache(_ModelConstants)
        self._id, self._row, self._value, self._confidence = map(
            key, (ML_PREDICTION_ID, ML_PREDICTION_ROW, ML_PREDICTION_VALUE, ML_PREDICTION_CONFIDENCE)
        )
        self._label = lru_cache(CACHE_SIZE)(_encode_label)
        self._line = lru_cache(CACHE_SIZE)(_encode_access)

    def audit(self, requests: Iterable[RequestRecord], max_bytes: int = MAX_REQUEST_BYTES) -> list[tuple[bytes, int]]:
        """Export requests of at most `limit` bytes with a record an answered row, and the number of records in each.

        A record that is larger by itself gets a request of its own.
        """
        return self._audit.split(self._predictions(requests), max_bytes)

    def data(self, requests: Iterable[RequestRecord], max_bytes: int = MAX_REQUEST_BYTES) -> list[tuple[bytes, int]]:
        """The same with a record for each way in which a request broke the schema, as far as they are told."""
        return self._data.split(self._violations(requests), max_bytes)

    def access(self, requests: Iterable[RequestRecord], max_bytes: int = MAX_REQUEST_BYTES) -> list[tuple[bytes, int]]:
        """The same with a record a request that was answered."""
        return self._access.split(self._lines(requests), max_bytes)

    def _predictions(self, requests: Iterable[RequestRecord]) -> Iterator[bytes]:
        for request in requests:
            if request.predictions and request.model is not None:
                model = self._model_constants(request.model)
                context = model.prediction + _encode_context(request)
                for row in request.predictions:
                    times = _times(_TIME, row.time, _OBSERVED, row.time)
                    yield delimited(
                        ITEM,
                        b"".join(
                            (times, context, *self._encode_prediction(row, model.inputs), *_encode_marks(request, row))
                        ),
                    )

    def _violations(self, requests: Iterable[RequestRecord]) -> Iterator[bytes]:
        for request in requests:
            if request.violations and request.model is not None:
                times = _times(_TIME, request.validate_end, _OBSERVED, request.validate_end)
                head = times + self._model_constants(request.model).violation + _encode_context(request)
                for one in request.violations[:MAX_VIOLATION_EVENTS]:
                    yield delimited(ITEM, b"".join((head, *_encode_violation(one))))

    def _encode_prediction(self, row: PredictedRow, inputs: "_InputsEncoder") -> Iterator[bytes]:
        yield key_value(_ATTRIBUTE, self._id, any_value(row.prediction_id))
        yield key_value(_ATTRIBUTE, self._row, any_value(row.row_index))
        yield inputs.encode(row.inputs)
        if row.value is None:
            yield self._label(str(row.label))
        else:
            yield _encode_body(row.value)
            yield key_value(_ATTRIBUTE, self._value, any_double(row.value))
        if row.confidence is not None:
            yield key_value(_ATTRIBUTE, self._confidence, any_double(row.confidence))

    def _lines(self, requests: Iterable[RequestRecord]) -> Iterator[bytes]:
        for request in requests:
            if request.status:
                small = len(request.path) + len(request.query) <= MAX_CACHED_LENGTH
                line = (self._line if small else _encode_access)(
                    request.method,
                    request.path,
                    request.query,
                    request.http_version,
                    request.client_address,
                    request.client_port,
                    request.status,
                )
                times = _times(_TIME, request.end, _OBSERVED, request.end)
                yield delimited(ITEM, b"".join((times, _encode_context(request), line)))


class _ModelConstants:
    """What the records of one model have in common."""

    def __init__(self, model: ModelInfo) -> None:
        said = b"".join(_encode_attribute(*item) for item in model.log_attributes().items())
        self.prediction, self.violation = _INFO + _PREDICTED + said, _INFO + _VIOLATED + said
        self.inputs = _InputsEncoder(model.features)


class _InputsEncoder:
    """Writes the attribute that has all inputs of a prediction."""

    def __init__(self, features: Sequence[str]) -> None:
        self._attribute = key(ML_PREDICTION_INPUTS)
        self._keys = [key(name) for name in features]
        # Written once with zeros, and taken apart before each of them.
        self._heads = [key_value(MAP_ENTRY, name, any_double(0.0))[:-8] for name in self._keys]
        whole = key_value(_ATTRIBUTE, self._attribute, any_map(head + bytes(8) for head in self._heads))
        start = whole[: len(whole) - sum(len(head) + 8 for head in self._heads)]
        between = [start + self._heads[0], *self._heads[1:]]
        self._template: list[Value | bytes] = [part for constant in between for part in (constant, 0.0)]
        self._pack = struct.Struct("<" + "".join(f"{len(constant)}sd" for constant in between)).pack
        self._other = lru_cache(4 * CACHE_SIZE, typed=True)(
            _encode_input
        )  # typed: 1 and True are equal, and two values

    def encode(self, inputs: tuple[Value, ...]) -> bytes:
        """The attribute; `inputs` in the order of the features."""
        if set(map(type, inputs)) == {float}:
            filled = self._template.copy()
            filled[1::2] = inputs
            return self._pack(*filled)
        return key_value(_ATTRIBUTE, self._attribute, any_map(map(self._entry, self._keys, self._heads, inputs)))

    def _entry(self, name: bytes, head: bytes, value: Value) -> bytes:
        if type(value) is float:
            return head + _double(value)
        if type(value) is str and len(value) > 64:
            return _encode_input(name, value)
        return self._other(name, value)


def _encode_input(name: bytes, value: Value) -> bytes:
    return key_value(MAP_ENTRY, name, any_value(value))


def _encode_attribute(name: str, value: Value) -> bytes:
    return attribute(_ATTRIBUTE, name, value)


def _encode_body(answer: Value) -> bytes:
    return delimited(_BODY, any_value(f"predicted {answer}"))


def _encode_marks(request: RequestRecord, row: PredictedRow) -> Iterator[bytes]:
    """Of a shadow: the prediction that was answered; of synthetic traffic: that it is."""
    if request.shadow_of and (answer := request.shadow_of[row.row_index]):
        yield _encode_attribute(ML_PREDICTION_SHADOW_OF, answer)
    if request.synthetic:
        yield _encode_attribute(SYNTHETIC, True)  # noqa: FBT003  the value of an attribute


def _encode_violation(one: SchemaViolation) -> Iterator[bytes]:
    yield delimited(_BODY, any_value(one.message()))
    for name, value in one.event_attributes().items():
        yield _encode_attribute(name, value)


def _encode_label(label: str) -> bytes:
    return _encode_body(label) + _encode_attribute(ML_PREDICTION_LABEL, label)


def _encode_context(request: RequestRecord) -> bytes:
    """Where a record belongs; nowhere without telemetry, whatever its span ID."""
    if request.trace_id == _NO_TRACE:
        return b""
    flags = _flags(_FLAGS, request.trace_flags)
    return b"".join((_TRACE_ID, request.trace_id, _SPAN_ID, request.span_id, flags))


def _encode_access(
    method: str, path: str, query: str, http_version: str, client_address: str, client_port: int, status: int
) -> bytes:
    message, attributes = access_log(method, path, query, http_version, client_address, client_port, status)
    said = (_encode_attribute(*item) for item in attributes.items())
    return b"".join((_INFO, delimited(_BODY, any_value(message)), *said))
