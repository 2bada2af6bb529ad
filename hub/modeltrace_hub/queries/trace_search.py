"""Search traces, newest first. Filters that apply to whole traces read only the table `traces`."""

from typing import Any, Final

from modeltrace_hub.queries.conditions import record_conditions, select_conditions
from modeltrace_hub.queries.filters import TraceFilter
from modeltrace_hub.queries.reader import Reader, Record

# Numbers of traces whose spans are searched one after the other, until enough of them match.
CHUNK_SIZES: Final = (1_000, 10_000, 100_000)
MAX_TRACES: Final = 2**62

_TRACE_CONDITIONS: Final = {
    "since": "start_ns >= $since",
    "until": "start_ns <= $until",
    "min_duration": "duration_ns >= $min_duration",
    "max_duration": "duration_ns <= $max_duration",
}
_SPAN_CONDITIONS: Final = {"service": "service_name = $service", "name": "contains(lower(name), lower($name))"}
_NOT_OLDER_THAN_LAST: Final = "start_ns >= $last_ns AND (start_ns > $last_ns OR trace_id >= $last_id)"
_FAILED_SPAN: Final = "status_code = 'ERROR'"
_MATCHING_SPANS: Final = (
    "trace_id IN (SELECT trace_id FROM spans WHERE received_ns BETWEEN $first_received_ns AND $last_received_ns"
    " AND {conditions})"
)


def search_traces(reader: Reader, filters: TraceFilter) -> tuple[list[Record], str | None]:
    """Return matching traces, newest first, and the cursor of the next page; None if there is no next page."""
    conditions, values = select_conditions(filters, _TRACE_CONDITIONS)
    if filters.service is not None:
        services = "error_services" if filters.error else "services"
        conditions.append(f"list_contains({services}, $service)")
        values["service"] = filters.service
    if filters.error is not None:
        conditions.append("error_count > 0" if filters.error else "error_count = 0")
    before_ns, before_id = filters.cursor_position
    position = {"before_ns": before_ns, "before_id": before_id}
    if filters.name is None and not filters.attributes:
        traces = reader.fetch_all("search_traces", conditions, **values, **position, limit=filters.limit + 1)
    else:
        traces = _search_spans(reader, filters, conditions, values, position)
    has_more = len(traces) > filters.limit
    traces = traces[: filters.limit]
    return traces, f"{traces[-1]['start_ns']}-{traces[-1]['trace_id']}" if has_more else None


def _search_spans(
    reader: Reader, filters: TraceFilter, conditions: list[str], values: dict[str, Any], position: dict[str, Any]
) -> list[Record]:
    """Return up to `filters.limit + 1` traces that meet the conditions and have a span that matches the filters."""
    span_conditions, span_values = record_conditions(reader, filters, _SPAN_CONDITIONS)
    if filters.error:
        span_conditions.append(_FAILED_SPAN)
    matching = _MATCHING_SPANS.format(conditions=" AND ".join(span_conditions))
    traces: list[Record] = []
    for size in (*CHUNK_SIZES, MAX_TRACES):
        chunk = reader.fetch_one("get_trace_chunk", conditions, **values, **position, limit=size)
        if not chunk["trace_count"]:
            break
        last_ns, last_id = chunk["last_ns"], chunk["last_id"]
        traces += reader.fetch_all(
            "search_traces",
            [*conditions, _NOT_OLDER_THAN_LAST, matching],
            **(values | span_values),
            **position,
            last_ns=last_ns,
            last_id=last_id,
            first_received_ns=chunk["first_received_ns"],
            last_received_ns=chunk["last_received_ns"],
            limit=filters.limit + 1 - len(traces),
        )
        if len(traces) > filters.limit or chunk["trace_count"] < size:
            break
        position = {"before_ns": last_ns, "before_id": last_id}
    return traces
