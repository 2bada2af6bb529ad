"""Spans from records: what the SDK and opentelemetry-instrumentation-fastapi make of the same request.

    POST /predict ─┬─ validate                              batch ─ links to every member's SERVER span
                   ├─ queue        when it waited for a batch
                   ├─ features
                   ├─ inference ─ link to the batch
                   └─ shadow      when a challenger saw it, too: with stages of its own

A stage's span ID follows from that of its SERVER span: a request that is told again, by an exporter process that took
over from one that died, makes the same spans again. All of them are in one scope, ours; the instrumentation would put
the SERVER span into its own. Limits of the SDK on the number of links or the length of attributes are not applied.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from opentelemetry.semconv.attributes.client_attributes import CLIENT_PORT
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.exception_attributes import (
    EXCEPTION_ESCAPED,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
)
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE

from modeltrace.sidecar.encode.http import normalize_trace_state, server_attributes, server_span_name
from modeltrace.sidecar.encode.protobuf import (
    FIXED32,
    FIXED64,
    ITEM,
    VARINT,
    ExportRequest,
    any_double,
    any_value,
    attribute,
    delimited,
    key,
    key_value,
    tag,
    utf8,
)
from modeltrace.telemetry.metrics.per_model_cache import PerModelCache
from modeltrace.telemetry.names import (
    BAGGAGE_PIN,
    EVENT_VIOLATION,
    ML_BATCH_LOWEST_CONFIDENCE,
    ML_BATCH_REJECTED,
    ML_BATCH_SIZE,
    ML_PREDICTION_CONFIDENCE,
    ML_PREDICTION_ID,
    ML_PREDICTION_LABEL,
    ML_PREDICTION_VALUE,
    SPAN_BATCH,
    SPAN_FEATURES,
    SPAN_INFERENCE,
    SPAN_QUEUE,
    SPAN_SHADOW,
    SPAN_VALIDATE,
    SYNTHETIC,
)
from modeltrace.telemetry.records.prediction import (
    MAX_VIOLATION_EVENTS,
    BatchRecord,
    Failure,
    ModelInfo,
    Origin,
    PredictedRow,
    RequestRecord,
    SchemaViolation,
    Value,
)

SAMPLED = 1
INVALID_FEATURES = "invalid_features"
# As many of the last values are kept as bytes: of clients with what they ask for, of labels, … Longer texts of clients
# are not: what is kept stays small whatever they send.
CACHE_SIZE, MAX_CACHED_LENGTH = 1024, 1024

# Fields of Span; the IDs and the kind with their length or value.
_TRACE_ID, _SPAN_ID, _PARENT = tag(1) + b"\x10", tag(2) + b"\x08", tag(4) + b"\x08"
_STATE, _NAME, _ATTRIBUTE, _EVENT, _LINK, _STATUS = tag(3), tag(5), tag(9), tag(11), tag(13), tag(15)
_INTERNAL, _SERVER, _CLIENT = (tag(6, VARINT) + kind for kind in (b"\x01", b"\x02", b"\x03"))
_CALL = delimited(_NAME, SPAN_SHADOW.encode()) + _CLIENT
_START, _END = tag(7, FIXED64)[0], tag(8, FIXED64)[0]
# That the parent is remote, or not, is known of every span (0x100), and which of the two (0x200).
_LOCAL, _REMOTE = (tag(16, FIXED32) + flags.to_bytes(4, "little") for flags in (0x100, 0x300))
_LINK_FLAGS = tag(6, FIXED32) + (0x100).to_bytes(4, "little")
_UNSET, _FAILED = delimited(_STATUS, b""), tag(3, VARINT) + b"\x02"
_EVENT_TIME, _EVENT_ATTRIBUTE = tag(1, FIXED64)[0], tag(3)
_EXCEPTION, _VIOLATION = (delimited(tag(2), name.encode()) for name in ("exception", EVENT_VIOLATION))

_times: Final = struct.Struct("<BQBQ").pack
_time: Final = struct.Struct("<BQ").pack


class SpanEncoder:
    """Writes the spans of one process."""

    def __init__(self, origin: Origin) -> None:
        self._envelope = ExportRequest(origin.resource, origin.scope)
        self._stage_names = {
            name: delimited(_NAME, name.encode()) + _INTERNAL
            for name in (SPAN_VALIDATE, SPAN_QUEUE, SPAN_FEATURES, SPAN_INFERENCE, SPAN_BATCH, SPAN_SHADOW)
        }
        self._stage_bits = {name: stage_bits(name) for name in self._stage_names}
        self._model = PerModelCache(_encode_model)
        self._pinned = _encode_attribute(BAGGAGE_PIN, True)  # noqa: FBT003  the value of an attribute
        self._synthetic = _encode_attribute(SYNTHETIC, True)  # noqa: FBT003  as above
        self._port, self._id, self._value, self._confidence = map(
            key, (CLIENT_PORT, ML_PREDICTION_ID, ML_PREDICTION_VALUE, ML_PREDICTION_CONFIDENCE)
        )
        self._said = lru_cache(CACHE_SIZE)(_encode_attribute)
        self._way = lru_cache(CACHE_SIZE)(_encode_server_span)
        self._state = lru_cache(CACHE_SIZE)(_encode_trace_state)
        self._outcome = lru_cache(CACHE_SIZE)(_encode_outcome)

    def encode(self, requests: Sequence[RequestRecord], batches: Sequence[BatchRecord] = ()) -> tuple[bytes, int]:
        """One export request with the spans of all that is sampled, and their number."""
        spans = list(self._spans(requests, batches))
        return (self._envelope.encode(spans), len(spans)) if spans else (b"", 0)

    def split(
        self, requests: Sequence[RequestRecord], batches: Sequence[BatchRecord] = (), *, max_bytes: int
    ) -> list[tuple[bytes, int]]:
        """The same in as many export requests as it takes to keep each within `limit` bytes."""
        return self._envelope.split(self._spans(requests, batches), max_bytes)

    def _spans(self, requests: Sequence[RequestRecord], batches: Sequence[BatchRecord]) -> Iterator[bytes]:
        sampled = [request for request in requests if request.trace_flags & SAMPLED]
        for request in sampled:
            header = request.trace_state
            state = (
                (self._state if len(header) <= MAX_CACHED_LENGTH else _encode_trace_state)(header) if header else b""
            )
            shared = b"".join((_TRACE_ID, request.trace_id, _PARENT, request.span_id, state, _LOCAL))
            failure = request.failure
            server_id = int.from_bytes(request.span_id)
            for name, start, end, error_type, said in self._stages(request):
                status = _UNSET
                if failure and failure.stage == name and start:
                    end, error_type = end or failure.time, failure.error_type or error_type  # noqa: PLW2901
                    status, failure = _encode_exception(failure) + _encode_error_status(failure), None
                if not (start and end):
                    continue
                if error_type:
                    status = self._said(ERROR_TYPE, error_type) + status
                times = _times(_START, start, _END, end)
                span_id = (server_id ^ self._stage_bits[name]).to_bytes(8)
                own = (shared, _SPAN_ID, span_id, self._stage_names[name], times, said, status)
                yield delimited(ITEM, b"".join(own))
            # What failed without a span of its own is told by the SERVER span.
            tell = self._server if request.shadow_of is None else self._shadow
            yield delimited(ITEM, b"".join((state, *tell(request, failure))))
        for batch in batches:
            if batch.request_spans:
                yield delimited(ITEM, b"".join(self._batch(batch)))

    def _stages(self, request: RequestRecord) -> Iterator[tuple[str, int, int, str, bytes]]:
        """Name, start, end, `error.type` and other content of each stage; a time of 0 was not reached."""
        if request.rejected_rows:
            rejected, error_type = _encode_attribute(ML_BATCH_REJECTED, request.rejected_rows), INVALID_FEATURES
        else:
            rejected, error_type = b"", ""
        violations = b"".join(
            _encode_violation(one, request.validate_end) for one in request.violations[:MAX_VIOLATION_EVENTS]
        )
        yield SPAN_VALIDATE, request.validate_start, request.validate_end, error_type, rejected + violations
        if request.batch_span:
            yield SPAN_QUEUE, request.validate_end, request.features_start, "", b""
        yield SPAN_FEATURES, request.features_start, request.inference_start, "", b""
        said = self._said(ML_BATCH_SIZE, request.rows - request.rejected_rows)
        if request.batch_span:
            said += _encode_link(*request.batch_span)
        yield SPAN_INFERENCE, request.inference_start, request.inference_end, "", said

    def _server(self, request: RequestRecord, failure: Failure | None) -> Iterator[bytes]:
        """The content of the SERVER span; `failure` is one that no stage tells."""
        yield from (_TRACE_ID, request.trace_id, _SPAN_ID, request.span_id)
        if request.parent_span_id:
            yield from (_PARENT, request.parent_span_id, _REMOTE if request.parent_remote else _LOCAL)
        else:
            yield _LOCAL
        yield _times(_START, request.start, _END, request.end)
        small = len(request.path) + len(request.query) + len(request.user_agent) <= MAX_CACHED_LENGTH
        yield (self._way if small else _encode_server_span)(
            request.method,
            request.route,
            request.path,
            request.query,
            request.scheme,
            request.http_version,
            request.server_address,
            request.server_port,
            request.client_address,
            request.user_agent,
        )
        if request.client_port:
            yield key_value(_ATTRIBUTE, self._port, any_value(request.client_port))
        yield from self._said_of(request)
        yield self._outcome(request.status) if failure is None else _encode_outcome(request.status, failure)

    def _shadow(self, request: RequestRecord, failure: Failure | None) -> Iterator[bytes]:
        """The content of the span of what a challenger made of a request."""
        yield from (_TRACE_ID, request.trace_id, _SPAN_ID, request.span_id, _PARENT, request.parent_span_id, _LOCAL)
        yield self._stage_names[SPAN_SHADOW] if request.remote_call is None else _CALL
        yield _times(_START, request.start, _END, request.end)
        yield from self._said_of(request)
        if request.remote_call is not None:
            yield b"".join(_encode_attribute(*item) for item in request.remote_call.span_attributes().items())
            yield delimited(_STATUS, _FAILED) if request.remote_call.error_type else _UNSET
        else:
            yield _UNSET if failure is None else _encode_outcome(0, failure)

    def _said_of(self, request: RequestRecord) -> Iterator[bytes]:
        """What was asked and answered."""
        if request.model is not None:
            yield self._model(request.model)
        if request.pinned:
            yield self._pinned
        if request.synthetic:
            yield self._synthetic
        if request.is_batch:
            if request.model is not None and request.failure is None:
                yield _encode_attribute(ML_BATCH_SIZE, request.rows)
                yield _encode_attribute(ML_BATCH_REJECTED, request.rejected_rows)
                confidences = [row.confidence for row in request.predictions if row.confidence is not None]
                if confidences:
                    yield _encode_attribute(ML_BATCH_LOWEST_CONFIDENCE, min(confidences))
        elif request.predictions:
            yield from self._answer(request.predictions[0])

    def _answer(self, row: PredictedRow) -> Iterator[bytes]:
        yield key_value(_ATTRIBUTE, self._id, any_value(row.prediction_id))
        if row.value is not None:
            yield key_value(_ATTRIBUTE, self._value, any_double(row.value))
        else:
            yield self._said(ML_PREDICTION_LABEL, str(row.label))
        if row.confidence is not None:
            yield key_value(_ATTRIBUTE, self._confidence, any_double(row.confidence))

    def _batch(self, batch: BatchRecord) -> Iterator[bytes]:
        yield from (_TRACE_ID, batch.trace_id, _SPAN_ID, batch.span_id, _LOCAL, self._stage_names[SPAN_BATCH])
        yield _times(_START, batch.start, _END, batch.end)
        yield self._model(batch.model)
        yield _encode_attribute(ML_BATCH_SIZE, batch.rows)
        yield from (_encode_link(*member) for member in batch.request_spans)
        if batch.error_type:
            yield _encode_attribute(ERROR_TYPE, batch.error_type)
        yield delimited(_STATUS, _FAILED) if batch.error_type else _UNSET


def stage_bits(name: str) -> int:
    """In which bits the span ID of a stage differs from that of its SERVER span."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


