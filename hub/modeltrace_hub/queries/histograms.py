"""Histograms of any type as counts by bucket: add and subtract them, and compute their quantiles."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

# The bucket of an explicit or exponential histogram by its bounds, the lower one exclusive, the upper one inclusive.
Bucket = tuple[float, float]
# Exponential histograms are drawn and added with at most this scale: eight buckets for a factor of two.
MAX_SCALE: Final = 3


@dataclass(slots=True)
class Buckets:
    """The counts of a histogram by bucket."""

    counts: dict[Bucket, float] = field(default_factory=dict)

    def add(self, other: "Buckets", share: float = 1.0) -> None:
        """Add a share of the counts of another histogram."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + share * count

    def since(self, previous: "Buckets") -> "Buckets | None":
        """Return the increase since an earlier state; None if a count has become smaller, which is a reset."""
        increase = {
            bucket: self.counts.get(bucket, 0) - previous.counts.get(bucket, 0)
            for bucket in {**previous.counts, **self.counts}
        }
        return None if any(count < 0 for count in increase.values()) else Buckets(increase)

    @property
    def total(self) -> float:
        """The number of all measurements."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Return a quantile, interpolated linearly in its bucket; None without measurements.

        As in Prometheus' `histogram_quantile`, a first bucket with a positive bound begins at 0, and a quantile in a
        bucket without an upper bound is the lower bound of this bucket.
        """
        rank = share * self.total
        if not self.total:
            return None
        for (low, high), count in sorted(self.counts.items()):
            if rank <= count and count:
                return _interpolate(low, high, rank / count)
            rank -= count
        return None


def _interpolate(low: float, high: float, share: float) -> float:
    if math.isinf(high):
        return low
    if math.isinf(low):
        # The first bucket of positive values starts at 0.
        low = min(0.0, high)
    return low + (high - low) * share


def common_scale(points: Iterable[Mapping[str, Any]]) -> int:
    """Return the scale at which exponential histograms are compared: their smallest one, at most `MAX_SCALE`."""
    return min([MAX_SCALE, *(int(point["scale"]) for point in points if point["scale"] is not None)])


def read_buckets(point: Mapping[str, Any], scale: int) -> Buckets:
    """Return the buckets of a data point of the type histogram or exponential_histogram.

    Args:
        point: the data point.
        scale: exponential histograms are converted to this scale, not larger than theirs. Source: OpenTelemetry
            metrics data model, "Exponential scale".
    """
    if point["scale"] is None:
        bounds = [-math.inf, *(point["explicit_bounds"] or ()), math.inf]
        return Buckets(dict(zip(pairwise(bounds), point["bucket_counts"] or (), strict=False)))
    counts: defaultdict[Bucket, float] = defaultdict(float)
    if point["zero_count"]:
        counts[0.0, 0.0] = point["zero_count"]
    shift = point["scale"] - scale
    for sign in ("positive", "negative"):
        for index, count in enumerate(point[f"{sign}_counts"] or (), point[f"{sign}_offset"] or 0):
            if count:
                low, high = _bound(index >> shift, scale), _bound((index >> shift) + 1, scale)
                counts[(low, high) if sign == "positive" else (-high, -low)] += count
    return Buckets(counts)


def _bound(index: int, scale: int) -> float:
    """Return the lower bound of a bucket of an exponential histogram: 2 ** (index * 2 ** -scale)."""
    try:
        return math.pow(2.0, math.ldexp(index, -scale))
    except OverflowError:
        return math.inf
