"""Convert filters to SQL conditions. They are fixed SQL texts; values are always bound as parameters."""

import re
from collections.abc import Mapping
from typing import Any, Final

from modeltrace_hub.decode.values import dump_json
from modeltrace_hub.queries.filters import Parameters, RecordFilter
from modeltrace_hub.queries.reader import Reader, json_pointer

Conditions = tuple[list[str], dict[str, Any]]

_HAS_ATTRIBUTE: Final = "json_extract_string(attributes, $key_{n}) = $value_{n}"
# Searching a text is much faster than parsing it, so only attributes that contain key and value are parsed.
_OWN_ATTRIBUTE: Final = (
    "(contains(attributes::VARCHAR, $key_text_{n}) AND contains(attributes::VARCHAR, $value_text_{n})"
    f" AND {_HAS_ATTRIBUTE})"
)
# An attribute of a record precedes the attribute of its resource with the same key.
_OWN_OR_RESOURCE_ATTRIBUTE: Final = (
    "CASE WHEN contains(attributes::VARCHAR, $key_text_{n})"
    f" THEN coalesce({_HAS_ATTRIBUTE}, list_contains($resources_{{n}}, resource_id))"
    " ELSE list_contains($resources_{n}, resource_id) END"
)
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")


def select_conditions(filters: Parameters, by_filter: Mapping[str, str]) -> Conditions:
    """Return the SQL conditions of the filters that are set, and their parameters."""
    values = {name: value for name in by_filter if (value := getattr(filters, name)) is not None}
    return [by_filter[name] for name in values], values


def record_conditions(reader: Reader, filters: RecordFilter, by_filter: Mapping[str, str]) -> Conditions:
    """Return the conditions on single records, with those on attributes, and their parameters."""
    conditions, values = select_conditions(filters, by_filter)
    attributes, attribute_values = attribute_conditions(reader, filters)
    return conditions + attributes, values | attribute_values


def attribute_conditions(reader: Reader, filters: RecordFilter) -> Conditions:
    """Return the conditions of the attribute filters, and their parameters."""
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for n, (key, value) in enumerate(filters.attributes):
        pointer = json_pointer(key)
        resources = [row["resource_id"] for row in reader.fetch_all("find_resources", key=pointer, value=value)]
        values |= {f"key_{n}": pointer, f"value_{n}": value, f"key_text_{n}": dump_json(key)}
        if resources:
            values[f"resources_{n}"] = resources
        else:
            values[f"value_text_{n}"] = _stored_text(value)
        conditions.append((_OWN_OR_RESOURCE_ATTRIBUTE if resources else _OWN_ATTRIBUTE).format(n=n))
    return conditions, values


def _stored_text(value: str) -> str:
    """Return a text that the JSON of any attribute with this value contains.

    A number with a fraction or an exponent, a list and an object can be written in several ways: the text is then "".
    """
    if value[:1] in {"{", "["}:
        return ""
    try:
        float(value)
    except ValueError:
        return dump_json(value)[1:-1]
    return value if _INTEGER.fullmatch(value) else ""
