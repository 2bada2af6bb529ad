"""The few shapes of the protobuf wire format that OTLP is made of, written by hand.

The wire format: https://protobuf.dev/programming-guides/encoding. The messages:
https://github.com/open-telemetry/opentelemetry-proto, opentelemetry/proto/{common,trace,logs}/v1. A message is a
sequence of fields, a field a tag (number and wire type) and a value, and what is nested is preceded by its length. So a
field that never changes is a constant, and a message is its constants with the rest between them.

The reference encoder drops an attribute whose text holds a lone surrogate or whose integer has more than 64 bits, and
with one such value all inputs of a prediction. Here a surrogate becomes U+FFFD, and a large integer its decimals, as
https://opentelemetry.io/docs/specs/otel/common/attribute-type-mapping asks.
"""

import struct
from collections.abc import Iterable
from typing import Final

from modeltrace.telemetry.records.prediction import Value

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
INT64: Final = range(-(1 << 63), 1 << 63)

_tagged_double: Final = struct.Struct("<Bd").pack


def varint(number: int) -> bytes:
    """An unsigned integer, seven bits a byte, the lowest first."""
    if number < 0x80:
        return number.to_bytes(1, "little")
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    rest = bytearray()
    while number >= 0x80:
        rest.append(number & 0x7F | 0x80)
        number >>= 7
    rest.append(number)
    return bytes(rest)


def tag(number: int, wire_type: int = LENGTH) -> bytes:
    """What announces a field."""
    return varint(number << 3 | wire_type)


def delimited(field_tag: bytes, value: bytes) -> bytes:
    """A tag, then what is preceded by its length: text, bytes or a message."""
    return field_tag + varint(len(value)) + value


def utf8(text: str) -> bytes:
    """Text as protobuf takes it. A lone surrogate, which UTF-8 cannot hold, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def any_double(value: float) -> bytes:
    """The content of an `AnyValue` that is a double."""
    return _tagged_double(0x21, value)


def any_value(value: Value) -> bytes:
    """The content of an `AnyValue`; of one without a value for None."""
    if value is None:
        return b""
    if isinstance(value, float):
        return any_double(value)
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF) if value in INT64 else any_value(str(value))
    return delimited(b"\x0a", utf8(value))


def any_map(entries: Iterable[bytes]) -> bytes:
    """The content of an `AnyValue` that is a map: its pairs, each made by `pair(PAIR, …)`."""
    return delimited(b"\x32", b"".join(entries))


MAP_ENTRY: Final = tag(1)  # KeyValueList.values


def key(name: str) -> bytes:
    """The key of a `KeyValue`, to be made once and used with `pair`."""
    return delimited(b"\x0a", utf8(name))


def key_value(field_tag: bytes, encoded_key: bytes, content: bytes) -> bytes:
    """A field that is a `KeyValue`, of a key and the content of an `AnyValue`."""
    length = varint(len(content))
    size = len(encoded_key) + 1 + len(length) + len(content)
    return b"".join((field_tag, varint(size), encoded_key, b"\x12", length, content))


def attribute(field_tag: bytes, name: str, value: Value) -> bytes:
    """A field that is a `KeyValue`."""
    return key_value(field_tag, key(name), any_value(value))


class ExportRequest:
    """An export request around its items: resource, then scope, then the items, whichever signal they are of.

    Traces, logs and metrics number these fields alike.
    """

    def __init__(self, resource: bytes, scope: str) -> None:
        self._resource = delimited(tag(1), resource)
        self._scope = delimited(tag(1), delimited(tag(1), utf8(scope)))

    def encode(self, items: Iterable[bytes]) -> bytes:
        """The request; each item is a field of the scope, made by `delimited(ITEM, …)`."""
        content = b"".join(items)
        scope = tag(2) + varint(len(self._scope) + len(content)) + self._scope
        whole = len(self._resource) + len(scope) + len(content)
        return b"".join((tag(1), varint(whole), self._resource, scope, content))

    def split(self, items: Iterable[bytes], max_bytes: int) -> list[tuple[bytes, int]]:
        """As many requests as it takes to keep each within `limit` bytes, and the number of items in each.

        An item that is larger by itself gets a request of its own.
        """
        room = max_bytes - len(self._resource) - len(self._scope) - 3 * 6  # three tags and lengths
        requests: list[tuple[bytes, int]] = []
        held: list[bytes] = []
        size = 0
        for item in items:
            if held and size + len(item) > room:
                requests.append((self.encode(held), len(held)))
                held, size = [], 0
            held.append(item)
            size += len(item)
        if held:
            requests.append((self.encode(held), len(held)))
        return requests


ITEM: Final = tag(2)  # ScopeSpans.spans, ScopeLogs.log_records
