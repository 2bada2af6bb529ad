"""Spans, log records and lines of true labels: what the SDK makes of the same.

    POST /feedback ─── feedback ─ link to the SERVER span of the prediction        one a label

A span's ID follows from that of its SERVER span and from the prediction's: told again, it is the same span. Log records
stand on the SERVER span, as all of a request do. The wire format is that of `modeltrace.sidecar.encode.protobuf`.
"""

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME

from modeltrace.sidecar.encode.http import normalize_trace_state
from modeltrace.sidecar.encode.json_lines import encode_line, to_datetime
from modeltrace.sidecar.encode.protobuf import (
    FIXED32,
    FIXED64,
    ITEM,
    VARINT,
    ExportRequest,
    any_value,
    delimited,
    key,
    key_value,
    tag,
)
from modeltrace.telemetry.names import EVENT_FEEDBACK, SPAN_FEEDBACK
from modeltrace.telemetry.records.feedback import FEEDBACK_LOGGER, FeedbackRecord, TrueLabel
from modeltrace.telemetry.records.prediction import Origin, Value

SAMPLED: Final = 1
_NO_TRACE: Final = bytes(16)
# As many of the last attributes are kept as bytes. Nearly all of a label's have few values: the model, classes, ages.
CACHE_SIZE: Final = 1024

# Fields of Span; its IDs have a fixed length, its kind is INTERNAL, its parent is not remote, its status is unset.
_TRACE_ID, _SPAN_ID, _STATE, _PARENT = tag(1) + b"\x10", tag(2) + b"\x08", tag(3), tag(4) + b"\x08"
_NAME = delimited(tag(5), SPAN_FEEDBACK.encode()) + tag(6, VARINT) + b"\x01"
_SAID_BY_SPAN, _LINK = tag(9), tag(13)
_START, _END = tag(7, FIXED64)[0], tag(8, FIXED64)[0]
_REST = delimited(tag(15), b"") + tag(16, FIXED32) + (0x100).to_bytes(4, "little")
# A prediction's span came with the ID that a client sent: it is remote.
_LINK_FLAGS = tag(6, FIXED32) + (0x300).to_bytes(4, "little")

# Fields of LogRecord.
_TIME, _OBSERVED, _FLAGS = tag(1, FIXED64)[0], tag(11, FIXED64)[0], tag(8, FIXED32)[0]
_EVENT = b"".join((tag(2, VARINT), b"\x09", delimited(tag(3), b"INFO"), delimited(tag(12), EVENT_FEEDBACK.encode())))
_BODY, _SAID_BY_LOG = tag(5), tag(6)
_LOG_TRACE, _LOG_SPAN = tag(9) + b"\x10", tag(10) + b"\x08"

_times: Final = struct.Struct("<BQBQ").pack
_flags: Final = struct.Struct("<BI").pack


class FeedbackEncoder:
    """Writes what is told of the labels that came to one process."""

    def __init__(self, origin: Origin) -> None:
        self._spans = ExportRequest(origin.resource, origin.scope)
        self._logs = ExportRequest(origin.resource, FEEDBACK_LOGGER)
        self._said = lru_cache(CACHE_SIZE, typed=True)(_encode_attribute)

    def spans(self, feedback: Iterable[FeedbackRecord], max_bytes: int) -> list[tuple[bytes, int]]:
        """Export requests of at most `limit` bytes with a span a label, and the number of spans in each."""
        return self._spans.split(self._each_span(feedback), max_bytes)

    def logs(self, feedback: Iterable[FeedbackRecord], max_bytes: int) -> list[tuple[bytes, int]]:
        """The same with a log record a label."""
        return self._logs.split(self._each_log(feedback), max_bytes)

    def lines(self, feedback: Iterable[FeedbackRecord]) -> bytes:
        """A JSON line a label."""
        return b"".join(_line(one, label) for one in feedback for label in one.labels)

    def _each_span(self, feedback: Iterable[FeedbackRecord]) -> Iterator[bytes]:
        for one in feedback:
            if not one.trace_flags & SAMPLED:
                continue
            state = delimited(_STATE, normalize_trace_state(one.trace_state).encode()) if one.trace_state else b""
            head = b"".join((_TRACE_ID, one.trace_id, _PARENT, one.span_id, state, _NAME))
            head += _times(_START, one.start, _END, one.end)
            for label in one.labels:
                link = b""
                if label.has_trace:
                    link = _TRACE_ID + label.trace_id + _SPAN_ID + label.span_id + _LINK_FLAGS
                    link = delimited(_LINK, link)
                own = _SPAN_ID + span_id(one, label)
                yield delimited(ITEM, b"".join((head, own, *self._attributes(_SAID_BY_SPAN, one, label), link, _REST)))

    def _each_log(self, feedback: Iterable[FeedbackRecord]) -> Iterator[bytes]:
        for one in feedback:
            head = _times(_TIME, one.end, _OBSERVED, one.end) + _EVENT
            if one.trace_id != _NO_TRACE:
                flags = _flags(_FLAGS, one.trace_flags)
                head = b"".join((head, _LOG_TRACE, one.trace_id, _LOG_SPAN, one.span_id, flags))
            for label in one.labels:
                body = delimited(_BODY, any_value(label.message()))
                yield delimited(ITEM, b"".join((head, body, *self._attributes(_SAID_BY_LOG, one, label))))

    def _attributes(self, announced: bytes, one: FeedbackRecord, label: TrueLabel) -> Iterator[bytes]:
        for name, value in one.event_attributes(label).items():
            # IDs are never met again.
            known = not isinstance(value, str) or len(value) < 32
            yield (self._said if known else _encode_attribute)(announced, name, value)


def span_id(feedback: FeedbackRecord, label: TrueLabel) -> bytes:
    """The ID of a label's span."""
    return blake2b(label.prediction_id.encode(), digest_size=8, key=feedback.span_id).digest()


def _encode_attribute(announced: bytes, name: str, value: Value) -> bytes:
    return key_value(announced, key(name), any_value(value))


def _line(feedback: FeedbackRecord, label: TrueLabel) -> bytes:
    ids = {}
    if feedback.trace_id != _NO_TRACE:
        ids = {"trace_id": feedback.trace_id.hex(), "span_id": feedback.span_id.hex()}
    said: dict[str, object] = {
        "level": "INFO",
        "logger": FEEDBACK_LOGGER,
        "message": label.message(),
        OTEL_EVENT_NAME: EVENT_FEEDBACK,
        **feedback.event_attributes(label),
        **ids,
        "timestamp": to_datetime(feedback.end),
    }
    return encode_line(said)
