"""Decode resources and scopes. Their columns are computed once and repeated in every row."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from modeltrace_hub.decode.batch import Row
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.values import EMPTY_LIST, Json, attributes_text, attributes_to_json, dump_json


class Scope(NamedTuple):
    """One scope of a request."""

    records: Any  # its spans, metrics or log records
    columns: Row  # the columns `service_name` to `scope_schema_url`
    text_bytes: int  # bytes of the texts in these columns


def iter_scopes(resources: Any, scopes_field: str, records_field: str, budget: Budget) -> Iterator[Scope]:  # noqa: ANN401  the message class differs by signal
    """Yield the scopes of all resources of a request, and count resources and scopes in the budget.

    Args:
        resources: `resource_spans`, `resource_metrics` or `resource_logs` of the request.
        scopes_field: name of the field of a resource that holds its scopes.
        records_field: name of the field of a scope that holds its records.
        budget: the limits of the request.

    Raises:
        TooLargeError: the request exceeds its limits.
    """
    budget.count_messages(len(resources))
    for resource in resources:
        resource_part = resource_columns(resource.resource, resource.schema_url, budget)
        scopes = getattr(resource, scopes_field)
        budget.count_messages(len(scopes))
        for scope in scopes:
            columns = resource_part + scope_columns(scope.scope, scope.schema_url, budget)
            yield Scope(getattr(scope, records_field), columns, text_bytes(columns))


def resource_columns(resource: Resource, schema_url: str, budget: Budget) -> Row:
    """Return the columns `service_name` to `resource_schema_url`."""
    values = attributes_to_json(resource.attributes, budget)
    budget.count_messages(len(resource.entity_refs))
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
        dump_json(values),
        resource.dropped_attributes_count,
        dump_json(entity_refs) if entity_refs else EMPTY_LIST,
        schema_url,
    )


def scope_columns(scope: InstrumentationScope, schema_url: str, budget: Budget) -> Row:
    """Return the columns `scope_name` to `scope_schema_url`."""
    return (
        scope.name,
        scope.version,
        attributes_text(scope.attributes, budget),
        scope.dropped_attributes_count,
        schema_url,
    )


def text_bytes(columns: Iterable[object]) -> int:
    """Return the UTF-8 bytes of all texts among some columns."""
    return sum(len(value) if value.isascii() else len(value.encode()) for value in columns if isinstance(value, str))


def _string(value: object) -> str:
    """Return a service name as text. By convention it is a string, but a sender may use another type."""
    return "" if value is None else str(value)
