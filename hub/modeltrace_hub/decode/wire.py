"""Protobuf's wire format, read without the messages' classes: for what protobuf's own parser cannot do.

The parser refuses a request as a whole for one text that is not UTF-8, and it builds all messages before anybody can
count them. `repair` rewrites a request that did not parse; `count_records` looks at one before it is parsed.

The format: "Encoding" of the Protocol Buffers documentation. A message is a list of fields; each begins with a varint,
which is the field's number times 8 plus the wire type.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from modeltrace_hub.decode.batch import Problems, RejectedError
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.message_shape import MAX_DEPTH, Field, Shape
from modeltrace_hub.errors import MalformedError

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2
_FIXED32: Final = 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}

Path = tuple[int, ...]


class _BrokenError(Exception):
    """The bytes are not a message."""


def count_records(raw: bytes, shape: Shape, budget: Budget) -> None:
    """Count records, and the fields of all that is above them. What is broken is left to the parser.

    Raises:
        TooLargeError: there are more than one request may have.
    """
    waiting = [(shape, 0, len(raw))]
    while waiting:
        outer, start, end = waiting.pop()
        try:
            for number, wire_type, _, begin, stop in _fields(raw, start, end):
                budget.messages(1)
                field = outer.numbers.get(number)
                if field is None or field.message is None or wire_type != _LENGTH:
                    continue
                if field.message.record:
                    budget.records(1)
                elif field.message.holds_records and stop > begin:
                    waiting.append((field.message, begin, stop))
        except _BrokenError:
            return


def repair(raw: bytes, shape: Shape, budget: Budget, problems: Problems) -> bytes:
    """Rewrite a request that did not parse, so that it does.

    A text that is not UTF-8 is repaired with U+FFFD, a value that is nested too deeply is left out, and a record whose
    bytes are not a message is rejected. Records that parse are not looked at further.

    Raises:
        MalformedError: the request is not a message, or one of its resources, scopes or metrics is not.
        TooLargeError: it has more messages, and fields above records, than one request may have.
    """
    try:
        return _Repair(raw, shape, budget, problems).message(shape, 0, len(raw), ())
    except (_BrokenError, RejectedError):
        raise MalformedError("The body is not an OTLP request in protobuf: it is cut off, or something else") from None


class _Repair:
    """Rewrites one request. `path` below are the numbers of the fields from the request down to a message."""

    def __init__(self, raw: bytes, shape: Shape, budget: Budget, problems: Problems) -> None:
        self._raw = raw
        self._request = GetMessageClass(shape.descriptor)
        self._budget = budget
        self._problems = problems

    def message(self, shape: Shape, start: int, end: int, path: Path) -> bytes:
        """Return the bytes of a message that parses.

        Raises:
            _BrokenError: its bytes are not a message.
        """
        parts: list[bytes] = []
        for number, wire_type, first, begin, stop in _fields(self._raw, start, end):
            field = shape.numbers.get(number)
            if shape.holds_records or (field is not None and field.message is not None):
                self._budget.messages(1)
            if field is None or wire_type != _LENGTH or field.kind not in {"text", "message"}:
                parts.append(self._raw[first:stop])
            elif (content := self._content(field, begin, stop, path)) is not None:
                parts += _field(number, content)
        return b"".join(parts)

    def _content(self, field: Field, start: int, end: int, path: Path) -> bytes | None:
        """Return what stands in a text or a message; None for a record that is rejected."""
        shape = field.message
        if shape is None:
            return self._text(field, start, end)
        path = (*path, field.number)
        if shape.record:
            return self._record(field, shape, start, end, path)
        if len(path) > MAX_DEPTH:
            self._problems.warn("value", field.label)
            return b""
        try:
            return self.message(shape, start, end, path)
        except _BrokenError:
            if shape.value:
                self._problems.warn("value", field.label)
                return b""
            raise

    def _record(self, field: Field, shape: Shape, start: int, end: int, path: Path) -> bytes | None:
        """Return a record as it is if it parses, else repaired; None if it does not parse then either."""
        content = self._raw[start:end]
        if self._parses(content, path):
            return content
        with suppress(_BrokenError):
            content = self.message(shape, start, end, path)
            if self._parses(content, path):
                return content
        self._problems.reject(RejectedError("wire", field.label))
        return None

    def _parses(self, content: bytes, path: Path) -> bool:
        """Whether a request parses that has nothing but this message."""
        for number in reversed(path):
            content = b"".join(_field(number, content))
        try:
            self._request.FromString(content)
        except DecodeError:
            return False
        return True

    def _text(self, field: Field, start: int, end: int) -> bytes:
        content = self._raw[start:end]
        try:
            content.decode()
        except UnicodeDecodeError:
            self._problems.warn("text", field.label)
            return content.decode(errors="replace").encode()
        return content


def _fields(raw: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield number and wire type of each field, where it starts, and where its content starts and ends.

    Raises:
        _BrokenError: the bytes are not fields.
    """
    place = start
    while place < end:
        first = place
        tag, place = _read_varint(raw, place, end)
        number, wire_type = tag >> 3, tag & 7
        begin = place
        if wire_type == _LENGTH:
            length, begin = _read_varint(raw, place, end)
            place = begin + length
        elif wire_type == _VARINT:
            _, place = _read_varint(raw, place, end)
        elif wire_type in _FIXED:
            place += _FIXED[wire_type]
        else:
            raise _BrokenError  # groups, which OTLP has never had, and types that do not exist
        if place > end or not number:
            raise _BrokenError
        yield number, wire_type, first, begin, place


def _read_varint(raw: bytes, place: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = shift = 0
    while place < end and shift < 70:
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
    raise _BrokenError


def _field(number: int, content: bytes) -> tuple[bytes, bytes, bytes]:
    """Write a field that has a length, in parts."""
    return _varint(number << 3 | _LENGTH), _varint(len(content)), content


def _varint(value: int) -> bytes:
    """Write a number."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
