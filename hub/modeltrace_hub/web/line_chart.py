"""Draw series over time as lines: axes with round values, one line per group, marks, and a title per step."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.time_axis import TimeAxis

# Lines are drawn in a box of this width and stretched to that of the page.
WIDTH: Final = 1000.0
HEIGHT: Final = 180.0
MAX_VALUE_LABELS: Final = 4
# Smaller values are drawn as 0: floats have no exact steps between them.
_SMALLEST_VALUE: Final = 1e-290
# Values whose distance is a smaller part of them are drawn as equal.
_SMALLEST_SPAN: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Line:
    """One line: the name of its group, its CSS class, and the points of each unbroken part."""

    name: str
    hue: int
    parts: list[str]
    latest: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark on the chart, at a share of the width in percent and a height in pixels; with the hue of its line."""

    x: float
    y: float
    title: str
    href: str = ""
    hue: int | None = None


@dataclass(frozen=True, slots=True)
class LineChart:
    """Lines, and labels with their positions: of times in percent, of values in pixels from the top."""

    lines: list[Line]
    height: float
    time_labels: list[tuple[float, str]]
    value_labels: list[tuple[float, str]]
    titles: list[tuple[float, float, str]]
    resets: list[Mark]
    dots: list[Mark]


def draw_lines(
    axis: TimeAxis,
    groups: Sequence[tuple[str, Sequence[float | None]]],
    text: Callable[[float | None], str],
    *,
    height: float = HEIGHT,
    from_zero: bool = True,
) -> LineChart:
    """Draw one line per group. `text` formats a value with its unit; `from_zero` adds 0 to the axis of values."""
    values = [value for _, series in groups for value in series if value is not None and math.isfinite(value)]
    outer = [0.0] if from_zero or not values else []
    ticks = round_ticks(min(outer + values), max(outer + values))
    low, high = ticks[0], ticks[-1]

    def y(value: float) -> float:
        # Halves, because the difference of two large values can overflow.
        return round(height * (1 - (value / 2 - low / 2) / (high / 2 - low / 2)), 2)

    lines = []
    for index, (name, series) in enumerate(groups):
        parts: list[list[str]] = [[]]
        for step, value in enumerate(series):
            if value is None or not math.isfinite(value):
                parts.append([])
            else:
                parts[-1].append(f"{WIDTH * (step + 0.5) / axis.steps:.1f},{y(value)}")
        latest = next((value for value in reversed(series) if value is not None), None)
        # A part of one point is drawn as a short line.
        drawn = [" ".join(part * 2 if len(part) == 1 else part) for part in parts if part]
        lines.append(Line(name, index % fmt.HUE_COUNT, drawn, text(latest)))
    return LineChart(
        lines=lines,
        height=height,
        time_labels=axis.labels(),
        value_labels=[(y(tick), text(tick)) for tick in ticks],
        titles=_titles(axis, groups, text),
        resets=[],
        dots=[],
    )


def round_ticks(low: float, high: float) -> list[float]:
    """Return round values from at most `low` to at least `high`: multiples of 1, 2 or 5 times a power of ten.

    Values that are equal, or so close that floats between them have no round steps, get an axis around them.
    """
    largest = max(abs(low), abs(high))
    if largest < _SMALLEST_VALUE:
        return [-1.0 if low < 0 else 0.0, 1.0]
    # Halves, because the difference of two large values can overflow.
    half_span = high / 2 - low / 2
    if half_span < largest * _SMALLEST_SPAN:
        low, high = _clamp(low - largest / 10), _clamp(high + largest / 10)
        half_span = high / 2 - low / 2
    raw = half_span / MAX_VALUE_LABELS * 2
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * multiple for multiple in (1, 2, 5, 10) if power * multiple >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [_clamp(number * step) for number in range(first, max(last, first + 1) + 1)]


def _clamp(value: float) -> float:
    return min(max(value, -sys.float_info.max), sys.float_info.max)


def _titles(
    axis: TimeAxis, groups: Sequence[tuple[str, Sequence[float | None]]], text: Callable[[float | None], str]
) -> list[tuple[float, float, str]]:
    """Return position, width and text of each step that has a value."""
    titles = []
    for step in range(axis.steps):
        values = [(name, series[step]) for name, series in groups if series[step] is not None]
        if values:
            since_ns = axis.since_ns + step * axis.step_ns
            shown = ", ".join(f"{name} {text(value)}".strip() for name, value in values)
            title = f"{fmt.clock_text(since_ns)} to {fmt.clock_text(since_ns + axis.step_ns)} UTC: {shown}"
            titles.append((round(100 * step / axis.steps, 3), round(100 / axis.steps, 3), title))
    return titles
