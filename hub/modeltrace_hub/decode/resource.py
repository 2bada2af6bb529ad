"""What all rows of one resource and one scope share. Computed once for each, appended to every row."""

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from modeltrace_hub.decode.batch import Row
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.values import EMPTY_LIST, Json, attributes, attributes_text, text


def resource_columns(resource: Resource, schema_url: str, budget: Budget) -> Row:
    """Columns `service_name` to `resource_schema_url`."""
    values = attributes(resource.attributes, budget)
    budget.messages(len(resource.entity_refs))
    entity_refs: list[Json] = [
        {
            "schema_url": ref.schema_url,
            "type": ref.type,
            "id_keys": [*ref.id_keys],
            "description_keys": [*ref.description_keys],
        }
        for ref in resource.entity_refs
    ]
    return (
        _string(values.get("service.name")),
        _string(values.get("service.instance.id")),
        text(values),
        resource.dropped_attributes_count,
        text(entity_refs) if entity_refs else EMPTY_LIST,
        schema_url,
    )


def scope_columns(scope: InstrumentationScope, schema_url: str, budget: Budget) -> Row:
    """Columns `scope_name` to `scope_schema_url`."""
    return (
        scope.name,
        scope.version,
        attributes_text(scope.attributes, budget),
        scope.dropped_attributes_count,
        schema_url,
    )


def length(columns: Row) -> int:
    """Bytes that the texts among some columns take."""
    return sum(len(value) if value.isascii() else len(value.encode()) for value in columns if isinstance(value, str))


def _string(value: object) -> str:
    """A service's name is a string by convention; whatever else was sent is shown as it prints."""
    return "" if value is None else str(value)
