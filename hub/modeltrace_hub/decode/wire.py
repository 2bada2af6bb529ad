"""Read protobuf's wire format without message classes.

This module works around two properties of protobuf's parser. The parser rejects a whole request if one text is not
UTF-8: `repair` rewrites a request that did not parse. The parser creates all messages before they can be counted:
`count_records` counts the records of a request before it is parsed.

The format is described in "Encoding" of the Protocol Buffers documentation. A message is a list of fields. Each field
begins with a varint: the field number times 8, plus the wire type.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from modeltrace_hub.decode.batch import Problems, RecordRejectedError
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.message_shape import MAX_DEPTH, Field, MessageShape
from modeltrace_hub.errors import MalformedError

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH_DELIMITED: Final = 2
_FIXED32: Final = 5
_FIXED_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}

FieldPath = tuple[int, ...]


class _InvalidWireError(Exception):
    """The bytes are not a valid message."""


def count_records(raw: bytes, shape: MessageShape, budget: Budget) -> None:
    """Count records, and the fields of the messages that contain them. Stop at invalid bytes: the parser reports them.

    Raises:
        TooLargeError: the request exceeds its limits.
    """
    stack = [(shape, 0, len(raw))]
    while stack:
        outer, start, end = stack.pop()
        try:
            for number, wire_type, _, begin, stop in _iter_fields(raw, start, end):
                budget.count_messages(1)
                field = outer.fields_by_number.get(number)
                if field is None or field.message is None or wire_type != _LENGTH_DELIMITED:
                    continue
                if field.message.is_record:
                    budget.count_records(1)
                elif field.message.contains_records and stop > begin:
                    stack.append((field.message, begin, stop))
        except _InvalidWireError:
            return


def repair(raw: bytes, shape: MessageShape, budget: Budget, problems: Problems) -> bytes:
    """Rewrite a request that did not parse, so that it parses.

    A text that is not UTF-8 is repaired with U+FFFD, a value that is nested too deeply is omitted, and a record that is
    not a valid message is rejected. Records that parse are copied unchanged.

    Raises:
        MalformedError: the request, or one of its resources, scopes or metrics, is not a valid message.
        TooLargeError: the request exceeds its limits.
    """
    try:
        return _Repairer(raw, shape, budget, problems).repair_message(shape, 0, len(raw), ())
    except (_InvalidWireError, RecordRejectedError):
        raise MalformedError("The body is not an OTLP request in protobuf: it is truncated, or invalid") from None


class _Repairer:
    """Rewrite one request. A `path` contains the field numbers that lead from the request to a message."""

    def __init__(self, raw: bytes, shape: MessageShape, budget: Budget, problems: Problems) -> None:
        self._raw = raw
        self._request = GetMessageClass(shape.descriptor)
        self._budget = budget
        self._problems = problems

    def repair_message(self, shape: MessageShape, start: int, end: int, path: FieldPath) -> bytes:
        """Return the repaired bytes of a message.

        Raises:
            _InvalidWireError: the bytes are not a valid message.
        """
        parts: list[bytes] = []
        for number, wire_type, first, begin, stop in _iter_fields(self._raw, start, end):
            field = shape.fields_by_number.get(number)
            if shape.contains_records or (field is not None and field.message is not None):
                self._budget.count_messages(1)
            if field is None or wire_type != _LENGTH_DELIMITED or field.kind not in {"text", "message"}:
                parts.append(self._raw[first:stop])
            elif (content := self._repair_content(field, begin, stop, path)) is not None:
                parts += _encode_field(number, content)
        return b"".join(parts)

    def _repair_content(self, field: Field, start: int, end: int, path: FieldPath) -> bytes | None:
        """Return the repaired content of a text or message field; None for a rejected record."""
        shape = field.message
        if shape is None:
            return self._repair_text(field, start, end)
        path = (*path, field.number)
        if shape.is_record:
            return self._repair_record(field, shape, start, end, path)
        if len(path) > MAX_DEPTH:
            self._problems.warn("value", field.qualified_name)
            return b""
        try:
            return self.repair_message(shape, start, end, path)
        except _InvalidWireError:
            if shape.is_any_value:
                self._problems.warn("value", field.qualified_name)
                return b""
            raise

    def _repair_record(self, field: Field, shape: MessageShape, start: int, end: int, path: FieldPath) -> bytes | None:
        """Return a record unchanged if it parses, else repaired; None if it still does not parse."""
        content = self._raw[start:end]
        if self._parses(content, path):
            return content
        with suppress(_InvalidWireError):
            content = self.repair_message(shape, start, end, path)
            if self._parses(content, path):
                return content
        self._problems.reject(RecordRejectedError("wire", field.qualified_name))
        return None

    def _parses(self, content: bytes, path: FieldPath) -> bool:
        """Whether a request that contains only this message parses."""
        for number in reversed(path):
            content = b"".join(_encode_field(number, content))
        try:
            self._request.FromString(content)
        except DecodeError:
            return False
        return True

    def _repair_text(self, field: Field, start: int, end: int) -> bytes:
        content = self._raw[start:end]
        try:
            content.decode()
        except UnicodeDecodeError:
            self._problems.warn("text", field.qualified_name)
            return content.decode(errors="replace").encode()
        return content


def _iter_fields(raw: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield of each field: number, wire type, start of the field, start of its content, end of its content.

    Raises:
        _InvalidWireError: the bytes are not fields.
    """
    position = start
    while position < end:
        first = position
        tag, position = _read_varint(raw, position, end)
        number, wire_type = tag >> 3, tag & 7
        begin = position
        if wire_type == _LENGTH_DELIMITED:
            length, begin = _read_varint(raw, position, end)
            position = begin + length
        elif wire_type == _VARINT:
            _, position = _read_varint(raw, position, end)
        elif wire_type in _FIXED_SIZES:
            position += _FIXED_SIZES[wire_type]
        else:
            raise _InvalidWireError  # groups, which OTLP does not use, and unknown types
        if position > end or not number:
            raise _InvalidWireError
        yield number, wire_type, first, begin, position


def _read_varint(raw: bytes, position: int, end: int) -> tuple[int, int]:
    """Return a number and the position after it."""
    value = shift = 0
    while position < end and shift < 70:
        byte = raw[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise _InvalidWireError


def _encode_field(number: int, content: bytes) -> tuple[bytes, bytes, bytes]:
    """Encode a length-delimited field, in parts."""
    return _encode_varint(number << 3 | _LENGTH_DELIMITED), _encode_varint(len(content)), content


def _encode_varint(value: int) -> bytes:
    """Encode a number."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
