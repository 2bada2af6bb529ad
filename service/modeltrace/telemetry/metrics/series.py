"""What is counted for each set of attributes, and the SDK's own data points of it.

Bounded: beyond the instrument's limit all other sets share one, as the SDK does it.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterator
from typing import Any, Final, Protocol

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.util.types import AttributeValue

from modeltrace.telemetry.metrics.instruments import Instrument

Attributes = dict[str, AttributeValue]
_OVERFLOW: Final = ("overflow",)


class ExemplarSource(Protocol):
    """The span that an exemplar leads to."""

    @property
    def trace_id(self) -> bytes:
        """16 bytes."""

    @property
    def span_id(self) -> bytes:
        """8 bytes."""

    @property
    def end(self) -> int:
        """When it was met."""


class Series:
    """What is counted for one set of attributes. A counter has one bucket, and counts ones."""

    __slots__ = ("attributes", "bounds", "buckets", "exemplars", "highest", "lowest", "total")

    def __init__(self, attributes: Attributes, bounds: tuple[float, ...]) -> None:
        self.attributes = attributes
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.lowest = float("inf")
        self.highest = float("-inf")
        self.exemplars: dict[int, tuple[int, float, ExemplarSource]] = {}

    def add(self, value: float, rank: int, source: ExemplarSource | None, *, count: int = 1) -> None:
        """Count a value; a span makes it an exemplar's candidate."""
        bucket = bisect_left(self.bounds, value)
        self.buckets[bucket] += count
        self.total += value
        if value < self.lowest:
            self.lowest = value
        if value > self.highest:
            self.highest = value
        if source is not None:
            kept = self.exemplars.get(bucket)
            if kept is None or kept[0] <= rank:
                self.exemplars[bucket] = (rank, value, source)


class InstrumentSeries:
    """All series of one instrument."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.series: dict[Hashable, Series] = {}

    def create(self, key: Hashable, attributes: Attributes) -> Series:
        """The series of a key that has none yet; beyond the limit, the one for all others."""
        if len(self.series) >= self.instrument.cardinality_limit:
            key, attributes = _OVERFLOW, {"otel.metric.overflow": True}
        return self.series.setdefault(key, Series(attributes, self.instrument.bounds))

    def metric(self, start: int, now: int, temporality: AggregationTemporality, *, exemplars: bool) -> Metric:
        """All that was counted from `start` to `now`; each exemplar is handed over once, to who asks for exemplars."""
        one = self.instrument
        data: list[Any] = list(self._data(start, now, exemplars=exemplars))
        if one.bounds:
            return Metric(one.name, one.description, one.unit, Histogram(data, temporality))
        total = Sum(data, aggregation_temporality=temporality, is_monotonic=True)
        return Metric(one.name, one.description, one.unit, total)

    def _data(self, start: int, now: int, *, exemplars: bool) -> Iterator[HistogramDataPoint | NumberDataPoint]:
        for series in self.series.values():
            kept: dict[int, tuple[int, float, ExemplarSource]] = {}
            if exemplars:
                kept, series.exemplars = series.exemplars, {}
            found = [
                Exemplar({}, value, met.end, int.from_bytes(met.span_id), int.from_bytes(met.trace_id))
                for _, (_, value, met) in sorted(kept.items())
            ]
            count = sum(series.buckets)
            if not self.instrument.bounds:
                yield NumberDataPoint(series.attributes, start, now, count, found)
                continue
            yield HistogramDataPoint(
                series.attributes,
                start,
                now,
                count,
                series.total,
                tuple(series.buckets),
                self.instrument.bounds,
                series.lowest,
                series.highest,
                found,
            )
