"""OTLP/JSON to messages: protobuf's JSON mapping with OTLP's own exceptions.

From "JSON Protobuf Encoding" of the OTLP specification 1.x: trace and span IDs are hex, not base64; enums are numbers
(names are taken, too); field names are lowerCamelCase; unknown fields are ignored. Bytes in attribute values stay
base64.

protobuf's own reader refuses a request as a whole. This one refuses what is wrong:

| wrong | costs |
|---|---|
| a text that is not valid Unicode | nothing: repaired with U+FFFD, a warning |
| a trace or span ID that is not hex | what an ID of a wrong length costs in protobuf: see the decoders |
| a text or an enum of another type; anything inside of an attribute value | that value, a warning |
| anything else inside of a record | that record |
| anything else in a resource, scope or metric | that value, a warning |
| something else in place of a record or a list of records | counts as one rejected record |
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import orjson
from google.protobuf.message import Message

from modeltrace_hub.decode.batch import Problems, RejectedError
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.message_shape import MAX_DEPTH, Field, Kind, Shape
from modeltrace_hub.errors import MalformedError

M = TypeVar("M", bound=Message)

# An ID that no decoder takes for one, in place of a text that is not hex.
NO_ID: Final = b"?"

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_ROOTS: Final = frozenset({"resourceSpans", "resourceMetrics", "resourceLogs", "resourceProfiles"})


def parse(body: bytes, message: type[M], shape: Shape, budget: Budget, problems: Problems) -> M:
    """Read one request.

    Args:
        body: the bytes of the request.
        message: the class of the request.
        shape: its shape.
        budget: what the request may expand to.
        problems: counts what is refused or repaired.

    Raises:
        MalformedError: not JSON, or not an OTLP request of this signal.
        TooLargeError: more than one request may have.
    """
    document = _load(body)
    if not isinstance(document, dict):
        raise MalformedError("The body is JSON, but not an object")
    names = shape.fields.keys() & document.keys()
    for name in names:
        items = document[name] or []
        if not isinstance(items, list) or (items and not any(isinstance(item, dict) for item in items)):
            raise MalformedError(f"The body is JSON, but not an OTLP request: {name} is not a list of objects")
    if document and not names:
        others = _ROOTS & document.keys()
        found = f"has {min(others)}" if others else "is JSON, but nothing in it is of an OTLP request"
        raise MalformedError(f"The body {found}; this address takes {min(_ROOTS & shape.fields.keys())}")
    result = message()
    _Reader(budget, problems).fill(result, document, shape, strict=False, depth=0)
    return result


def _load(body: bytes) -> Any:  # noqa: ANN401  JSON from outside
    """Read JSON; where a text is not valid Unicode, with a slower reader that does not mind.

    Raises:
        MalformedError: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        first = error
    try:
        return json.loads(body.decode("utf-8", errors="surrogateescape"))
    except (ValueError, RecursionError):
        raise MalformedError(f"The body is not JSON: {first}") from None


