"""Draw the map of services: boxes in layers, callers above the services that they call, and an arrow per call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modeltrace_hub.queries.reader import Record
from modeltrace_hub.queries.services import layer_services
from modeltrace_hub.web import format as fmt

BOX_WIDTH: Final = 224.0
BOX_HEIGHT: Final = 50.0
COLUMN_GAP: Final = 40.0
LAYER_GAP: Final = 70.0
MARGIN: Final = 14.0
MAX_STROKE: Final = 5.0
# A larger map cannot be read.
MAX_SERVICES: Final = 60


@dataclass(frozen=True, slots=True)
class Box:
    """A service: the position of its box, and two lines of text."""

    name: str
    x: float
    y: float
    figures: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Arrow:
    """The calls from one service to another: a curve, and the position of its label."""

    path: str
    width: float
    x: float
    y: float
    label: str
    title: str
    failed: bool


@dataclass(frozen=True, slots=True)
class ServiceMap:
    """The boxes and arrows, and the size of the drawing."""

    boxes: list[Box]
    arrows: list[Arrow]
    width: float
    height: float


def draw_map(services: Sequence[Record], calls: Sequence[Record]) -> ServiceMap | None:
    """Draw the services; None if there are too many, or none."""
    by_name = {service["service_name"]: service for service in services}
    calls = [call for call in calls if call["caller"] in by_name and call["called"] in by_name]
    if not 0 < len(by_name) <= MAX_SERVICES:
        return None
    layers = layer_services(by_name, calls)
    widest = max(map(len, layers))
    width = widest * (BOX_WIDTH + COLUMN_GAP) - COLUMN_GAP + 2 * MARGIN
    positions: dict[str, tuple[float, float]] = {}
    for depth, names in enumerate(layers):
        left = (width - len(names) * (BOX_WIDTH + COLUMN_GAP) + COLUMN_GAP) / 2
        for column, name in enumerate(names):
            positions[name] = (left + column * (BOX_WIDTH + COLUMN_GAP), MARGIN + depth * (BOX_HEIGHT + LAYER_GAP))
    busiest = max((call["call_count"] for call in calls), default=1)
    return ServiceMap(
        boxes=[
            Box(name, round(x, 1), round(y, 1), _figures(by_name[name]), bool(by_name[name]["error_count"]))
            for name, (x, y) in positions.items()
        ],
        arrows=[_draw_arrow(call, positions, busiest) for call in calls],
        width=round(width, 1),
        height=round(len(layers) * (BOX_HEIGHT + LAYER_GAP) - LAYER_GAP + 2 * MARGIN, 1),
    )


def _figures(service: Record) -> str:
    if not service["request_count"]:
        return "no requests"
    errors = f" · {fmt.percent(service['error_share'])} failed" if service["error_count"] else ""
    return f"{fmt.number(service['per_second'])}/s · p95 {fmt.duration(service['p95_ns'])}{errors}"


def _draw_arrow(call: Record, positions: Mapping[str, tuple[float, float]], busiest: int) -> Arrow:
    x1, y1 = positions[call["caller"]]
    x2, y2 = positions[call["called"]]
    if y2 > y1:  # from the bottom of the caller to the top of the called service
        start, end = (x1 + BOX_WIDTH / 2, y1 + BOX_HEIGHT), (x2 + BOX_WIDTH / 2, y2)
        bend = (end[1] - start[1]) / 2
        path = f"M{start[0]:.1f},{start[1]:.1f} C{start[0]:.1f},{start[1] + bend:.1f} {end[0]:.1f},{end[1] - bend:.1f} "
    else:  # back, at the right side of the boxes
        start, end = (x1 + BOX_WIDTH, y1 + BOX_HEIGHT / 2), (x2 + BOX_WIDTH, y2 + BOX_HEIGHT / 2)
        right = max(start[0], end[0]) + COLUMN_GAP * 0.8
        path = f"M{start[0]:.1f},{start[1]:.1f} C{right:.1f},{start[1]:.1f} {right:.1f},{end[1]:.1f} "
    errors = f", {fmt.percent(call['error_share'])} failed" if call["error_count"] else ""
    return Arrow(
        path=f"{path}{end[0]:.1f},{end[1]:.1f}",
        width=round(1 + (MAX_STROKE - 1) * call["call_count"] / busiest, 2),
        x=round((start[0] + end[0]) / 2, 1),
        y=round((start[1] + end[1]) / 2, 1),
        label=f"{fmt.number(call['per_second'])}/s",
        title=f"{call['caller']} calls {call['called']}: {fmt.plural(call['call_count'], 'call')}, "
        f"{fmt.number(call['per_second'])}/s, p95 {fmt.duration(call['p95_ns'])}{errors}",
        failed=bool(call["error_count"]),
    )
