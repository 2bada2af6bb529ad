"""Draw the heatmap of traces: time from left to right, duration from bottom to top on a logarithmic scale."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modeltrace_hub.queries.heatmap import Cell, Heatmap
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.time_axis import TimeAxis

ROW_HEIGHT: Final = 7.0
MIN_ROWS: Final = 14
# The number of `.heat-N` classes in hub/modeltrace_hub/web/static/charts.css.
LEVELS: Final = 6
MAX_TIME_LABELS: Final = 6
MIN_ERROR_HEIGHT: Final = 1.0

Query = Callable[..., str]


@dataclass(frozen=True, slots=True)
class DrawnCell:
    """A cell. `x` and `width` are in percent, `y` and heights in pixels. `query` selects its traces."""

    x: float
    width: float
    y: float
    height: float
    level: int
    error_height: float
    title: str
    query: str


@dataclass(frozen=True, slots=True)
class Rectangle:
    """The selected part of the heatmap, in percent and pixels."""

    x: float
    width: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class HeatmapChart:
    """The drawing. Labels have a position, in percent of the width or in pixels from the top.

    The script that selects a rectangle reads the range of time and `bounds`, the lower bounds of the rows and the upper
    bound of the last one, in nanoseconds as texts: JavaScript's numbers are not exact above 2^53.
    """

    cells: list[DrawnCell]
    height: float
    time_labels: list[tuple[float, str]]
    duration_labels: list[tuple[float, str]]
    selection: Rectangle | None
    since_ns: int
    until_ns: int
    bounds: list[int]
    row_height: float
    slow_query: str
    slow_bound: str


def draw_heatmap(heatmap: Heatmap, selection: TraceFilter | None, query: Query) -> HeatmapChart:
    """Draw a heatmap.

    Args:
        heatmap: the counted traces.
        selection: the filters of the selection, if there is one.
        query: returns the query string of the page with changed parameters.
    """
    rows = len(heatmap.bounds) - 1
    row_height = ROW_HEIGHT * max(1.0, MIN_ROWS / rows)
    height = round(rows * row_height, 1)
    highest = max(cell.trace_count for cell in heatmap.cells)
    cells = [_draw_cell(heatmap, cell, row_height, height, highest, query) for cell in heatmap.cells]
    slow = heatmap.bounds[_slow_row(heatmap)]
    return HeatmapChart(
        cells=cells,
        height=height,
        time_labels=TimeAxis(heatmap.since_ns, heatmap.step_ns, heatmap.steps).labels(MAX_TIME_LABELS),
        duration_labels=_duration_labels(heatmap.bounds, row_height, height),
        selection=None if selection is None else _draw_selection(heatmap, selection, row_height, height),
        since_ns=heatmap.since_ns,
        until_ns=heatmap.until_ns,
        bounds=heatmap.bounds,
        row_height=round(row_height, 3),
        slow_query=query(**{"select.min_duration": f"{slow}ns"}),
        slow_bound=fmt.duration(slow),
    )


def _draw_cell(heatmap: Heatmap, cell: Cell, row_height: float, height: float, highest: int, query: Query) -> DrawnCell:
    since = heatmap.since_ns + cell.step * heatmap.step_ns
    until = since + heatmap.step_ns
    low, high = heatmap.bounds[cell.row], heatmap.bounds[cell.row + 1]
    share = cell.error_count / cell.trace_count
    errors = f", {fmt.plural(cell.error_count, 'failed trace')}" if cell.error_count else ""
    return DrawnCell(
        x=round(100 * cell.step / heatmap.steps, 3),
        width=round(100 / heatmap.steps, 3),
        y=round(height - (cell.row + 1) * row_height, 2),
        height=round(row_height, 2),
        # A logarithmic scale shows single traces beside thousands.
        level=1 + round((LEVELS - 1) * math.log(cell.trace_count) / math.log(highest)) if highest > 1 else LEVELS,
        error_height=round(max(share * row_height, MIN_ERROR_HEIGHT), 2) if share else 0.0,
        title=f"{fmt.time_of_day(since)} to {fmt.time_of_day(until)} UTC, {fmt.duration(low)} to {fmt.duration(high)}: "
        f"{fmt.plural(cell.trace_count, 'trace')}{errors}",
        query=query(
            **{
                "select.since": fmt.unix_seconds(since),
                "select.until": fmt.unix_seconds(until - 1),
                "select.min_duration": f"{low}ns",
                "select.max_duration": f"{high - 1}ns",
            }
        ),
    )


def _draw_selection(heatmap: Heatmap, selection: TraceFilter, row_height: float, height: float) -> Rectangle | None:
    """Return the rectangle of the selected times and durations; None if the selection is by something else."""
    limits = (selection.since, selection.until, selection.min_duration, selection.max_duration)
    if all(limit is None for limit in limits):
        return None
    since, until, shortest, longest = limits
    length = heatmap.until_ns - heatmap.since_ns
    left = _clamp(((since or heatmap.since_ns) - heatmap.since_ns) / length)
    right = _clamp((heatmap.until_ns if until is None else until + 1 - heatmap.since_ns) / length) if until else 1.0
    bottom = _row_position(heatmap.bounds, shortest) if shortest is not None else 0.0
    top = _row_position(heatmap.bounds, longest + 1) if longest is not None else len(heatmap.bounds) - 1.0
    return Rectangle(
        x=round(100 * left, 3),
        width=round(100 * max(right - left, 0.0), 3),
        y=round(height - top * row_height, 2),
        height=round(max(top - bottom, 0.0) * row_height, 2),
    )


def _row_position(bounds: list[int], duration_ns: int) -> float:
    """Return the position of a duration in rows from the bottom."""
    if duration_ns <= bounds[0]:
        return 0.0
    if duration_ns >= bounds[-1]:
        return len(bounds) - 1.0
    row = bisect_right(bounds, duration_ns) - 1
    low = max(bounds[row], 1)
    return row + math.log(duration_ns / low) / math.log(bounds[row + 1] / low)


def _clamp(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def _slow_row(heatmap: Heatmap) -> int:
    """Return the lowest row that the slowest 5 % of the traces begin with."""
    remaining = heatmap.trace_count / 20
    counts = [0] * (len(heatmap.bounds) - 1)
    for cell in heatmap.cells:
        counts[cell.row] += cell.trace_count
    for row in range(len(counts) - 1, -1, -1):
        remaining -= counts[row]
        if remaining < 0:
            return min(row + 1, len(counts) - 1)
    return 0


def _duration_labels(bounds: list[int], row_height: float, height: float) -> list[tuple[float, str]]:
    """Return a label for each power of ten; for each bound if there are fewer than two."""
    powers = [row for row, bound in enumerate(bounds) if str(bound).strip("0") == "1"]
    rows = powers if len(powers) > 1 else [0, len(bounds) - 1]
    return [(round(height - row * row_height, 2), fmt.duration(bounds[row])) for row in rows]
