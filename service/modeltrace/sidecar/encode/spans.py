"""Encode spans from records. The SDK and opentelemetry-instrumentation-fastapi create equal spans.

    POST /predict ─┬─ validate                              batch ─ links to the SERVER span of each request
                   ├─ queue        if the request waited for a batch
                   ├─ features
                   ├─ inference ─ link to the batch
                   └─ shadow       if a challenger received the request; it has the same stages

The span ID of a stage is derived from the ID of its SERVER span. If a sidecar dies and the next sidecar encodes the
request again, the spans therefore have the same IDs. All spans have the scope of Modeltrace; the instrumentation would
use its own scope for the SERVER span. The SDK's limits on the number of links and the length of attributes are not
applied.
"""

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from opentelemetry.semconv.attributes.client_attributes import CLIENT_PORT
from opentelemetry.trace.span import TraceState

from modeltrace.sidecar.encode.http import SERVER_FIELDS, server_span
from modeltrace.sidecar.encode.protobuf import (
    CACHE_SIZE,
    FIXED32,
    FIXED64,
    ITEM,
    MAX_CACHED_REQUEST_TEXT,
    MAX_REQUEST_BYTES,
    VARINT,
    ExportRequest,
    ExportRequests,
    attribute,
    attribute_encoder,
    delimited,
    tag,
    utf8,
)
from modeltrace.telemetry.names import (
    EVENT_VIOLATION,
    SPAN_BATCH,
    SPAN_FEATURES,
    SPAN_INFERENCE,
    SPAN_QUEUE,
    SPAN_SHADOW,
    SPAN_VALIDATE,
)
from modeltrace.telemetry.records.attributes import (
    EVENT_EXCEPTION,
    batch_attributes,
    exception_attributes,
    request_attributes,
    response_status,
    server_failure,
    stages,
    status_description,
)
from modeltrace.telemetry.records.model_info import ModelInfo, PerModelCache
from modeltrace.telemetry.records.prediction import (
    SAMPLED,
    BatchRecord,
    Failure,
    Origin,
    RequestRecord,
    SchemaViolation,
)

# Fields of Span; the IDs with their length, the kind with its value.
TRACE_ID, SPAN_ID, PARENT = tag(1) + b"\x10", tag(2) + b"\x08", tag(4) + b"\x08"
_STATE, NAME, ATTRIBUTE, _EVENT, _LINK, _STATUS = tag(3), tag(5), tag(9), tag(11), tag(13), tag(15)
INTERNAL, _SERVER, _CLIENT = (tag(6, VARINT) + kind for kind in (b"\x01", b"\x02", b"\x03"))
_REMOTE_SHADOW = delimited(NAME, SPAN_SHADOW.encode()) + _CLIENT
START, END = tag(7, FIXED64)[0], tag(8, FIXED64)[0]
# Flags of Span: 0x100: it is known whether the parent is remote; 0x200: the parent is remote.
LOCAL, _REMOTE = (tag(16, FIXED32) + flags.to_bytes(4, "little") for flags in (0x100, 0x300))
_LOCAL_LINK, REMOTE_LINK = (tag(6, FIXED32) + flags.to_bytes(4, "little") for flags in (0x100, 0x300))
STATUS_UNSET, _CODE_ERROR = delimited(_STATUS, b""), tag(3, VARINT) + b"\x02"
_EVENT_TIME, _EVENT_ATTRIBUTE = tag(1, FIXED64)[0], tag(3)
_EXCEPTION, _VIOLATION = (delimited(tag(2), name.encode()) for name in (EVENT_EXCEPTION, EVENT_VIOLATION))

pack_times: Final = struct.Struct("<BQBQ").pack
_time: Final = struct.Struct("<BQ").pack


