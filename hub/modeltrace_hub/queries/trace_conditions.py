"""Convert the filters of traces to conditions on the table `traces` and on spans."""

from typing import Final

from modeltrace_hub.queries.conditions import Conditions, sql_conditions
from modeltrace_hub.queries.filter_fields import BoundCondition
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.reader import Reader

_FAILED_SPAN: Final = "status_code = 'ERROR'"


def trace_conditions(reader: Reader, filters: TraceFilter) -> Conditions:
    """Return the conditions of the filters on whole traces, and their parameters.

    They include that a span of the trace has each required service.
    """
    of_trace = [condition for condition in filters.conditions if not _is_of_span(condition)]
    conditions, values = sql_conditions(reader, of_trace, prefix="t")
    if filters.since is not None:
        conditions.append("start_ns >= $since")
        values["since"] = filters.since
    if filters.until is not None:
        conditions.append("start_ns <= $until")
        values["until"] = filters.until
    services = "error_services" if _requires_error(filters) else "services"
    for n, condition in enumerate(filter(_is_service, filters.conditions)):
        conditions.append(f"list_contains({services}, $service_{n})")
        values[f"service_{n}"] = condition.value
    return conditions, values


def span_conditions(reader: Reader, filters: TraceFilter) -> Conditions:
    """Return the conditions that one span of a trace must meet, and their parameters. All traces meet an empty list."""
    of_span = [condition for condition in filters.conditions if _is_of_span(condition)]
    if not of_span or (len(of_span) == 1 and _is_service(of_span[0])):
        return [], {}
    conditions, values = sql_conditions(reader, of_span)
    if _requires_error(filters):
        conditions.append(_FAILED_SPAN)
    return conditions, values


def _is_of_span(condition: BoundCondition) -> bool:
    return condition.field is None or not condition.field.of_trace


def _is_service(condition: BoundCondition) -> bool:
    return condition.field is not None and condition.name == "service" and condition.operator == "="


def _requires_error(filters: TraceFilter) -> bool:
    return any(condition.name == "error" and condition.value is True for condition in filters.conditions)