class _Reader:
    """Fills messages from JSON. `strict` below means inside of a record, whose errors reject it."""

    def __init__(self, budget: Budget, problems: Problems) -> None:
        self._budget = budget
        self._problems = problems

    def fill(self, message: Any, node: Mapping[str, Any], shape: Shape, *, strict: bool, depth: int) -> None:  # noqa: ANN401  generated classes
        """Set the fields of a message.

        Raises:
            RejectedError: a value inside of a record is wrong.
            TooLargeError: more than one request may have.
        """
        fields = shape.fields
        for key, value in node.items():
            field = fields.get(key)
            if field is None or value is None:
                continue
            try:
                if field.choice and len(node) > 1 and message.WhichOneof(field.choice) not in {None, field.name}:
                    raise TypeError  # noqa: TRY301  as every other value that does not fit
                if field.message is not None:
                    self._message(message, field, field.message, value, strict=strict, depth=depth + 1)
                else:
                    self._scalar(message, field, value)
            except (TypeError, ValueError, OverflowError):
                self._refuse(field, strict=strict)

    def _message(self, parent: Any, field: Field, shape: Shape, value: Any, *, strict: bool, depth: int) -> None:  # noqa: ANN401  as above
        if depth > MAX_DEPTH:
            raise ValueError
        inside = (strict or shape.record) and not shape.value
        if not field.repeated:
            if not isinstance(value, dict):
                raise TypeError
            child = getattr(parent, field.name)
            child.SetInParent()
            self.fill(child, value, shape, strict=inside, depth=depth)
            return
        if not isinstance(value, list):
            raise TypeError
        self._budget.messages(len(value))
        if shape.record:
            self._budget.records(len(value))
        children = getattr(parent, field.name)
        for item in value:
            if not isinstance(item, dict):
                self._refuse(field, strict=strict)
                continue
            child = children.add()
            if not shape.record:
                self.fill(child, item, shape, strict=inside, depth=depth)
                continue
            try:
                self.fill(child, item, shape, strict=True, depth=depth)
            except RejectedError as error:
                del children[-1]
                self._problems.reject(error)

    def _scalar(self, message: Any, field: Field, value: Any) -> None:  # noqa: ANN401  as above
        convert = _CONVERT[field.kind]
        if field.repeated:
            if not isinstance(value, list):
                raise TypeError
            self._budget.messages(len(value))
            getattr(message, field.name).extend([self._clean(convert(item, field), field) for item in value])
        else:
            try:
                setattr(message, field.name, convert(value, field))
            except UnicodeEncodeError:
                setattr(message, field.name, self._clean(value, field))

    def _clean(self, value: Any, field: Field) -> Any:  # noqa: ANN401  as above
        """Repair a text that is not valid Unicode."""
        if field.kind != "text" or not _SURROGATES.search(value):
            return value
        self._problems.warn("text", field.label)
        return _SURROGATES.sub("\ufffd", value)

    def _refuse(self, field: Field, *, strict: bool) -> None:
        """Refuse a value, or the record that it is in.

        Raises:
            RejectedError: the record.
        """
        if field.message is not None and (field.message.record or field.message.holds_records):
            self._problems.reject(RejectedError("shape", field.label))
        elif strict and field.kind not in {"text", "enum"}:
            raise RejectedError("value", field.label)
        else:
            self._problems.warn("value", field.label)


def _text(value: Any, _: Field) -> str:  # noqa: ANN401  JSON from outside
    if not isinstance(value, str):
        raise TypeError
    return value


def _bytes(value: Any, field: Field) -> bytes:  # noqa: ANN401  as above
    raw = _text(value, field).rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(raw + "=" * (-len(raw) % 4), validate=True)


def _id(value: Any, _: Field) -> bytes:  # noqa: ANN401  as above
    try:
        return binascii.unhexlify(value) if isinstance(value, str) else NO_ID
    except ValueError:
        return NO_ID


def _int(value: Any, _: Field) -> int:  # noqa: ANN401  as above
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise TypeError
    return int(_number(value))


def _double(value: Any, _: Field) -> float:  # noqa: ANN401  as above
    if isinstance(value, bool):
        raise TypeError
    return float(_number(value))


def _number(value: Any) -> Any:  # noqa: ANN401  as above
    """Refuse what Python takes for a number and JSON does not."""
    if isinstance(value, str) and "_" in value:
        raise TypeError
    return value


def _bool(value: Any, _: Field) -> bool:  # noqa: ANN401  as above
    if not isinstance(value, bool):
        raise TypeError
    return value


def _enum(value: Any, field: Field) -> int:  # noqa: ANN401  as above
    return field.words[value] if isinstance(value, str) and value in field.words else _int(value, field)


_CONVERT: Final[Mapping[Kind, Callable[[Any, Field], Any]]] = {
    "text": _text,
    "bytes": _bytes,
    "id": _id,
    "int": _int,
    "double": _double,
    "bool": _bool,
    "enum": _enum,
}
