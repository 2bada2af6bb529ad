"""Search traces, newest first. Filters that apply to whole traces read only the table `traces`."""

from typing import Any, Final

from modeltrace_hub.queries.conditions import Conditions
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.trace_conditions import span_conditions, trace_conditions

# Numbers of traces whose spans are searched one after the other, until enough of them match.
CHUNK_SIZES: Final = (1_000, 10_000, 100_000)
MAX_TRACES: Final = 2**62

_NOT_OLDER_THAN_LAST: Final = "start_ns >= $last_ns AND (start_ns > $last_ns OR trace_id >= $last_id)"
_MATCHING_SPANS: Final = (
    "trace_id IN (SELECT trace_id FROM spans WHERE received_ns BETWEEN $first_received_ns AND $last_received_ns"
    " AND {conditions})"
)


def search_traces(reader: Reader, filters: TraceFilter) -> tuple[list[Record], str | None]:
    """Return matching traces, newest first, and the cursor of the next page; None if there is no next page."""
    conditions, values = trace_conditions(reader, filters)
    before_ns, before_id = filters.cursor_position
    position = {"before_ns": before_ns, "before_id": before_id}
    span_filters = span_conditions(reader, filters)
    if not span_filters[0]:
        traces = reader.fetch_all("search_traces", conditions, **values, **position, limit=filters.limit + 1)
    else:
        traces = _search_spans(reader, filters.limit, (conditions, values), span_filters, position)
    has_more = len(traces) > filters.limit
    traces = traces[: filters.limit]
    return traces, f"{traces[-1]['start_ns']}-{traces[-1]['trace_id']}" if has_more else None


def _search_spans(
    reader: Reader, limit: int, whole_trace: Conditions, one_span: Conditions, position: dict[str, Any]
) -> list[Record]:
    """Return up to `limit + 1` traces that meet the conditions and have a span that meets its conditions."""
    conditions, values = whole_trace
    matching = _MATCHING_SPANS.format(conditions=" AND ".join(one_span[0]))
    traces: list[Record] = []
    for size in (*CHUNK_SIZES, MAX_TRACES):
        chunk = reader.fetch_one("get_trace_chunk", conditions, **values, **position, limit=size)
        if not chunk["trace_count"]:
            break
        last_ns, last_id = chunk["last_ns"], chunk["last_id"]
        traces += reader.fetch_all(
            "search_traces",
            [*conditions, _NOT_OLDER_THAN_LAST, matching],
            **(values | one_span[1]),
            **position,
            last_ns=last_ns,
            last_id=last_id,
            first_received_ns=chunk["first_received_ns"],
            last_received_ns=chunk["last_received_ns"],
            limit=limit + 1 - len(traces),
        )
        if len(traces) > limit or chunk["trace_count"] < size:
            break
        position = {"before_ns": last_ns, "before_id": last_id}
    return traces
