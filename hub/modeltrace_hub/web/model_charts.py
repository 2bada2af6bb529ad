"""Draw the charts of a model: traffic, confidence, and the bins of a feature compared with the training data."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modeltrace_hub.queries.model_schema import MISSING, OTHER, Feature
from modeltrace_hub.queries.reader import Record
from modeltrace_hub.web.format import assign_hues, number, percent, time_of_day

# The traffic chart is drawn in a box of this size and stretched. The other charts have a fixed size.
TRAFFIC_WIDTH: Final = 600.0
TRAFFIC_HEIGHT: Final = 64.0
CONFIDENCE_STEP: Final = 25.0
CONFIDENCE_HEIGHT: Final = 64.0
BIN_STEP: Final = 9.0
BIN_HEIGHT: Final = 26.0
# The number of colours of bins in models.css. A reference has at most 24 bins of numbers; others are rare.
BIN_COLOURS: Final = 26
# A bin that is not empty has at least this height, so that it is visible.
MIN_BAR_HEIGHT: Final = 1.5

# The names of the drift statistics on the page, and those that are shares of the rows.
_STATISTIC_LABELS: Final = {
    "psi": "PSI",
    "jensen_shannon": "JS",
    "ks": "KS",
    "location": "location",
    "spread": "spread",
    "share_change": "change of a share",
    "new_categories": "unseen categories",
    "missing": "missing values",
}
_SHARES: Final = {"share_change", "new_categories", "missing"}

Link = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. `kind` is its CSS class, `reference_height` the height of the training data."""

    x: float
    y: float
    width: float
    height: float
    title: str
    href: str
    kind: str = ""
    reference_height: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """The stacked bars of one step of time."""

    x: float
    width: float
    title: str
    href: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, the size of the drawing, and axis labels with their positions."""

    bars: Sequence[Bar]
    width: float
    height: float
    axis_labels: Sequence[tuple[float, str]] = ()


def output_colours(outputs: Collection[str], *, binned: bool) -> dict[str, str]:
    """Return the CSS class of the colour of each output. Bins of numbers have neighbouring colours, all different."""
    if not binned:
        return {output: f"hue-{hue}" for output, hue in assign_hues(outputs).items()}
    step = max(BIN_COLOURS // max(len(outputs), 1), 1)
    return {output: f"bin-{index * step % BIN_COLOURS}" for index, output in enumerate(sorted(outputs))}


def draw_traffic(
    traffic: Record, colours: Mapping[str, str], labels: Mapping[str, str], link: Link, *, max_count: float
) -> list[Step]:
    """Draw predictions over time, by output. Charts with the same `max_count` have the same scale."""
    drawn = []
    steps = traffic["steps"]
    width = TRAFFIC_WIDTH / max(len(steps), 1)
    for index, step in enumerate(steps):
        total = sum(step["outputs"].values())
        if not total:
            continue
        top, bars = TRAFFIC_HEIGHT, []
        for output, count in sorted(step["outputs"].items()):
            height = TRAFFIC_HEIGHT * count / max_count
            top -= height
            bars.append(Bar(0, round(top, 2), 0, round(height, 2), "", "", colours.get(output, "hue-0")))
        interval = f"{time_of_day(step['since_ns'])[:5]} to {time_of_day(step['until_ns'])[:5]}"
        seconds = (step["until_ns"] - step["since_ns"]) / 1e9
        counts = ", ".join(
            f"{labels.get(output) or 'predictions'} {number(count)}"
            for output, count in sorted(step["outputs"].items())
        )
        drawn.append(
            Step(
                x=round(index * width, 2),
                width=round(width * 0.86, 2),
                title=f"{interval} UTC: {number(total)} predictions ({number(total / seconds)}/s): {counts}",
                href=link(since_ns=step["since_ns"], until_ns=step["until_ns"]),
                bars=bars,
            )
        )
    return drawn


def draw_confidence(confidence: Record, link: Link) -> Chart:
    """Draw the distribution of confidence. Buckets below the threshold have another colour."""
    bounds, counts = confidence["bounds"], confidence["counts"]
    max_count, total = max(counts), sum(counts)
    threshold = confidence["threshold"]
    bars = []
    for index, count in enumerate(counts):
        low, high = bounds[index - 1] if index else 0.0, bounds[index] if index < len(bounds) else 1.0
        height = max(CONFIDENCE_HEIGHT * count / max_count, MIN_BAR_HEIGHT) if count else 0.0
        bars.append(
            Bar(
                x=index * CONFIDENCE_STEP,
                y=round(CONFIDENCE_HEIGHT - height, 2),
                width=CONFIDENCE_STEP - 2,
                height=round(height, 2),
                title=f"{number(low)} to {number(high)}: {number(count)} predictions, {percent(count / total)}",
                href=link(above=low if index else None, below=high if index < len(bounds) else None),
                kind="low" if threshold is not None and high <= threshold else "",
            )
        )
    labels = [(index * CONFIDENCE_STEP - 1, f"{bound:g}".removeprefix("0")) for index, bound in enumerate(bounds, 1)]
    return Chart(bars, len(counts) * CONFIDENCE_STEP, CONFIDENCE_HEIGHT, labels)


def draw_bins(feature_drift: Record, feature: Feature | None, link: Link) -> Chart:
    """Draw the bins of a feature in the window and in the training data. Omit unordered bins that are empty in both."""
    bins = [bin_ for bin_ in feature_drift["bins"] if bin_["ordered"] or bin_["observed"] or bin_["share"]]
    n = feature_drift["n"] or 0
    shares = [bin_["observed"] / n if n else 0.0 for bin_ in bins]
    max_share = max([*shares, *(bin_["share"] for bin_ in bins)], default=0.0) or 1.0
    bars = []
    for index, (bin_, share) in enumerate(zip(bins, shares, strict=True)):
        height = max(BIN_HEIGHT * share / max_share, MIN_BAR_HEIGHT) if share else 0.0
        observed = f"{percent(share)} of {number(n)}" if n else "none observed"
        label = bin_label(bin_["bin"], feature)
        bars.append(
            Bar(
                x=index * BIN_STEP,
                y=round(BIN_HEIGHT - height, 2),
                width=BIN_STEP - 1,
                height=round(height, 2),
                title=f"{label}: {observed}; {percent(bin_['share'])} of the training data",
                href=link(bin=bin_["bin"]),
                kind="special" if bin_["bin"] in {MISSING, OTHER} else "",
                reference_height=round(BIN_HEIGHT * bin_["share"] / max_share, 2),
            )
        )
    return Chart(bars, max(len(bins) * BIN_STEP, 1.0), BIN_HEIGHT)


def bin_label(name: str, feature: Feature | None) -> str:
    """Return the text of a bin: its bounds if they are known, else its name."""
    interval = feature.interval(name) if feature is not None else None
    if interval is None:
        return name or "predictions"
    low, high = interval
    if math.isinf(low):
        return f"up to {number(high)}" if math.isfinite(high) else "any number"
    return f"above {number(low)}" if math.isinf(high) else f"{number(low)} to {number(high)}"


def deciding_statistic(drift: Record) -> str | None:
    """Return name, value and threshold of the statistic in drift that exceeds its threshold most; None without one."""
    exceeded = [
        (abs(item["value"]) / item["threshold"], name, item)
        for name, item in drift["statistics"].items()
        if item["state"] == "drift" and item["value"] is not None and item["threshold"]
    ]
    if not exceeded:
        return None
    _, name, item = max(exceeded, key=lambda entry: entry[0])
    text = percent if name in _SHARES else number
    return f"{_STATISTIC_LABELS.get(name, name)} {text(item['value'])} > {text(item['threshold'])}"


@dataclass(frozen=True, slots=True)
class Strip:
    """The position of a value among the training data."""

    bin_edges: Sequence[float]  # ends of the bins, in percent of the strip
    position: float | None  # position of the value, in percent of the strip
    label: str  # text of its bin


def draw_strip(value: Any, feature: Feature) -> Strip:  # noqa: ANN401  any JSON
    """Locate a value in the bins of its feature.

    All bins are drawn with the same width, because each has about the same share of the training data.
    """
    name = feature.bin_of(value)
    if feature.edges is None:
        return Strip([], None, name)
    width = 100 / (len(feature.edges) + 1)
    edges = [round(width * index, 2) for index in range(1, len(feature.edges) + 1)]
    interval = feature.interval(name)
    if interval is None:
        return Strip(edges, None, name)
    low = interval[0] if math.isfinite(interval[0]) else feature.low
    high = interval[1] if math.isfinite(interval[1]) else feature.high
    fraction = 0.5
    if low is not None and high is not None and high > low:
        fraction = min(max((value - low) / (high - low), 0.0), 1.0)
    return Strip(edges, round(width * (int(name) + fraction), 2), bin_label(name, feature))
