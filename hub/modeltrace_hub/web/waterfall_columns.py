"""Return a waterfall as columns for the browser: one array per column, rows in the order of the waterfall.

Columns that are empty for most rows are lists of pairs `[row, value]`. Repeated texts are positions in a list.
"""

from collections.abc import Callable, Iterable
from typing import Any

from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.trace import locate_trace
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.trace_details import lists_predictions
from modeltrace_hub.web.waterfall import Waterfall, WaterfallRow
from modeltrace_hub.web.waterfall_cache import WaterfallCache


def read_waterfall_columns(reader: Reader, waterfalls: WaterfallCache, trace_id: str) -> Record:
    """Read the waterfall of a trace and return its columns. A trace that is not stored has no rows."""
    trace = locate_trace(reader, trace_id)
    counts = reader.fetch_one("count_trace_records", **trace)
    waterfall, _ = waterfalls.read(reader, trace, counts, with_predictions=lists_predictions(counts))
    return waterfall_columns(waterfall, counts["span_count"])


def waterfall_columns(waterfall: Waterfall, span_count: int) -> Record:
    """Return the columns. `span_count` is the number of spans of the trace, which may be larger than that of rows."""
    rows = waterfall.rows
    names, name_column = _intern(row.span["name"] for row in rows)
    services, service_column = _intern(row.span["service_name"] for row in rows)

    def sparse(value: Callable[[WaterfallRow], Any]) -> list[tuple[int, Any]]:
        return [(index, item) for index, row in enumerate(rows) if (item := value(row))]

    return {
        "span_count": span_count,
        "axis_ns": waterfall.duration_ns,
        "ticks": waterfall.ticks,
        "names": names,
        "services": services,
        "span_id": [row.span["span_id"] for row in rows],
        "name": name_column,
        "service": service_column,
        "depth": [row.depth for row in rows],
        "left": [row.left for row in rows],
        "width": [row.width for row in rows],
        "start_ns": [row.span["start_ns"] - waterfall.start_ns if row.span["start_ns"] else None for row in rows],
        "duration_ns": [row.span["duration_ns"] for row in rows],
        "self_ns": [row.self_ns for row in rows],
        "no_duration": sparse(lambda row: fmt.span_duration(row.span) if row.span["duration_ns"] is None else None),
        "failed": [index for index, row in enumerate(rows) if row.failed],
        "error_type": sparse(lambda row: row.span["error_type"]),
        "enters_service": [index for index, row in enumerate(rows) if row.enters_service],
        "parent_missing": [index for index, row in enumerate(rows) if row.parent_missing],
        "links": sparse(lambda row: row.span["link_count"]),
        "critical": sparse(lambda row: row.critical),
        "logs": sparse(
            lambda row: [(mark.left, mark.severity_number, mark.text, str(mark.time_ns)) for mark in row.log_marks]
        ),
    }


def _intern(texts: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return the distinct texts, and the position of each text among them."""
    positions: dict[str, int] = {}
    column = [positions.setdefault(text, len(positions)) for text in texts]
    return list(positions), column