def _encode_attribute(name: str, value: Value) -> bytes:
    return attribute(_ATTRIBUTE, name, value)


def _encode_model(model: ModelInfo) -> bytes:
    return b"".join(_encode_attribute(*item) for item in model.span_attributes().items())


def _encode_trace_state(header: str) -> bytes:
    return delimited(_STATE, normalize_trace_state(header).encode())


def _encode_server_span(
    method: str,
    route: str,
    path: str,
    query: str,
    scheme: str,
    http_version: str,
    server_address: str,
    server_port: int,
    client_address: str,
    user_agent: str,
) -> bytes:
    """Name, kind and attributes of a SERVER span as far as they are known when the request arrives."""
    attributes = server_attributes(
        method, route, path, query, scheme, http_version, server_address, server_port, client_address, user_agent
    )
    name = delimited(_NAME, utf8(server_span_name(method, route)))
    return b"".join((name, _SERVER, *(_encode_attribute(*item) for item in attributes.items())))


def _encode_outcome(status: int, failure: Failure | None = None) -> bytes:
    """The status code, and whether it is an error: not what the client did wrong, and 0 says nothing."""
    said = _encode_attribute(HTTP_RESPONSE_STATUS_CODE, status) if status else b""
    event = _encode_exception(failure) if failure else b""
    if status >= 500:
        # The instrumentation sets the status once more when the answer begins, without what the exception said.
        return b"".join((said, _encode_attribute(ERROR_TYPE, str(status)), event, delimited(_STATUS, _FAILED)))
    if failure is None:
        return said + _UNSET
    error_type = _encode_attribute(ERROR_TYPE, failure.error_type) if failure.error_type else b""
    return b"".join((said, error_type, event, _encode_error_status(failure)))