class SpanEncoder:
    """Encodes the spans of one process."""

    def __init__(self, origin: Origin, max_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._export_request = ExportRequest(origin.resource, origin.scope, max_bytes)
        self._names = {
            name: delimited(NAME, name.encode()) + INTERNAL
            for name in (SPAN_VALIDATE, SPAN_QUEUE, SPAN_FEATURES, SPAN_INFERENCE, SPAN_BATCH, SPAN_SHADOW)
        }
        self._stage_bits = {name: stage_bits(name) for name in self._names}
        self._attribute = attribute_encoder(ATTRIBUTE)
        self._model = PerModelCache(_encode_model)
        self._server_span = lru_cache(CACHE_SIZE)(_encode_server_span)
        self._trace_state = lru_cache(CACHE_SIZE)(encode_trace_state)
        self._response = lru_cache(CACHE_SIZE)(_encode_response)

    def encode(self, records: Iterable[RequestRecord | BatchRecord]) -> ExportRequests:
        """Return export requests with all sampled spans."""
        return self._export_request.split(self._spans(records))

    def _spans(self, records: Iterable[RequestRecord | BatchRecord]) -> Iterator[bytes]:
        for record in records:
            if isinstance(record, BatchRecord):
                if record.request_spans:
                    yield delimited(ITEM, b"".join(self._batch(record)))
            elif record.trace_flags & SAMPLED:
                state = b""
                if header := record.trace_state:
                    is_cached = len(header) <= MAX_CACHED_REQUEST_TEXT
                    state = (self._trace_state if is_cached else encode_trace_state)(header)
                yield from self._stages(record, state)
                encode = self._server if record.shadow_of is None else self._shadow
                yield delimited(ITEM, b"".join((state, *encode(record, server_failure(record)))))

    def _stages(self, request: RequestRecord, state: bytes) -> Iterator[bytes]:
        shared = b"".join((TRACE_ID, request.trace_id, PARENT, request.span_id, state, LOCAL, SPAN_ID))
        server_id = int.from_bytes(request.span_id)
        for name, start, end, attributes, violations, batch, failure in stages(request, request.violations):
            span_id = (server_id ^ self._stage_bits[name]).to_bytes(8)
            fields = [shared, span_id, self._names[name], pack_times(START, start, END, end)]
            if attributes:
                fields += [self._attribute(*item) for item in attributes.items()]
            if violations:
                fields += [_encode_violation(violation, request.validate_end) for violation in violations]
            if batch:
                fields.append(encode_link(*batch))
            if failure is None:
                fields.append(STATUS_UNSET)
            else:
                fields += (_encode_exception(failure), _encode_status(status_description(failure)))
            yield delimited(ITEM, b"".join(fields))

    def _server(self, request: RequestRecord, failure: Failure | None) -> Iterator[bytes]:
        """Yield the fields of the SERVER span. It has an event for the exception `failure` if there is one."""
        yield from (TRACE_ID, request.trace_id, SPAN_ID, request.span_id)
        if request.parent_span_id:
            yield from (PARENT, request.parent_span_id, _REMOTE if request.parent_remote else LOCAL)
        else:
            yield LOCAL
        yield pack_times(START, request.start, END, request.end)
        is_cached = len(request.path) + len(request.query) + len(request.user_agent) <= MAX_CACHED_REQUEST_TEXT
        yield (self._server_span if is_cached else _encode_server_span)(*SERVER_FIELDS(request))
        if request.client_port:
            yield self._attribute(CLIENT_PORT, request.client_port)
        yield from self._request_attributes(request)
        yield self._response(request.status) if failure is None else _encode_response(request.status, failure)

    def _shadow(self, request: RequestRecord, failure: Failure | None) -> Iterator[bytes]:
        """Yield the fields of the span of a shadow request."""
        yield from (TRACE_ID, request.trace_id, SPAN_ID, request.span_id, PARENT, request.parent_span_id, LOCAL)
        yield self._names[SPAN_SHADOW] if request.remote_call is None else _REMOTE_SHADOW
        yield pack_times(START, request.start, END, request.end)
        yield from self._request_attributes(request)
        if request.remote_call is not None:
            for item in request.remote_call.span_attributes().items():
                yield attribute(ATTRIBUTE, *item)
            yield _encode_status("" if request.remote_call.error_type else None)
        else:
            yield _encode_response(0, failure)

    def _request_attributes(self, request: RequestRecord) -> Iterator[bytes]:
        if request.model is not None:
            yield self._model(request.model)
        for item in request_attributes(request).items():
            yield self._attribute(*item)

    def _batch(self, batch: BatchRecord) -> Iterator[bytes]:
        yield from (TRACE_ID, batch.trace_id, SPAN_ID, batch.span_id, LOCAL, self._names[SPAN_BATCH])
        yield pack_times(START, batch.start, END, batch.end)
        yield self._model(batch.model)
        for item in batch_attributes(batch).items():
            yield self._attribute(*item)
        yield from (encode_link(*request_span) for request_span in batch.request_spans)
        yield _encode_status("" if batch.error_type else None)


def stage_bits(name: str) -> int:
    """Return the bits to XOR with the ID of the SERVER span; the result is the span ID of a stage."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


def _encode_model(model: ModelInfo) -> bytes:
    return b"".join(attribute(ATTRIBUTE, *item) for item in model.span_attributes().items())


def encode_trace_state(header: str) -> bytes:
    """Encode the members of a `tracestate` header; a malformed header is ignored completely."""
    return delimited(_STATE, TraceState.from_header([header]).to_header().encode())


def _encode_server_span(*fields: Any) -> bytes:  # noqa: ANN401  those of `SERVER_FIELDS`
    """Encode the name and kind of a SERVER span, and the attributes that are known when the request arrives."""
    name, attributes = server_span(*fields)
    encoded = (attribute(ATTRIBUTE, *item) for item in attributes.items())
    return b"".join((delimited(NAME, utf8(name)), _SERVER, *encoded))


def _encode_response(status: int, failure: Failure | None = None) -> bytes:
    attributes, description = response_status(status, failure)
    encoded = [attribute(ATTRIBUTE, *item) for item in attributes.items()]
    event = _encode_exception(failure) if failure else b""
    return b"".join((*encoded, event, _encode_status(description)))


def _encode_status(description: str | None) -> bytes:
    """Encode the status `ERROR` with a description, or `UNSET` for None."""
    if description is None:
        return STATUS_UNSET
    return delimited(_STATUS, (delimited(tag(2), utf8(description)) if description else b"") + _CODE_ERROR)


def _encode_exception(failure: Failure) -> bytes:
    attributes = (attribute(_EVENT_ATTRIBUTE, *item) for item in exception_attributes(failure).items())
    return delimited(_EVENT, b"".join((_time(_EVENT_TIME, failure.time), _EXCEPTION, *attributes)))


def _encode_violation(violation: SchemaViolation, time: int) -> bytes:
    attributes = (attribute(_EVENT_ATTRIBUTE, *item) for item in violation.event_attributes().items())
    return delimited(_EVENT, b"".join((_time(_EVENT_TIME, time), _VIOLATION, *attributes)))


def encode_link(trace_id: bytes, span_id: bytes, flags: bytes = _LOCAL_LINK) -> bytes:
    """Encode a link to a span."""
    return delimited(_LINK, b"".join((TRACE_ID, trace_id, SPAN_ID, span_id, flags)))
