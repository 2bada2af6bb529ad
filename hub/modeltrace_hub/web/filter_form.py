"""Read the filters of a list from the address, as the form of its page sends them."""

from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from pydantic import ValidationError

from modeltrace_hub.queries.filters import ATTRIBUTE_PREFIX, RecordFilter, describe_invalid_parameter

Parameters = list[tuple[str, str]]
Filter = TypeVar("Filter", bound=RecordFilter)

# The labels of the form fields, by parameter.
LABELS: Final = {
    "service": "Service",
    "name": "Name",
    "since": "Since",
    "until": "Until",
    "min_duration": "Longer than",
    "max_duration": "Shorter than",
    "error": "Errors",
    "severity": "Severity",
    "severity_number": "Severity number",
    "event": "Event",
    "scope": "Logger",
    "q": "Text",
    "trace_id": "Trace ID",
    "span_id": "Span ID",
    "limit": "Number of items",
    "cursor": "Page",
}


def parse_filters(type_: type[Filter], parameters: Parameters) -> tuple[Filter, str | None]:
    """Return the valid filters, and the text for the reader about the invalid ones; None if there are none.

    Invalid filters are left out, so that the page still shows a list.
    """
    grouped = _group_parameters(parameters)
    try:
        return type_.model_validate(grouped), None
    except ValidationError as error:
        problems = [describe_invalid_parameter(item) for item in error.errors()]
    for parameter, _ in problems:
        grouped.pop(parameter, None)
    texts = "; ".join(
        f"{LABELS.get(name, name)}: {text.removeprefix(f'{name}: ')}" if name else text for name, text in problems
    )
    try:
        filters = type_.model_validate(grouped)
    except ValidationError:
        # The attribute filters are invalid together, for example because there are too many of them.
        filters = type_.model_validate({name: value for name, value in grouped.items() if name in type_.model_fields})
    return filters, f"{texts}. The list ignores this filter."


def query_without(parameters: Parameters) -> Callable[..., str]:
    """Return a function that returns the query without one pair, or with more pairs."""

    def query(name: str = "", value: str = "", **changes: object) -> str:
        unchanged = [pair for pair in parameters if pair != (name, value) and pair[0] not in changes]
        return urlencode(unchanged + [(key, str(item)) for key, item in changes.items() if item is not None])

    return query


def expand_attribute_field(parameters: Parameters) -> Parameters:
    """Replace the form field `attr` with the value `KEY=VALUE` by the parameter `attr.KEY`."""
    pairs = []
    for name, value in parameters:
        key, equals, attribute_value = value.partition("=")
        if name != "attr":
            pairs.append((name, value))
        elif equals:
            pairs.append((f"{ATTRIBUTE_PREFIX}{key.strip()}", attribute_value.strip()))
    return pairs


def _group_parameters(parameters: Parameters) -> dict[str, Any]:
    """Return parameters by name, and attribute filters, which may be repeated, as lists."""
    grouped: dict[str, Any] = dict(parameters)
    for attribute in [name for name in grouped if name.startswith(ATTRIBUTE_PREFIX)]:
        grouped[attribute] = [value for name, value in parameters if name == attribute]
    return grouped
