"""Every field of the OTLP messages is stored, or listed here with the reason why not."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from modeltrace_hub.receive.signals import SIGNALS, Signal
from modeltrace_hub.store import Store
from modeltrace_hub.writer import Writer
from tests.helpers.decoding import decode

# Fields that the hub leaves out on purpose.
NOT_STORED = {
    "opentelemetry.proto.common.v1.KeyValue.key_strindex": "for profiles only; elsewhere receivers ignore it",
    "opentelemetry.proto.common.v1.AnyValue.string_value_strindex": "for profiles only; elsewhere it means not set",
}

# Enums are stored as words, but for severities; booleans as themselves.
ENUMS: dict[str, tuple[int, Any]] = {
    "opentelemetry.proto.trace.v1.Span.kind": (5, "CONSUMER"),
    "opentelemetry.proto.trace.v1.Status.code": (2, "ERROR"),
    "opentelemetry.proto.logs.v1.LogRecord.severity_number": (24, 24),
    "opentelemetry.proto.metrics.v1.Sum.aggregation_temporality": (2, "CUMULATIVE"),
    "opentelemetry.proto.metrics.v1.Histogram.aggregation_temporality": (1, "DELTA"),
    "opentelemetry.proto.metrics.v1.ExponentialHistogram.aggregation_temporality": (2, "CUMULATIVE"),
}

TABLES = ("spans", "logs", "metric_points", "exemplars", "resources", "scopes")


class Filler:
    """Build a message with a unique value in every field, and record the values to look for."""

    def __init__(self) -> None:
        self.numbers = count(1_000_003)
        self.expected: list[tuple[str, Any]] = []
        self.seen: set[str] = set()

    def build(self, type_: type[Message], variant: int = 0, depth: int = 0) -> Message:
        """Return a message; `variant` selects the member of each `oneof`."""
        message = type_()
        chosen = {
            group.full_name: group.fields[variant % len(group.fields)]
            for group in message.DESCRIPTOR.oneofs
            if len(group.fields) > 1
        }
        if type_ is AnyValue and depth > 0:
            chosen = dict.fromkeys(chosen, type_.DESCRIPTOR.fields_by_name["string_value"])
        for field in message.DESCRIPTOR.fields:
            group = field.containing_oneof
            if group is None or len(group.fields) == 1 or chosen[group.full_name] is field:
                self.set(message, field, variant, depth + (type_ is AnyValue))
        return message

    def set(self, message: Message, field: FieldDescriptor, variant: int, depth: int) -> None:
        """Set a field."""
        self.seen.add(field.full_name)
        if field.message_type is None:
            value, stored = self.scalar(field)
            if field.full_name not in NOT_STORED:
                self.expected.append((field.full_name, stored))
            if not field.is_repeated:
                setattr(message, field.name, value)
                return
            getattr(message, field.name).append(value)
            if field.name == "bucket_counts":
                value, stored = self.scalar(field)
                self.expected.append((field.full_name, stored))
                getattr(message, field.name).append(value)
            return
        type_ = field.message_type._concrete_class
        if not field.is_repeated:
            getattr(message, field.name).MergeFrom(self.build(type_, variant, depth))
            return
        for each in range(_variants(field.message_type) if depth == 0 else 1):
            getattr(message, field.name).append(self.build(type_, each, depth))

    def scalar(self, field: FieldDescriptor) -> tuple[Any, Any]:
        """Return a value for a field, and its stored form."""
        number = next(self.numbers)
        if field.full_name in ENUMS:
            return ENUMS[field.full_name]
        match field.type:
            case FieldDescriptor.TYPE_STRING:
                return f"text {number}", f"text {number}"
            case FieldDescriptor.TYPE_BOOL:
                return True, True
            case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
                return number + 0.5, number + 0.5
            case FieldDescriptor.TYPE_BYTES:
                size = {"trace_id": 16}.get(field.name, 8)
                raw = number.to_bytes(size, "big")
                return raw, raw.hex() if field.name.endswith("_id") else b64encode(raw).decode()
            case _:
                return number, number


def _variants(descriptor: Descriptor) -> int:
    """Return the number of messages needed to set every member of every `oneof`."""
    own = [len(group.fields) for group in descriptor.oneofs]
    below = [
        _variants(field.message_type)
        for field in descriptor.fields
        if field.message_type is not None and not field.is_repeated and descriptor.name != "AnyValue"
    ]
    return max([1, *own, *below])


def _leaves(value: object) -> Iterator[Any]:
    """Yield every single value of a row, also those inside lists and JSON."""
    match value:
        case dict():
            for key, item in value.items():
                yield key
                yield from _leaves(item)
        case list():
            for item in value:
                yield from _leaves(item)
        case str():
            yield value
            with suppress(orjson.JSONDecodeError):
                yield from _leaves(orjson.loads(value))
        case _:
            yield value


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_every_field_is_stored_or_listed(store: Store, writer: Writer, signal: Signal) -> None:
    """The value of each field is in the rows, and no value of the listed fields is."""
    filler = Filler()
    request = filler.build(signal.request_type)
    batch = decode(signal.request_type.FromString(request.SerializeToString()), 7)
    assert not batch.problems.rejected
    writer.submit(batch).result(20)

    with store.read() as cursor:
        rows = [row for table in TABLES for row in cursor.execute(f"SELECT * FROM {table}").fetchall()]  # noqa: S608  fixed names
    result = {(type(leaf), leaf) for row in rows for value in row for leaf in _leaves(value)}

    missing = [(name, value) for name, value in filler.expected if (type(value), value) not in result]
    assert not missing
    assert len(filler.seen) > 25
    assert NOT_STORED.keys() <= filler.seen