def _encode_exception(failure: Failure) -> bytes:
    attributes = {
        EXCEPTION_TYPE: failure.exception_type,
        EXCEPTION_MESSAGE: failure.message,
        EXCEPTION_STACKTRACE: failure.stacktrace,
        EXCEPTION_ESCAPED: "False",
    }
    said = (attribute(_EVENT_ATTRIBUTE, *item) for item in attributes.items())
    return delimited(_EVENT, b"".join((_time(_EVENT_TIME, failure.time), _EXCEPTION, *said)))


def _encode_violation(violated: SchemaViolation, time: int) -> bytes:
    said = (attribute(_EVENT_ATTRIBUTE, *item) for item in violated.event_attributes().items())
    return delimited(_EVENT, b"".join((_time(_EVENT_TIME, time), _VIOLATION, *said)))


def _encode_error_status(failure: Failure) -> bytes:
    """The status of the span that an exception ended."""
    message = f"{failure.exception_type.rpartition('.')[2]}: {failure.message}"
    return delimited(_STATUS, delimited(tag(2), utf8(message)) + _FAILED)


def _encode_link(trace_id: bytes, span_id: bytes) -> bytes:
    return delimited(_LINK, b"".join((_TRACE_ID, trace_id, _SPAN_ID, span_id, _LINK_FLAGS)))
