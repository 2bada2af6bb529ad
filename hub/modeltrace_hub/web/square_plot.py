"""The shapes of square charts, and the filters behind them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from modeltrace_hub.queries.filter_line import format_condition
from modeltrace_hub.web import format as fmt

# Both sides of a square chart, in pixels.
SIZE: Final = 220.0
MIN_RADIUS: Final = 2.5
MAX_RADIUS: Final = 8.0
# The condition that a prediction has a true label.
LABELLED: Final = format_condition("true_label", "exists")
# The charts leave out predictions of generated traffic.
NOT_SYNTHETIC: Final = format_condition("synthetic", "=", "false")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """A circle of radius `width`, or a rectangle. `level` is the CSS class of a cell."""

    x: float
    y: float
    width: float
    height: float
    title: str
    href: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class Plot:
    """A square chart: circles or cells, a line, a reference line, and the texts of the axes with their ends."""

    title: str
    x_label: str
    y_label: str
    low: str
    high: str
    circles: Sequence[Shape] = ()
    cells: Sequence[Shape] = ()
    line: str = ""
    reference: str = ""


def circle(x: float, y: float, share: float, title: str, href: str) -> Shape:
    """Return a circle at a point of the unit square. Its area grows with a share."""
    radius = round(MIN_RADIUS + (MAX_RADIUS - MIN_RADIUS) * math.sqrt(share), 2)
    return Shape(round(SIZE * x, 2), round(SIZE * (1 - y), 2), radius, radius, title, href)


def line(points: Iterable[Point]) -> str:
    """Return points of the unit square as the points of a polyline."""
    return " ".join(f"{SIZE * x:.2f},{SIZE * (1 - y):.2f}" for x, y in points)


def bounds(field: str, low: float | None, high: float | None, *, labelled: bool = True) -> str:
    """Return the conditions `low < field <= high` of a filter line."""
    conditions = [format_condition(field, ">", repr(low))] if low is not None else []
    conditions += [format_condition(field, "<=", repr(high))] if high is not None else []
    return " ".join([*conditions, *([LABELLED] if labelled else [])])


def interval(low: float | None, high: float | None) -> str:
    """Format the bounds of a bin; None is no bound."""
    if low is None or high is None:
        bound = high if low is None else low
        return "of any size" if bound is None else f"{'up to' if low is None else 'above'} {fmt.number(bound)}"
    return f"{fmt.number(low)} to {fmt.number(high)}"
