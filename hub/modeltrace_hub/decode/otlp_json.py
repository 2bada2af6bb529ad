"""Parse OTLP/JSON into protobuf messages.

OTLP/JSON is protobuf's JSON mapping with exceptions ("JSON Protobuf Encoding" of the OTLP specification 1.x): trace and
span IDs are hex, not base64; enums are numbers (names are accepted, too); field names are lowerCamelCase; unknown
fields are ignored. Bytes in attribute values are base64.

protobuf's own JSON parser rejects a whole request for one invalid value. This parser rejects less:

| invalid | result |
|---|---|
| a text that is not valid Unicode | repaired with U+FFFD, a warning |
| a trace or span ID that is not hex | as for an ID of the wrong length in protobuf: see the decoders |
| a text or an enum of the wrong type; anything inside an attribute value | the value is omitted, a warning |
| anything else inside a record | the record is rejected |
| anything else in a resource, scope or metric | the value is omitted, a warning |
| a record or a list of records of the wrong type | counts as one rejected record |
| a resource, scope or metric with unknown fields and no known records | counts as one rejected record |
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import orjson
from google.protobuf.message import Message

from modeltrace_hub.decode.batch import Problems, RecordRejectedError
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.message_shape import MAX_DEPTH, Field, Kind, MessageShape
from modeltrace_hub.errors import MalformedError

M = TypeVar("M", bound=Message)

# Replaces an ID that is not hex. Decoders treat it as invalid.
INVALID_ID: Final = b"?"

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_ROOT_FIELDS: Final = frozenset({"resourceSpans", "resourceMetrics", "resourceLogs", "resourceProfiles"})


def parse(body: bytes, message: type[M], shape: MessageShape, budget: Budget, problems: Problems) -> M:
    """Parse a request. `problems` collects the rejected and changed records.

    Raises:
        MalformedError: the body is not JSON, or not an OTLP request of this signal.
        TooLargeError: the request exceeds its limits.
    """
    document = _load(body)
    if not isinstance(document, dict):
        raise MalformedError("The body is JSON, but not an object")
    names = shape.fields_by_name.keys() & document.keys()
    for name in names:
        items = document[name] or []
        if not isinstance(items, list) or (items and not any(isinstance(item, dict) for item in items)):
            raise MalformedError(f"The body is JSON, but not an OTLP request: {name} is not a list of objects")
    if document and not names:
        others = _ROOT_FIELDS & document.keys()
        reason = f"has {min(others)}" if others else "is JSON, but has no field of an OTLP request"
        expected = min(_ROOT_FIELDS & shape.fields_by_name.keys())
        raise MalformedError(f"The body {reason}; this path accepts {expected}")
    result = message()
    _MessageFiller(budget, problems).fill(result, document, shape, in_record=False, depth=0)
    return result


def _load(body: bytes) -> Any:  # noqa: ANN401  any JSON
    """Parse JSON. If a text is not valid Unicode, use the slower parser of the standard library, which accepts it.

    Raises:
        MalformedError: the body is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        orjson_error = error
    try:
        return json.loads(body.decode("utf-8", errors="surrogateescape"))
    except (ValueError, RecursionError):
        raise MalformedError(f"The body is not JSON: {orjson_error}") from None


