"""Convert the filters of traces to conditions on the table `traces`."""

from typing import Final

from modeltrace_hub.queries.conditions import Conditions, record_conditions, select_conditions
from modeltrace_hub.queries.filters import TraceFilter
from modeltrace_hub.queries.reader import Reader

_TRACE_CONDITIONS: Final = {
    "since": "start_ns >= $since",
    "until": "start_ns <= $until",
    "min_duration": "duration_ns >= $min_duration",
    "max_duration": "duration_ns <= $max_duration",
}
_SPAN_CONDITIONS: Final = {"service": "service_name = $service", "name": "contains(lower(name), lower($name))"}
_FAILED_SPAN: Final = "status_code = 'ERROR'"


def trace_conditions(filters: TraceFilter) -> Conditions:
    """Return the conditions of the filters that apply to whole traces, and their parameters."""
    conditions, values = select_conditions(filters, _TRACE_CONDITIONS)
    if filters.service is not None:
        services = "error_services" if filters.error else "services"
        conditions.append(f"list_contains({services}, $service)")
        values["service"] = filters.service
    if filters.error is not None:
        conditions.append("error_count > 0" if filters.error else "error_count = 0")
    return conditions, values


def span_conditions(reader: Reader, filters: TraceFilter) -> Conditions:
    """Return the conditions that one span of a trace must meet, and their parameters. All traces meet an empty list."""
    if filters.name is None and not filters.attributes:
        return [], {}
    conditions, values = record_conditions(reader, filters, _SPAN_CONDITIONS)
    if filters.error:
        conditions.append(_FAILED_SPAN)
    return conditions, values
