"""Draw the buckets of a histogram over time: one row per bucket, one column per step, and exemplars as dots."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from modeltrace_hub.queries.histograms import Bucket, Buckets
from modeltrace_hub.queries.reader import Record
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.heatmap_chart import LEVELS
from modeltrace_hub.web.line_chart import Mark
from modeltrace_hub.web.time_axis import TimeAxis

MAX_ROWS: Final = 60
HEIGHT: Final = 180.0
MAX_ROW_HEIGHT: Final = 22.0
MIN_LABEL_DISTANCE: Final = 16.0


@dataclass(frozen=True, slots=True)
class BucketCell:
    """One bucket of one step: positions in percent and pixels, and the class of its colour."""

    x: float
    width: float
    y: float
    height: float
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class BucketChart:
    """The cells, the labels of times (percent) and bounds (pixels), and the exemplars."""

    cells: list[BucketCell]
    height: float
    time_labels: list[tuple[float, str]]
    bound_labels: list[tuple[float, str]]
    dots: list[Mark]


def draw_buckets(
    axis: TimeAxis,
    buckets: Sequence[Buckets],
    exemplars: Sequence[Record],
    text: Callable[[float | None], str],
    root: str,
) -> BucketChart | None:
    """Draw the buckets that are not empty, and those between them; None if all are empty or there are too many.

    Args:
        axis: the steps.
        buckets: the counts of each step.
        exemplars: measurements with a trace.
        text: formats a value with its unit.
        root: the path to the hub's root, for links to traces.
    """
    rows = _rows(buckets)
    if not rows:
        return None
    height_of_row = min(HEIGHT / len(rows), MAX_ROW_HEIGHT)
    height = round(height_of_row * len(rows), 1)
    highest = max(count for step in buckets for count in step.counts.values())
    position = {row: index for index, row in enumerate(rows)}
    cells = []
    for step, counts in enumerate(buckets):
        since_ns = axis.since_ns + step * axis.step_ns
        times = f"{fmt.clock_text(since_ns)} to {fmt.clock_text(since_ns + axis.step_ns)} UTC"
        for bucket, count in counts.counts.items():
            if count:
                cells.append(
                    BucketCell(
                        x=round(100 * step / axis.steps, 3),
                        width=round(100 / axis.steps, 3),
                        y=round(height - (position[bucket] + 1) * height_of_row, 2),
                        height=round(height_of_row, 2),
                        level=_level(count, highest),
                        title=f"{times}, {_bucket_text(bucket, text)}: {fmt.number(count)}",
                    )
                )
    return BucketChart(
        cells,
        height,
        axis.labels(),
        _bound_labels(rows, height_of_row, height, text),
        [dot for item in exemplars if (dot := _draw_dot(axis, rows, item, height_of_row, height, text, root))],
    )


def _level(count: float, highest: float) -> int:
    """Return the class of a colour: the scale is logarithmic, so that single measurements are visible."""
    return 1 + round((LEVELS - 1) * math.log1p(count) / math.log1p(highest))


def _rows(buckets: Sequence[Buckets]) -> list[Bucket]:
    """Return the buckets from the lowest to the highest one that is not empty; none if there are too many.

    Buckets of different bounds, after a change of the bounds, are rows of their own.
    """
    known = sorted({bucket for step in buckets for bucket in step.counts})
    used = [index for index, bucket in enumerate(known) if any(step.counts.get(bucket) for step in buckets)]
    rows = known[used[0] : used[-1] + 1] if used else []
    if len(rows) > MAX_ROWS:
        rows = [known[index] for index in used]
    return rows if len(rows) <= 4 * MAX_ROWS else []


def _bound_labels(
    rows: Sequence[Bucket], height_of_row: float, height: float, text: Callable[[float | None], str]
) -> list[tuple[float, str]]:
    """Return a label for each upper bound, as far as there is room."""
    labels: list[tuple[float, str]] = []
    for index, (_, high) in enumerate(rows):
        y = round(height - (index + 1) * height_of_row, 2)
        if math.isfinite(high) and (not labels or labels[-1][0] - y >= MIN_LABEL_DISTANCE):
            labels.append((y, text(high)))
    return labels


def _draw_dot(
    axis: TimeAxis,
    rows: Sequence[Bucket],
    exemplar: Record,
    height_of_row: float,
    height: float,
    text: Callable[[float | None], str],
    root: str,
) -> Mark | None:
    """Return the mark of an exemplar in its bucket; None outside of the drawing."""
    row = bisect_left([high for _, high in rows], exemplar["value"])
    x = axis.percent(exemplar["time_ns"])
    if row >= len(rows) or not 0 <= x <= 100:
        return None
    span = f"?span={exemplar['span_id']}" if exemplar["span_id"] else ""
    return Mark(
        x,
        round(height - (row + 0.5) * height_of_row, 2),
        f"{text(exemplar['value'])} at {fmt.time_of_day(exemplar['time_ns'])} UTC: open trace {exemplar['trace_id']}",
        f"{root}t/{exemplar['trace_id']}{span}",
    )


def _bucket_text(bucket: Bucket, text: Callable[[float | None], str]) -> str:
    low, high = bucket
    if low == high:
        return text(low)
    if math.isinf(high):
        return f"over {text(low)}"
    return f"up to {text(high)}" if math.isinf(low) else f"over {text(low)}, up to {text(high)}"
