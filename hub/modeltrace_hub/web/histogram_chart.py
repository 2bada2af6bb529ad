"""Draw the histogram of one export interval as bars, with the bucket of the request marked."""

from dataclasses import dataclass
from typing import Final

from modeltrace_hub.queries.reader import Record
from modeltrace_hub.web.format import metric_value

BAR_STEP: Final = 12.0
BAR_GAP: Final = 2.0
HEIGHT: Final = 30.0
MIN_BAR_HEIGHT: Final = 1.5
# The maximum number of bars. A larger chart has megabytes and cannot be read.
MAX_BARS: Final = 200


@dataclass(frozen=True, slots=True)
class Bar:
    """One bucket; whether it contains the value of the request, and whether it contains an exemplar of the request."""

    x: float
    y: float
    height: float
    title: str
    has_request: bool
    has_exemplar: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars, the width, and the texts of the lowest and highest bound."""

    bars: list[Bar]
    width: float
    low: str
    high: str


def draw_histogram(point: Record) -> Chart | None:
    """Draw the increases of one export interval; None if there are none, or too many buckets.

    At most one empty bucket is drawn at each end.
    """
    counts, bounds = point["interval"]["bucket_counts"], point["explicit_bounds"]
    if not counts or not bounds or not any(counts):
        return None
    unit = point["unit"]
    values = [exemplar["value"] for exemplar in point["exemplars"] if exemplar["value"] is not None]
    exemplar_buckets = {_bucket_index(bounds, value) for value in values}
    used = [index for index, count in enumerate(counts) if count] + [*exemplar_buckets]
    if point["bucket"] is not None:
        used.append(point["bucket"])
    first, last = max(min(used) - 1, 0), min(max(used) + 1, len(counts) - 1)
    if last - first >= MAX_BARS:
        return None
    max_count = max(counts)
    bars = []
    for index in range(first, last + 1):
        height = max(HEIGHT * counts[index] / max_count, MIN_BAR_HEIGHT) if counts[index] > 0 else MIN_BAR_HEIGHT / 2
        above = f"> {metric_value(bounds[index - 1], unit)}" if index else ""
        below = f"≤ {metric_value(bounds[index], unit)}" if index < len(bounds) else ""
        bars.append(
            Bar(
                x=(index - first) * BAR_STEP,
                y=round(HEIGHT - height, 2),
                height=round(height, 2),
                title=f"{' and '.join(part for part in (above, below) if part)}: {counts[index]:,}",
                has_request=index == point["bucket"],
                has_exemplar=index in exemplar_buckets,
            )
        )
    low = metric_value(bounds[first - 1], unit) if first else "0" if bounds[0] >= 0 else "-∞"
    high = metric_value(bounds[last], unit) if last < len(bounds) else "∞"
    return Chart(bars, len(bars) * BAR_STEP - BAR_GAP, low, high)


def _bucket_index(bounds: list[float], value: float) -> int:
    return next((index for index, bound in enumerate(bounds) if value <= bound), len(bounds))
