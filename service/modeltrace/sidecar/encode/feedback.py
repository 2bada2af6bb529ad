"""Encode spans, log records and JSON lines of true labels. The SDK path creates equal ones.

    POST /feedback ─── feedback ─ link to the SERVER span of the prediction        one per label

The span ID is derived from the ID of the SERVER span and the prediction ID, so a label that is encoded again has the
same span ID. Log records belong to the SERVER span, like all log records of a request.
"""

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME

from modeltrace.sidecar.encode.http import normalize_trace_state
from modeltrace.sidecar.encode.json_lines import encode_line, to_datetime, trace_ids
from modeltrace.sidecar.encode.protobuf import (
    FIXED32,
    FIXED64,
    ITEM,
    VARINT,
    ExportRequest,
    any_value,
    attribute_encoder,
    delimited,
    tag,
)
from modeltrace.telemetry.names import EVENT_FEEDBACK, SPAN_FEEDBACK
from modeltrace.telemetry.records.feedback import FEEDBACK_LOGGER, FeedbackRecord, TrueLabel
from modeltrace.telemetry.records.prediction import Origin

SAMPLED: Final = 1
_NO_TRACE: Final = bytes(16)

# Fields of Span: its IDs have a fixed length, its kind is INTERNAL, its parent is not remote, its status is unset.
_TRACE_ID, _SPAN_ID, _STATE, _PARENT = tag(1) + b"\x10", tag(2) + b"\x08", tag(3), tag(4) + b"\x08"
_NAME = delimited(tag(5), SPAN_FEEDBACK.encode()) + tag(6, VARINT) + b"\x01"
_SPAN_ATTRIBUTE, _LINK = tag(9), tag(13)
_START, _END = tag(7, FIXED64)[0], tag(8, FIXED64)[0]
_STATUS_AND_FLAGS = delimited(tag(15), b"") + tag(16, FIXED32) + (0x100).to_bytes(4, "little")
# The ID of the prediction's span comes from a client, so the link is remote.
_LINK_FLAGS = tag(6, FIXED32) + (0x300).to_bytes(4, "little")

# Fields of LogRecord.
_TIME, _OBSERVED, _FLAGS = tag(1, FIXED64)[0], tag(11, FIXED64)[0], tag(8, FIXED32)[0]
_EVENT = b"".join((tag(2, VARINT), b"\x09", delimited(tag(3), b"INFO"), delimited(tag(12), EVENT_FEEDBACK.encode())))
_BODY, _LOG_ATTRIBUTE = tag(5), tag(6)
_LOG_TRACE, _LOG_SPAN = tag(9) + b"\x10", tag(10) + b"\x08"

_times: Final = struct.Struct("<BQBQ").pack
_flags: Final = struct.Struct("<BI").pack


class FeedbackEncoder:
    """Encodes the labels that one process has received."""

    def __init__(self, origin: Origin) -> None:
        self._span_request = ExportRequest(origin.resource, origin.scope)
        self._log_request = ExportRequest(origin.resource, FEEDBACK_LOGGER)
        self._span_attribute = attribute_encoder(_SPAN_ATTRIBUTE)
        self._log_attribute = attribute_encoder(_LOG_ATTRIBUTE)

    def spans(self, feedback: Iterable[FeedbackRecord], max_bytes: int) -> list[tuple[bytes, int]]:
        """Return export requests of at most `max_bytes` with a span per label, each with its number of spans."""
        return self._span_request.split(self._spans(feedback), max_bytes)

    def logs(self, feedback: Iterable[FeedbackRecord], max_bytes: int) -> list[tuple[bytes, int]]:
        """Return export requests with a log record per label, each with its number of log records."""
        return self._log_request.split(self._logs(feedback), max_bytes)

    def lines(self, feedback: Iterable[FeedbackRecord]) -> bytes:
        """Return a JSON line per label."""
        return b"".join(_encode_line(record, label) for record in feedback for label in record.labels)

    def _spans(self, feedback: Iterable[FeedbackRecord]) -> Iterator[bytes]:
        for record in feedback:
            if not record.trace_flags & SAMPLED:
                continue
            header = record.trace_state
            state = delimited(_STATE, normalize_trace_state(header).encode()) if header else b""
            shared = b"".join((_TRACE_ID, record.trace_id, _PARENT, record.span_id, state, _NAME))
            shared += _times(_START, record.start, _END, record.end) + _STATUS_AND_FLAGS + _SPAN_ID
            for label in record.labels:
                link = b""
                if label.has_trace:
                    link = delimited(_LINK, _TRACE_ID + label.trace_id + _SPAN_ID + label.span_id + _LINK_FLAGS)
                attributes = (self._span_attribute(*item) for item in record.event_attributes(label).items())
                yield delimited(ITEM, b"".join((shared, span_id(record, label), *attributes, link)))

    def _logs(self, feedback: Iterable[FeedbackRecord]) -> Iterator[bytes]:
        for record in feedback:
            shared = _times(_TIME, record.end, _OBSERVED, record.end) + _EVENT
            if record.trace_id != _NO_TRACE:
                flags = _flags(_FLAGS, record.trace_flags)
                shared = b"".join((shared, _LOG_TRACE, record.trace_id, _LOG_SPAN, record.span_id, flags))
            for label in record.labels:
                body = delimited(_BODY, any_value(label.message()))
                attributes = (self._log_attribute(*item) for item in record.event_attributes(label).items())
                yield delimited(ITEM, b"".join((shared, body, *attributes)))


def span_id(feedback: FeedbackRecord, label: TrueLabel) -> bytes:
    """Return the span ID of a label."""
    return blake2b(label.prediction_id.encode(), digest_size=8, key=feedback.span_id).digest()


def _encode_line(feedback: FeedbackRecord, label: TrueLabel) -> bytes:
    line: dict[str, object] = {
        "level": "INFO",
        "logger": FEEDBACK_LOGGER,
        "message": label.message(),
        OTEL_EVENT_NAME: EVENT_FEEDBACK,
        **feedback.event_attributes(label),
        **trace_ids(feedback.trace_id, feedback.span_id),
        "timestamp": to_datetime(feedback.end),
    }
    return encode_line(line)