class _MessageFiller:
    """Fill messages from JSON. With `in_record`, an invalid value rejects the record that contains it."""

    def __init__(self, budget: Budget, problems: Problems) -> None:
        self._budget = budget
        self._problems = problems

    def fill(
        self, message: Message, node: Mapping[str, object], shape: MessageShape, *, in_record: bool, depth: int
    ) -> None:
        """Set the fields of a message.

        Raises:
            RecordRejectedError: a value inside a record is invalid.
            TooLargeError: the request exceeds its limits.
        """
        fields = shape.fields_by_name
        if shape.contains_records:
            self._reject_unknown_fields(node, shape)
        for key, value in node.items():
            field = fields.get(key)
            if field is None or value is None:
                continue
            try:
                if field.oneof and len(node) > 1 and message.WhichOneof(field.oneof) not in {None, field.name}:
                    raise TypeError  # noqa: TRY301  handled like every other invalid value
                if field.message is not None:
                    self._fill_child(message, field, field.message, value, in_record=in_record, depth=depth + 1)
                else:
                    self._set_scalar(message, field, value)
            except (TypeError, ValueError, OverflowError):
                self._reject_value(field, in_record=in_record)

    def _reject_unknown_fields(self, node: Mapping[str, object], shape: MessageShape) -> None:
        """Count one rejected record if unknown fields may be the records: see `resource.reject_unknown_fields`."""
        known = (field.message for key in node if (field := shape.fields_by_name.get(key)) is not None)
        if any(message and (message.is_record or message.contains_records) for message in known):
            return
        unknown = (value for key, value in node.items() if key not in shape.fields_by_name)
        if any(value and isinstance(value, list | dict) for value in unknown):
            self._problems.reject(RecordRejectedError("unknown", shape.descriptor.name))

    def _fill_child(
        self, parent: Message, field: Field, shape: MessageShape, value: object, *, in_record: bool, depth: int
    ) -> None:
        if depth > MAX_DEPTH:
            raise ValueError
        inside = (in_record or shape.is_record) and not shape.is_any_value
        if not field.repeated:
            if not isinstance(value, dict):
                raise TypeError
            child = getattr(parent, field.name)
            child.SetInParent()
            self.fill(child, value, shape, in_record=inside, depth=depth)
            return
        if not isinstance(value, list):
            raise TypeError
        self._budget.count_messages(len(value))
        if shape.is_record:
            self._budget.count_records(len(value))
        children = getattr(parent, field.name)
        for item in value:
            if not isinstance(item, dict):
                self._reject_value(field, in_record=in_record)
                continue
            try:
                self.fill(children.add(), item, shape, in_record=inside, depth=depth)
            except RecordRejectedError as error:
                if not shape.is_record:
                    raise
                del children[-1]
                self._problems.reject(error)

    def _set_scalar(self, message: Message, field: Field, value: object) -> None:
        convert = _CONVERTERS[field.kind]
        if field.repeated:
            if not isinstance(value, list):
                raise TypeError
            self._budget.count_messages(len(value))
            getattr(message, field.name).extend([self._repair_text(convert(item, field), field) for item in value])
        else:
            try:
                setattr(message, field.name, convert(value, field))
            except UnicodeEncodeError:
                setattr(message, field.name, self._repair_text(value, field))

    def _repair_text(self, value: Any, field: Field) -> Any:  # noqa: ANN401  as above
        """Replace invalid Unicode in a text."""
        if field.kind != "text" or not _SURROGATES.search(value):
            return value
        self._problems.warn("text", field.qualified_name)
        return _SURROGATES.sub("\ufffd", value)

    def _reject_value(self, field: Field, *, in_record: bool) -> None:
        """Handle an invalid value: count a rejected record, reject the record that contains the value, or warn.

        Raises:
            RecordRejectedError: the record that contains the value is rejected.
        """
        if field.message is not None and (field.message.is_record or field.message.contains_records):
            self._problems.reject(RecordRejectedError("shape", field.qualified_name))
        elif in_record and field.kind not in {"text", "enum"}:
            raise RecordRejectedError("value", field.qualified_name)
        else:
            self._problems.warn("value", field.qualified_name)


def _to_text(value: Any, _: Field) -> str:  # noqa: ANN401  any JSON
    if not isinstance(value, str):
        raise TypeError
    return value


def _to_bytes(value: Any, field: Field) -> bytes:  # noqa: ANN401  as above
    raw = _to_text(value, field).rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(raw + "=" * (-len(raw) % 4), validate=True)


def _to_id(value: Any, _: Field) -> bytes:  # noqa: ANN401  as above
    try:
        return binascii.unhexlify(value) if isinstance(value, str) else INVALID_ID
    except ValueError:
        return INVALID_ID


def _to_int(value: Any, _: Field) -> int:  # noqa: ANN401  as above
    if isinstance(value, float) and not value.is_integer():
        raise TypeError
    return int(_check_number(value))


def _to_double(value: Any, _: Field) -> float:  # noqa: ANN401  as above
    return float(_check_number(value))


def _check_number(value: Any) -> Any:  # noqa: ANN401  as above
    """Reject booleans and number texts with underscores, which Python converts to numbers and JSON does not."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise TypeError
    return value


def _to_bool(value: Any, _: Field) -> bool:  # noqa: ANN401  as above
    if not isinstance(value, bool):
        raise TypeError
    return value


def _to_enum(value: Any, field: Field) -> int:  # noqa: ANN401  as above
    return field.enum_values[value] if isinstance(value, str) and value in field.enum_values else _to_int(value, field)


_CONVERTERS: Final[Mapping[Kind, Callable[[Any, Field], Any]]] = {
    "text": _to_text,
    "bytes": _to_bytes,
    "id": _to_id,
    "int": _to_int,
    "double": _to_double,
    "bool": _to_bool,
    "enum": _to_enum,
}
