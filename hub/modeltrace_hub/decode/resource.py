"""Decode resources and scopes. Both are rows of their own; the records refer to them by ID.

The ID of a resource or scope is a hash of its columns, so a resource that is sent again has the same ID.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from modeltrace_hub.decode.batch import SHARED_TABLES, Problems, RecordRejectedError, Row, Tables
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.values import EMPTY_LIST, Json, attributes_text, attributes_to_json, dump_json


class Scope(NamedTuple):
    """One scope of a request."""

    records: Any  # its spans, metrics or log records
    columns: Row  # the columns `service_name` to `scope_id` of its records
    identity: Row  # all columns of its resource and of itself, without the IDs
    text_bytes: int  # bytes of the texts in `identity`


def iter_scopes(
    resources: Any,  # noqa: ANN401  the message class differs by signal
    scopes_field: str,
    records_field: str,
    budget: Budget,
    tables: Tables,
    table: str,
    problems: Problems,
) -> Iterator[Scope]:
    """Yield the scopes of all resources of a request, and count resources and scopes in the budget.

    If the caller has added a row for a scope, its row and that of its resource are added, too.

    Args:
        resources: `resource_spans`, `resource_metrics` or `resource_logs` of the request.
        scopes_field: name of the field of a resource that holds its scopes.
        records_field: name of the field of a scope that holds its records.
        budget: the limits of the request.
        tables: the tables of the request; those of `SHARED_TABLES` are added.
        table: name of the table that the caller adds rows to.
        problems: counts resources and scopes that have only unknown fields.

    Raises:
        TooLargeError: the request exceeds its limits.
    """
    tables.update({name: [] for name in SHARED_TABLES})
    budget.count_messages(len(resources))
    for resource in resources:
        service, resource_part = resource_columns(resource.resource, resource.schema_url, budget)
        resource_id = row_id(resource_part)
        scopes = getattr(resource, scopes_field)
        if not scopes:
            reject_unknown_fields(resource, problems)
        budget.count_messages(len(scopes))
        for scope in scopes:
            records = getattr(scope, records_field)
            if not records:
                reject_unknown_fields(scope, problems)
            scope_part = scope_columns(scope.scope, scope.schema_url, budget)
            scope_id = row_id(scope_part)
            identity = (*service, *resource_part, *scope_part)
            count = len(tables[table])
            yield Scope(records, (*service, resource_id, scope_id), identity, text_bytes(identity))
            if len(tables[table]) > count:
                tables["resources"].append((resource_id, *resource_part))
                tables["scopes"].append((scope_id, *scope_part))


def reject_unknown_fields(message: Message, problems: Problems) -> None:
    """Count a message without known records as one rejected record if it has unknown fields: they may be its records.

    Receivers ignore unknown fields. Senders of OTLP before 0.19 send their records in such a field
    (`instrumentation_library_spans`), and a response without a rejected record would claim that they are stored.
    """
    if len(UnknownFieldSet(message)):
        problems.reject(RecordRejectedError("unknown", message.DESCRIPTOR.name))


def row_id(columns: Row) -> str:
    """Return the ID of a resource or scope with these columns."""
    return blake2b(repr(columns).encode(), digest_size=16).hexdigest()


def resource_columns(resource: Resource, schema_url: str, budget: Budget) -> tuple[Row, Row]:
    """Return the columns `service_name` and `service_instance_id`, and those of the resource without its ID."""
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
    service = _string(values.get("service.name")), _string(values.get("service.instance.id"))
    return service, (
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
