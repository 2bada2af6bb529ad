"""What the readers need to know of the OTLP messages, taken from their descriptors.

Two readers walk a request by these tables: that of OTLP/JSON, and the repair of protobuf that does not parse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

from google.protobuf.descriptor import Descriptor, FieldDescriptor

Kind = Literal["text", "bytes", "id", "int", "double", "bool", "enum", "message"]

# protobuf's parser goes 100 messages deep; a value that is nested deeper than this is left out.
MAX_DEPTH: Final = 95

# What the signals count. Anything wrong inside of one costs that one alone.
_RECORDS: Final = frozenset(
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
    """One field of a message. `label` names it to the sender; `choice` is its `oneof`, '' for none."""

    name: str
    label: str
    number: int
    kind: Kind
    repeated: bool
    choice: str
    words: Mapping[str, int]
    message: "Shape | None"


@dataclass(frozen=True)
class Shape:
    """One type of message.

    `record`: it is what the signal counts. `holds_records`: records are below it. `value`: it is an AnyValue.
    """

    descriptor: Descriptor
    record: bool
    value: bool
    known: dict[str, "Shape"] = field(repr=False, compare=False)

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Fields by their name in JSON; the name in protobuf is taken, too."""
        by_name = {}
        for descriptor in self.descriptor.fields:
            by_name[descriptor.json_name] = by_name[descriptor.name] = self._field(descriptor)
        return by_name

    @cached_property
    def numbers(self) -> dict[int, Field]:
        """Fields by number."""
        return {entry.number: entry for entry in self.fields.values()}

    @cached_property
    def holds_records(self) -> bool:
        """Whether records are below this message."""
        # The only messages that contain themselves are below records.
        below = [entry.message for entry in self.fields.values() if entry.message is not None]
        return not self.record and any(
            shape.record or (shape.descriptor.name not in _LEAVES and shape.holds_records) for shape in below
        )

    def _field(self, descriptor: FieldDescriptor) -> Field:
        kind = _KINDS.get(descriptor.type, "int")
        group = descriptor.containing_oneof
        return Field(
            name=descriptor.name,
            label=f"{self.descriptor.name}.{descriptor.name}",
            number=descriptor.number,
            kind="id" if kind == "bytes" and descriptor.name in _IDS else kind,
            repeated=descriptor.is_repeated,
            # An optional field is alone in a `oneof` of its own.
            choice=group.name if group is not None and len(group.fields) > 1 else "",
            words={value.name: value.number for value in descriptor.enum_type.values} if descriptor.enum_type else {},
            message=_shape(descriptor.message_type, self.known) if descriptor.message_type else None,
        )


# Messages of `common` and `resource`: no record is below them, but they contain themselves.
_LEAVES: Final = frozenset({"Resource", "InstrumentationScope", "KeyValue", "AnyValue"})


def shape_of(descriptor: Descriptor) -> Shape:
    """Return the shape of a request."""
    return _shape(descriptor, {})


def _shape(descriptor: Descriptor, known: dict[str, Shape]) -> Shape:
    """Return the shape of a message, the same one for the same type."""
    if descriptor.full_name not in known:
        known[descriptor.full_name] = Shape(
            descriptor, descriptor.name in _RECORDS, descriptor.name == "AnyValue", known
        )
    return known[descriptor.full_name]
