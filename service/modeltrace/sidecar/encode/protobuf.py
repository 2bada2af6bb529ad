"""Encode the parts of the protobuf wire format that OTLP needs, without the protobuf library.

Wire format: https://protobuf.dev/programming-guides/encoding. Messages:
https://github.com/open-telemetry/opentelemetry-proto, opentelemetry/proto/{common,trace,logs}/v1. A message is a
sequence of fields. A field is a tag (number and wire type) followed by a value; a nested message is preceded by its
length. A field with a fixed value is therefore a constant.

The SDK's encoder drops an attribute whose text contains a lone surrogate or whose integer exceeds 64 bits. If an input
has such a value, it drops all inputs of the prediction. This encoder replaces a surrogate by U+FFFD and writes a large
integer as decimal text: https://opentelemetry.io/docs/specs/otel/common/attribute-type-mapping.
"""

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Final

from modeltrace.telemetry.json_values import replace_surrogates
from modeltrace.telemetry.records.prediction import Value

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
INT64: Final = range(-(1 << 63), 1 << 63)
# Maximum number of encoded values in a cache. Longer texts than the limits below are not cached, so that memory is
# bounded.
CACHE_SIZE: Final = 1024
MAX_CACHED_TEXT: Final = 31
MAX_CACHED_REQUEST_TEXT: Final = 1024

MAX_REQUEST_BYTES: Final = 4 * 2**20 - 64 * 1024  # gRPC servers reject messages of more than 4 MiB by default

ExportRequests = list[tuple[bytes, int]]  # encoded, each with its number of items

_tagged_double: Final = struct.Struct("<Bd").pack
_double: Final = struct.Struct("<d").pack


def varint(number: int) -> bytes:
    """Encode an unsigned integer with seven bits per byte, lowest first."""
    if number < 0x80:
        return number.to_bytes(1, "little")
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def tag(number: int, wire_type: int = LENGTH) -> bytes:
    """Encode the tag of a field."""
    return varint(number << 3 | wire_type)


def delimited(field_tag: bytes, value: bytes) -> bytes:
    """Encode a field of text, bytes or a message, with its length."""
    return field_tag + varint(len(value)) + value


def utf8(text: str) -> bytes:
    """Encode text; a lone surrogate, which UTF-8 cannot represent, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return replace_surrogates(text).encode()


def any_double(value: float) -> bytes:
    """Encode the content of an `AnyValue` that contains a double."""
    return _tagged_double(0x21, value)


def any_value(value: Value) -> bytes:
    """Encode the content of an `AnyValue`; empty for None."""
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
    """Encode the content of an `AnyValue` that contains a map. `key_value(MAP_ENTRY, …)` encodes its entries."""
    return delimited(b"\x32", b"".join(entries))


MAP_ENTRY: Final = tag(1)  # KeyValueList.values


def key(name: str) -> bytes:
    """Encode a key, as `key_value` expects it."""
    return delimited(b"\x0a", utf8(name))


def key_value(field_tag: bytes, encoded_key: bytes, content: bytes) -> bytes:
    """Encode a field that contains a `KeyValue`. `content` is the content of its `AnyValue`."""
    length = varint(len(content))
    size = len(encoded_key) + 1 + len(length) + len(content)
    return b"".join((field_tag, varint(size), encoded_key, b"\x12", length, content))


def double_prefix(field_tag: bytes, encoded_key: bytes) -> bytes:
    """Encode a field that contains a `KeyValue` with a double, without the last eight bytes, which are the number."""
    return key_value(field_tag, encoded_key, any_double(0.0))[:-8]


def attribute(field_tag: bytes, name: str, value: Value) -> bytes:
    """Encode a field that contains a `KeyValue`."""
    return key_value(field_tag, key(name), any_value(value))


def attribute_encoder(field_tag: bytes) -> Callable[[str, Value], bytes]:
    """Return a function like `attribute` for one field, which caches names and short values."""
    encode_cached = lru_cache(CACHE_SIZE, typed=True)(partial(attribute, field_tag))  # typed: 1 equals True
    encoded_key = lru_cache(CACHE_SIZE)(key)
    prefix = lru_cache(CACHE_SIZE)(lambda name: double_prefix(field_tag, key(name)))

    def encode(name: str, value: Value) -> bytes:
        if type(value) is float:
            return prefix(name) + _double(value)
        if type(value) is str and len(value) > MAX_CACHED_TEXT:
            return key_value(field_tag, encoded_key(name), any_value(value))
        return encode_cached(name, value)

    return encode


class ExportRequest:
    """Encodes export requests of any signal: resource, scope, and items.

    Traces, logs and metrics use the same numbers for these fields.
    """

    def __init__(self, resource: bytes, scope: str, max_bytes: int) -> None:
        self._resource = delimited(tag(1), resource)
        self._scope = delimited(tag(1), delimited(tag(1), utf8(scope)))
        self._available = max_bytes - len(self._resource) - len(self._scope) - 3 * 6  # three tags and lengths

    def _encode(self, items: Iterable[bytes]) -> bytes:
        content = b"".join(items)
        scope = tag(2) + varint(len(self._scope) + len(content)) + self._scope
        size = len(self._resource) + len(scope) + len(content)
        return b"".join((tag(1), varint(size), self._resource, scope, content))

    def split(self, items: Iterable[bytes]) -> ExportRequests:
        """Encode requests of at most `max_bytes`, each with its number of items.

        Each item is a field of the scope, encoded by `delimited(ITEM, …)`. A larger item gets its own request.
        """
        requests: ExportRequests = []
        pending: list[bytes] = []
        size = 0
        for item in items:
            if pending and size + len(item) > self._available:
                requests.append((self._encode(pending), len(pending)))
                pending, size = [], 0
            pending.append(item)
            size += len(item)
        if pending:
            requests.append((self._encode(pending), len(pending)))
        return requests


ITEM: Final = tag(2)  # ScopeSpans.spans, ScopeLogs.log_records
