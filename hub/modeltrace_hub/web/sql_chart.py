"""Draw the result of a query as one chart: bars over names, a line over times or numbers."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from modeltrace_hub.queries.attribute_values import finite_number
from modeltrace_hub.sql_query.results import encode_value
from modeltrace_hub.sql_query.runner import QueryResult
from modeltrace_hub.web.format import attribute_text, number

HEIGHT: Final = 160.0
MAX_BARS: Final = 30
MAX_POINTS: Final = 2000
MAX_LINES: Final = 4
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
# A time in nanoseconds is not drawn as a value, because it would flatten all other lines.
_TIME_NS: Final = re.compile(r"(\w+\()?\w*time_ns\)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Bar:
    """The value of one name. The width is a percentage of the largest value."""

    name: str
    value: str
    width: float


@dataclass(frozen=True, slots=True)
class Line:
    """The values of one column, as the points of a polyline in SVG."""

    name: str
    points: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, or lines with the texts at the ends of both axes.

    The horizontal position of a point is a thousandth of the width, the vertical one is in pixels from the top.
    """

    column: str
    bars: list[Bar]
    lines: list[Line]
    x_range: tuple[str, str] = ("", "")
    y_range: tuple[str, str] = ("", "")


def draw_chart(result: QueryResult) -> Chart | None:
    """Draw the first column against the numeric columns after it; None if the result has no such columns.

    If the first column has times or numbers, up to four columns become lines. Otherwise, the first numeric column
    becomes bars.
    """
    if result.table.num_columns < 2 or not 0 < result.table.num_rows <= MAX_POINTS:
        return None
    columns = [[_value(value) for value in column.to_pylist()] for column in result.table.columns]
    names = [column.name for column in result.columns]
    numeric = [
        index
        for index in range(1, len(columns))
        if not _TIME_NS.fullmatch(names[index]) and _is_numeric(columns[index])
    ]
    if not numeric:
        return None
    positions = [_position(value) for value in columns[0]]
    if len(positions) > 1 and None not in positions and len(set(positions)) > 1:
        return _draw_lines(names, columns, numeric[:MAX_LINES])
    values = [finite_number(value) for value in columns[numeric[0]]]
    if len(values) > MAX_BARS or any(value is not None and value < 0 for value in values):
        return None
    largest = max((value for value in values if value is not None), default=0) or 1
    bars = [
        Bar(_name(name), "NULL" if value is None else number(value), round(100 * _fraction(value or 0, 0, largest), 2))
        for name, value in zip(columns[0], values, strict=True)
    ]
    return Chart(names[numeric[0]], bars, [])


def _draw_lines(names: Sequence[str], columns: Sequence[Sequence[Any]], numeric: Sequence[int]) -> Chart:
    order = sorted(range(len(columns[0])), key=lambda row: _position(columns[0][row]) or 0)
    first, last = columns[0][order[0]], columns[0][order[-1]]
    left, right = _position(first) or 0, _position(last) or 0
    values = [finite for index in numeric for value in columns[index] if (finite := finite_number(value)) is not None]
    low, high = min(0, *values), max(0, *values)
    lines = []
    for index in numeric:
        points = []
        for row in order:
            value = finite_number(columns[index][row])
            if value is not None:
                x = 1000 * _fraction(_position(columns[0][row]) or 0, left, right)
                points.append(f"{x:.1f},{HEIGHT * (1 - _fraction(value, low, high)):.1f}")
        lines.append(Line(names[index], " ".join(points)))
    return Chart(names[0], [], lines, (_text(first), _text(last)), (number(low), number(high)))


def _is_numeric(column: Sequence[Any]) -> bool:
    """Whether a column has numbers, and nothing else but NULL."""
    present = [value for value in column if value is not None]
    return bool(present) and all(finite_number(value) is not None for value in present)


def _value(value: Any) -> Any:  # noqa: ANN401  any value of a database
    """Return times and numbers as they are, and other values as JSON."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, date | int) else encode_value(value)


def _position(value: Any) -> float | None:  # noqa: ANN401  any value of a database
    match value:
        case datetime():
            return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH).total_seconds()
        case date():
            return _position(datetime(value.year, value.month, value.day, tzinfo=UTC))
        case _:
            return finite_number(value)


def _fraction(value: float, low: float, high: float) -> float:
    """Return the position of a value between two others, from 0 to 1."""
    if math.isinf(high - low):
        value, low, high = value / 2, low / 2, high / 2
    return (value - low) / ((high - low) or 1)


def _text(value: Any) -> str:  # noqa: ANN401  any value of a database
    """Return the text of an end of the axis."""
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")[:19]
    return value.isoformat() if isinstance(value, date) else number(float(value))


def _name(value: Any) -> str:  # noqa: ANN401  any value of a database
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, date) else attribute_text(value)
