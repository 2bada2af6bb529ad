"""Encode spans, log records and JSON lines of true labels. The SDK path creates equal telemetry.

    POST /feedback ─── feedback ─ link to the SERVER span of the prediction        one per label

The span ID is derived from the ID of the SERVER span and the prediction ID, so a label that is encoded again has the
same span ID. Log records belong to the SERVER span, like all log records of a request.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME

from modeltrace.sidecar.encode import logs, spans
from modeltrace.sidecar.encode.json_lines import encode_line, trace_ids
from modeltrace.sidecar.encode.protobuf import (
    ITEM,
    MAP_ENTRY,
    MAX_REQUEST_BYTES,
    ExportRequest,
    ExportRequests,
    any_map,
    attribute,
    attribute_encoder,
    delimited,
    key,
    key_value,
)
from modeltrace.telemetry.names import EVENT_FEEDBACK, SPAN_FEEDBACK
from modeltrace.telemetry.records.feedback import FEEDBACK_LOGGER, FeedbackRecord, OutputLabels, TrueLabel
from modeltrace.telemetry.records.prediction import SAMPLED, Origin

_NAME = delimited(spans.NAME, SPAN_FEEDBACK.encode()) + spans.INTERNAL
_EVENT = logs.INFO + delimited(logs.EVENT_NAME, EVENT_FEEDBACK.encode())


class FeedbackEncoder:
    """Encodes the labels that one process has received."""

    def __init__(self, origin: Origin, max_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._span_request = ExportRequest(origin.resource, origin.scope, max_bytes)
        self._log_request = ExportRequest(origin.resource, FEEDBACK_LOGGER, max_bytes)
        self._span_attribute = attribute_encoder(spans.ATTRIBUTE)
        self._log_attribute = attribute_encoder(logs.ATTRIBUTE)

    def spans(self, feedback: Iterable[FeedbackRecord]) -> ExportRequests:
        """Return export requests with a span per label."""
        return self._span_request.split(self._spans(feedback))

    def logs(self, feedback: Iterable[FeedbackRecord]) -> ExportRequests:
        """Return export requests with a log record per label."""
        return self._log_request.split(self._logs(feedback))

    def lines(self, feedback: Iterable[FeedbackRecord]) -> bytes:
        """Return a JSON line per label."""
        return b"".join(_encode_line(record, label) for record in feedback for label in record.labels)

    def _spans(self, feedback: Iterable[FeedbackRecord]) -> Iterator[bytes]:
        for record in feedback:
            if not record.trace_flags & SAMPLED:
                continue
            state = spans.encode_trace_state(record.trace_state) if record.trace_state else b""
            shared = b"".join((spans.TRACE_ID, record.trace_id, spans.PARENT, record.span_id, state, _NAME))
            shared += spans.pack_times(spans.START, record.start, spans.END, record.end)
            shared += spans.STATUS_UNSET + spans.LOCAL + spans.SPAN_ID
            for label in record.labels:
                link = b""
                if label.has_trace:  # its ID comes from a client
                    link = spans.encode_link(label.trace_id, label.span_id, spans.REMOTE_LINK)
                attributes = (self._span_attribute(*item) for item in record.span_attributes(label).items())
                yield delimited(ITEM, b"".join((shared, span_id(record, label), *attributes, link)))

    def _logs(self, feedback: Iterable[FeedbackRecord]) -> Iterator[bytes]:
        for record in feedback:
            times = logs.pack_times(logs.TIME, record.end, logs.OBSERVED, record.end)
            shared = times + _EVENT + logs.encode_context(record)
            for label in record.labels:
                attributes = (
                    _encode_map(name, value) if isinstance(value, dict) else self._log_attribute(name, value)
                    for name, value in record.log_attributes(label).items()
                )
                yield delimited(ITEM, b"".join((shared, logs.encode_body(label.message()), *attributes)))


def _encode_map(name: str, values: OutputLabels) -> bytes:
    return key_value(logs.ATTRIBUTE, key(name), any_map(attribute(MAP_ENTRY, *item) for item in values.items()))


def span_id(feedback: FeedbackRecord, label: TrueLabel) -> bytes:
    """Return the span ID of a label."""
    return blake2b(label.prediction_id.encode(), digest_size=8, key=feedback.span_id).digest()


def _encode_line(feedback: FeedbackRecord, label: TrueLabel) -> bytes:
    event = {OTEL_EVENT_NAME: EVENT_FEEDBACK, **feedback.log_attributes(label)}
    ids = trace_ids(feedback.trace_id, feedback.span_id)
    return encode_line(FEEDBACK_LOGGER, label.message(), event, ids, feedback.end)
