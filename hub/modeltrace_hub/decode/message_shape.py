"""Describe the OTLP messages, from their protobuf descriptors.

The OTLP/JSON parser and the repair of invalid protobuf use these descriptions to traverse requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, Literal

from google.protobuf.descriptor import Descriptor, FieldDescriptor

Kind = Literal["text", "bytes", "id", "int", "double", "bool", "enum", "message"]

# protobuf's parser accepts 100 nested messages. A value that is nested deeper than this is omitted.
MAX_DEPTH: Final = 95

# The messages of records. An error inside a record rejects only this record.
_RECORD_MESSAGES: Final = frozenset(
    {
        "Span",
        "LogRecord",
        "NumberDataPoint",
        "HistogramDataPoint",
        "ExponentialHistogramDataPoint",
        "SummaryDataPoint",
    }
)
_IDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_KINDS: Final[Mapping[int, Kind]] = {
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FLOAT: "double",
    FieldDescriptor.TYPE_MESSAGE: "message",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message. Texts for the sender use `qualified_name`. `oneof` is '' if the field is in no oneof."""

    name: str
    qualified_name: str
    number: int
    kind: Kind
    repeated: bool
    oneof: str
    enum_values: Mapping[str, int]
    message: "MessageShape | None"


@dataclass(frozen=True)
class MessageShape:
    """One message type."""

    descriptor: Descriptor

    @cached_property
    def is_record(self) -> bool:
        """Whether the message is a span, log record or data point."""
        return self.descriptor.name in _RECORD_MESSAGES

    @cached_property
    def is_any_value(self) -> bool:
        """Whether the message is an AnyValue."""
        return self.descriptor.name == "AnyValue"

    @cached_property
    def fields_by_name(self) -> dict[str, Field]:
        """Fields by their JSON name and by their protobuf name."""
        by_name = {}
        for descriptor in self.descriptor.fields:
            by_name[descriptor.json_name] = by_name[descriptor.name] = self._field(descriptor)
        return by_name

    @cached_property
    def fields_by_number(self) -> dict[int, Field]:
        """Fields by their number."""
        return {entry.number: entry for entry in self.fields_by_name.values()}

    @cached_property
    def contains_records(self) -> bool:
        """Whether the message contains records, directly or in nested messages."""
        # Do not descend into recursive messages. They contain no records.
        below = [entry.message for entry in self.fields_by_name.values() if entry.message is not None]
        return not self.is_record and any(
            shape.is_record or (shape.descriptor.name not in _RECURSIVE_MESSAGES and shape.contains_records)
            for shape in below
        )

    def _field(self, descriptor: FieldDescriptor) -> Field:
        kind = _KINDS.get(descriptor.type, "int")
        group = descriptor.containing_oneof
        return Field(
            name=descriptor.name,
            qualified_name=f"{self.descriptor.name}.{descriptor.name}",
            number=descriptor.number,
            kind="id" if kind == "bytes" and descriptor.name in _IDS else kind,
            repeated=descriptor.is_repeated,
            # protobuf puts each optional field into a `oneof` of its own; ignore these.
            oneof=group.name if group is not None and len(group.fields) > 1 else "",
            enum_values={value.name: value.number for value in descriptor.enum_type.values}
            if descriptor.enum_type
            else {},
            message=message_shape(descriptor.message_type) if descriptor.message_type else None,
        )


# Messages of `common` and `resource`. They contain no records; some of them are recursive.
_RECURSIVE_MESSAGES: Final = frozenset({"Resource", "InstrumentationScope", "KeyValue", "AnyValue"})


@cache
def message_shape(descriptor: Descriptor) -> MessageShape:
    """Return the shape of a message type, always the same object."""
    return MessageShape(descriptor)
