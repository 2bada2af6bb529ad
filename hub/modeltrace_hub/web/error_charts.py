"""Draw the charts of a regressor's labelled predictions: predicted against actual values, and errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modeltrace_hub.queries.quality import BINS
from modeltrace_hub.queries.reader import Record
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.model_charts import Link
from modeltrace_hub.web.square_plot import SIZE, Plot, Shape, bounds, interval, line

# The width of a bar and the height of the chart of errors, in pixels.
BAR_STEP: Final = 11.0
BAR_HEIGHT: Final = 120.0
# A bar has at least this height, so that it is visible.
MIN_BAR_HEIGHT: Final = 1.5
HEAT_LEVELS: Final = 6
# Every bin of this number has a label at its upper bound.
LABEL_STEP: Final = 5


@dataclass(frozen=True, slots=True)
class ErrorChart:
    """The bars of errors, and the labels of some bounds with their positions."""

    bars: Sequence[Shape]
    width: float
    labels: Sequence[tuple[float, str]]


def draw_values(cells: Sequence[Record], link: Link) -> Plot:
    """Draw the number of labels by predicted value and true value, both in the same bins."""
    edges = [edge for cell in cells for edge in (cell["value_low"], cell["value_high"]) if edge is not None]
    most, size = max(cell["labels"] for cell in cells), SIZE / BINS
    shapes = []
    for cell in cells:
        x, y = cell["true_bin"] - 1, cell["value_bin"] - 1
        title = (
            f"True value {interval(cell['true_low'], cell['true_high'])}, predicted "
            f"{interval(cell['value_low'], cell['value_high'])}: {fmt.plural(cell['labels'], 'prediction')}"
        )
        conditions = " ".join(
            [
                bounds("value", cell["value_low"], cell["value_high"], labelled=False),
                bounds("true_value", cell["true_low"], cell["true_high"]),
            ]
        )
        level = 1 + round((HEAT_LEVELS - 1) * math.log(cell["labels"]) / math.log(most)) if most > 1 else HEAT_LEVELS
        corner = (round(x * size, 2), round(SIZE - (y + 1) * size, 2))
        shapes.append(Shape(*corner, size, size, title, link(filter=conditions.strip()), level))
    low, high = (f"{fmt.number(edge)}" for edge in (min(edges), max(edges))) if edges else ("", "")
    reference = line([(0, 0), (1, 1)])
    return Plot("Predicted against actual", "true value", "predicted value", low, high, (), shapes, "", reference)


def draw_errors(bins: Sequence[Record], link: Link) -> ErrorChart:
    """Draw the number of labels by error."""
    most = max(item["labels"] for item in bins)
    bars = []
    for item in bins:
        height = max(BAR_HEIGHT * item["labels"] / most, MIN_BAR_HEIGHT)
        title = f"Error {interval(item['low'], item['high'])}: {fmt.plural(item['labels'], 'prediction')}"
        address = link(filter=bounds("error", item["low"], item["high"]))
        x, y = (item["bin"] - 1) * BAR_STEP, round(BAR_HEIGHT - height, 2)
        bars.append(Shape(x, y, BAR_STEP - 1, round(height, 2), title, address))
    labels = [
        (item["bin"] * BAR_STEP - 0.5, fmt.number(item["high"]))
        for item in bins
        if item["high"] is not None and item["bin"] % LABEL_STEP == 0
    ]
    return ErrorChart(bars, BINS * BAR_STEP, labels)
