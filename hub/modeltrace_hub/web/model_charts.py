"""What is drawn of a model: traffic over time, how sure it was, a feature's bins beside those of the training data."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modeltrace_hub.queries.model_schema import MISSING, OTHER, Feature
from modeltrace_hub.queries.queries import Record
from modeltrace_hub.web.format import clock, number, percent

# Traffic is drawn in a box of this size and stretched; what is drawn besides keeps its size.
TRAFFIC_WIDTH: Final = 600.0
TRAFFIC_HEIGHT: Final = 64.0
CONFIDENCE_STEP: Final = 25.0
CONFIDENCE_HEIGHT: Final = 64.0
BIN_STEP: Final = 9.0
BIN_HEIGHT: Final = 26.0
# A bin that was met at all is seen.
LOWEST: Final = 1.5

Link = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its place, what it says, where it leads; `kind` is its class, `was` how high the training data is."""

    x: float
    y: float
    width: float
    height: float
    title: str
    href: str
    kind: str = ""
    was: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """The bars of one step of time, one upon the other."""

    x: float
    width: float
    title: str
    href: str
    parts: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, and the size of the drawing. `marks` are texts below, each at its place."""

    bars: Sequence[Bar]
    width: float
    height: float
    marks: Sequence[tuple[float, str]] = ()


def draw_traffic(traffic: Record, hues: Mapping[str, int], link: Link, *, most: float) -> list[Step]:
    """Predictions over time, by label. `most` is the height of the drawing, so that versions can be compared."""
    drawn = []
    steps = traffic["steps"]
    width = TRAFFIC_WIDTH / max(len(steps), 1)
    for place, step in enumerate(steps):
        total = sum(step["labels"].values())
        if not total:
            continue
        top, parts = TRAFFIC_HEIGHT, []
        for label, count in sorted(step["labels"].items()):
            height = TRAFFIC_HEIGHT * count / most
            top -= height
            parts.append(Bar(0, round(top, 2), 0, round(height, 2), "", "", f"hue-{hues.get(label, 0)}"))
        when = f"{clock(step['since_ns'])[:5]} to {clock(step['until_ns'])[:5]}"
        seconds = (step["until_ns"] - step["since_ns"]) / 1e9
        said = ", ".join(f"{label or 'answered'} {number(count)}" for label, count in sorted(step["labels"].items()))
        drawn.append(
            Step(
                x=round(place * width, 2),
                width=round(width * 0.86, 2),
                title=f"{when} UTC: {number(total)} predictions ({number(total / seconds)}/s): {said}",
                href=link(since_ns=step["since_ns"], until_ns=step["until_ns"]),
                parts=parts,
            )
        )
    return drawn


def draw_confidence(confidence: Record, link: Link) -> Chart:
    """How sure the model was of its answers; buckets that lie below the threshold are told apart."""
    bounds, counts = confidence["bounds"], confidence["counts"]
    most, total = max(counts), sum(counts)
    threshold = confidence["threshold"]
    bars = []
    for place, count in enumerate(counts):
        low, high = bounds[place - 1] if place else 0.0, bounds[place] if place < len(bounds) else 1.0
        height = max(CONFIDENCE_HEIGHT * count / most, LOWEST) if count else 0.0
        bars.append(
            Bar(
                x=place * CONFIDENCE_STEP,
                y=round(CONFIDENCE_HEIGHT - height, 2),
                width=CONFIDENCE_STEP - 2,
                height=round(height, 2),
                title=f"{number(low)} to {number(high)}: {number(count)} predictions, {percent(count / total)}",
                href=link(above=low if place else None, below=high if place < len(bounds) else None),
                kind="low" if threshold is not None and high <= threshold else "",
            )
        )
    marks = [(place * CONFIDENCE_STEP - 1, f"{bound:g}".removeprefix("0")) for place, bound in enumerate(bounds, 1)]
    return Chart(bars, len(counts) * CONFIDENCE_STEP, CONFIDENCE_HEIGHT, marks)


def draw_bins(one: Record, feature: Feature | None, link: Link) -> Chart:
    """A feature's bins, now beside the training data; those that hold nothing in either are left out at the end."""
    bins = [part for part in one["bins"] if part["ordered"] or part["observed"] or part["share"]]
    n = one["n"] or 0
    shares = [part["observed"] / n if n else 0.0 for part in bins]
    most = max([*shares, *(part["share"] for part in bins)], default=0.0) or 1.0
    bars = []
    for place, (part, share) in enumerate(zip(bins, shares, strict=True)):
        height = max(BIN_HEIGHT * share / most, LOWEST) if share else 0.0
        was = BIN_HEIGHT * part["share"] / most
        said = f"{percent(share)} of {number(n)}" if n else "nothing yet"
        bars.append(
            Bar(
                x=place * BIN_STEP,
                y=round(BIN_HEIGHT - height, 2),
                width=BIN_STEP - 1,
                height=round(height, 2),
                title=f"{name_bin(part['bin'], feature)}: {said}; {percent(part['share'])} of the training data",
                href=link(bin=part["bin"]),
                kind="beside" if part["bin"] in {MISSING, OTHER} else "",
                was=round(was, 2),
            )
        )
    return Chart(bars, max(len(bins) * BIN_STEP, 1.0), BIN_HEIGHT)


def name_bin(name: str, feature: Feature | None) -> str:
    """A bin in words: its bounds where they are known."""
    interval = feature.interval(name) if feature is not None else None
    if interval is None:
        return name or "answered"
    low, high = interval
    if math.isinf(low):
        return f"up to {number(high)}" if math.isfinite(high) else "any number"
    return f"above {number(low)}" if math.isinf(high) else f"{number(low)} to {number(high)}"


@dataclass(frozen=True, slots=True)
class Strip:
    """A value's place among the training data: `marks` are where bins end, `place` where it is, in percent."""

    marks: Sequence[float]
    place: float | None
    words: str


def draw_strip(value: Any, feature: Feature) -> Strip:  # noqa: ANN401  any JSON
    """Where a value lies. All bins are equally wide: each holds about the same share of the training data."""
    name = feature.bin_of(value)
    if feature.edges is None:
        return Strip([], None, name)
    width = 100 / (len(feature.edges) + 1)
    marks = [round(width * place, 2) for place in range(1, len(feature.edges) + 1)]
    interval = feature.interval(name)
    if interval is None:
        return Strip(marks, None, name)
    low = interval[0] if math.isfinite(interval[0]) else feature.low
    high = interval[1] if math.isfinite(interval[1]) else feature.high
    inside = 0.5
    if low is not None and high is not None and high > low:
        inside = min(max((value - low) / (high - low), 0.0), 1.0)
    return Strip(marks, round(width * (int(name) + inside), 2), name_bin(name, feature))
