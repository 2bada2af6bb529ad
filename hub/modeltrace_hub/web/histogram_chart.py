"""A histogram of one export interval as bars, the trace's own bucket marked."""

from dataclasses import dataclass
from typing import Final

from modeltrace_hub.queries.queries import Record
from modeltrace_hub.web.format import measure

STEP: Final = 12.0
GAP: Final = 2.0
HEIGHT: Final = 30.0
LOWEST: Final = 1.5
# A drawing of more buckets than these would be megabytes, and nobody could read it.
MOST_BARS: Final = 200


@dataclass(frozen=True, slots=True)
class Bar:
    """One bucket: its place in the drawing, what it says, and whether the trace fell into it, or holds its exemplar."""

    x: float
    y: float
    height: float
    title: str
    mine: bool
    exemplar: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars, the size of the drawing, and the bounds that it runs from and to."""

    bars: list[Bar]
    width: float
    low: str
    high: str


def draw(point: Record) -> Chart | None:
    """Draw what an interval added; None for what has no buckets, or too many. Empty ones at both ends are left out."""
    counts, bounds = point["interval"]["bucket_counts"], point["explicit_bounds"]
    if not counts or not bounds or not any(counts):
        return None
    unit = point["unit"]
    held = {_bucket(bounds, one["value"]) for one in point["exemplars"] if one["value"] is not None}
    used = [index for index, count in enumerate(counts) if count] + [*held]
    if point["bucket"] is not None:
        used.append(point["bucket"])
    first, last = max(min(used) - 1, 0), min(max(used) + 1, len(counts) - 1)
    if last - first >= MOST_BARS:
        return None
    most = max(counts)
    bars = []
    for index in range(first, last + 1):
        height = max(HEIGHT * counts[index] / most, LOWEST) if counts[index] > 0 else LOWEST / 2
        above = f"> {measure(bounds[index - 1], unit)}" if index else ""
        below = f"≤ {measure(bounds[index], unit)}" if index < len(bounds) else ""
        bars.append(
            Bar(
                x=(index - first) * STEP,
                y=round(HEIGHT - height, 2),
                height=round(height, 2),
                title=f"{' and '.join(part for part in (above, below) if part)}: {counts[index]:,}",
                mine=index == point["bucket"],
                exemplar=index in held,
            )
        )
    low = measure(bounds[first - 1], unit) if first else "0" if bounds[0] >= 0 else "-∞"
    high = measure(bounds[last], unit) if last < len(bounds) else "∞"
    return Chart(bars, len(bars) * STEP - GAP, low, high)


def _bucket(bounds: list[float], value: float) -> int:
    return next((index for index, bound in enumerate(bounds) if value <= bound), len(bounds))
