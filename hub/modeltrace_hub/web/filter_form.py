"""Read the filters of a list from the address, as the form of its page sends them."""

from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from pydantic import ValidationError

from modeltrace_hub.queries.filter_fields import ATTRIBUTE_PREFIX, FieldSet
from modeltrace_hub.queries.filter_line import format_condition
from modeltrace_hub.queries.list_parameters import LineFilter
from modeltrace_hub.queries.parameters import Parameters as QueryParameters
from modeltrace_hub.queries.parameters import describe_invalid_parameter

Parameters = list[tuple[str, str]]
Filter = TypeVar("Filter", bound=QueryParameters)

# The labels of the form fields, by parameter.
LABELS: Final = {"filter": "Filter", "since": "From", "until": "To", "limit": "Number of items", "cursor": "Page"}


def parse_filters(type_: type[Filter], parameters: Parameters) -> tuple[Filter, str | None]:
    """Return the valid filters, and the message about the invalid ones; None if all are valid.

    Invalid parameters are left out, so that the page still shows a list.
    """
    values: dict[str, Any] = dict(parameters)
    problems: list[str] = []
    while True:
        try:
            filters = type_.model_validate(values)
            break
        except ValidationError as error:
            invalid = [describe_invalid_parameter(item) for item in error.errors()]
        for name, text in invalid:
            problems.append(f"{LABELS.get(name, name)}: {text.removeprefix(f'{name}: ')}" if name else text)
            values.pop(name, None)
        if not any(name for name, _ in invalid):  # the parameters are invalid together
            known = {name: value for name, value in values.items() if name in type_.model_fields}
            values = known if known != values else {}
    return filters, f"{'; '.join(problems)}. The list ignores this filter." if problems else None


def move_to_line(
    type_: type[LineFilter], fields: FieldSet, parameters: Parameters, excluded: Collection[str] = ()
) -> Parameters | None:
    """Move the parameters that are conditions to the filter line. Return all parameters; None if none is a condition.

    Args:
        type_: the filters of the list.
        fields: the fields of its filter line.
        parameters: the parameters of the page.
        excluded: parameters that stay.
    """
    line: list[str] = []
    others: Parameters = []
    for name, value in parameters:
        field, operator = type_.parameter_conditions.get(name, ("", "="))
        if name == "attr" and "=" in value:
            key, _, text = value.partition("=")
            line.append(format_condition(attribute_name(fields, key.strip()), "=", text.strip()))
        elif name.startswith(ATTRIBUTE_PREFIX) and name != ATTRIBUTE_PREFIX:
            line.append(format_condition(attribute_name(fields, name.removeprefix(ATTRIBUTE_PREFIX)), "=", value))
        elif name == "tag" and "tag." in fields.prefixes and "=" in value:
            tag, _, text = value.partition("=")
            line.append(format_condition(f"tag.{tag}", "=", text))
        elif field in fields.fields and name not in excluded:
            line.append(format_condition(field, operator, value))
        else:
            others.append((name, value))
    if not line:
        return None
    existing = [value for name, value in others if name == "filter"]
    return [*(pair for pair in others if pair[0] != "filter"), ("filter", " ".join([*existing, *line]))]


def attribute_name(fields: FieldSet, key: str) -> str:
    """Return the name of an attribute in a filter line: its key, with a prefix if the key is the name of a field."""
    is_field = key in fields.fields or any(
        key.startswith(start) for start in (*fields.prefixes, *fields.prefixed, ATTRIBUTE_PREFIX)
    )
    return f"{ATTRIBUTE_PREFIX}{key}" if is_field else key


def query_without(parameters: Parameters) -> Callable[..., str]:
    """Return a function that returns the query without one pair, or with more pairs."""

    def query(name: str = "", value: str = "", **changes: object) -> str:
        unchanged = [pair for pair in parameters if pair != (name, value) and pair[0] not in changes]
        return urlencode(unchanged + [(key, str(item)) for key, item in changes.items() if item is not None])

    return query


def query_with_condition(parameters: Parameters) -> Callable[..., str]:
    """Return a function that returns the query with conditions added to the filter line, and with more pairs.

    The conditions are pairs of a field or attribute and its value.
    """
    query = query_without(parameters)
    line = dict(parameters).get("filter", "")

    def extend(*conditions: tuple[str, str], **changes: object) -> str:
        texts = [format_condition(name, "=", str(value)) for name, value in conditions]
        return query(filter=" ".join([*([line] if line else []), *texts]) or None, **changes)

    return extend
