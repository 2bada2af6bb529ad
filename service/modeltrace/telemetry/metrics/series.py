"""Metrics that are counted from records: counts per attribute set, and their conversion to the SDK's data points.

As in the SDK, beyond an instrument's cardinality limit all other attribute sets share one series.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterator
from threading import Lock
from time import time_ns
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
    """The span that an exemplar refers to."""

    @property
    def trace_id(self) -> bytes:
        """16 bytes."""

    @property
    def span_id(self) -> bytes:
        """8 bytes."""

    @property
    def end(self) -> int:
        """Time of the measurement, in nanoseconds since the epoch."""


class Series:
    """Counts of one attribute set. A counter has one bucket; its value is the count of that bucket."""

    __slots__ = ("attributes", "bounds", "buckets", "exemplars", "maximum", "minimum", "total")

    def __init__(self, attributes: Attributes, bounds: tuple[float, ...]) -> None:
        self.attributes = attributes
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.minimum = float("inf")
        self.maximum = float("-inf")
        self.exemplars: dict[int, tuple[int, float, ExemplarSource]] = {}  # by bucket

    def add(self, value: float, rank: int, source: ExemplarSource | None, *, count: int = 1) -> None:
        """Count a value. With a source, it becomes its bucket's exemplar, unless the present one has a higher rank."""
        bucket = bisect_left(self.bounds, value)
        self.buckets[bucket] += count
        self.total += value
        if value < self.minimum:
            self.minimum = value
        if value > self.maximum:
            self.maximum = value
        if source is not None:
            candidate = self.exemplars.get(bucket)
            if candidate is None or candidate[0] <= rank:
                self.exemplars[bucket] = (rank, value, source)


class InstrumentSeries:
    """All series of one instrument."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.series: dict[Hashable, Series] = {}

    def create(self, key: Hashable, attributes: Attributes) -> Series:
        """Return a new series for a key; beyond the cardinality limit, return the shared overflow series."""
        if len(self.series) >= self.instrument.cardinality_limit:
            key, attributes = _OVERFLOW, {"otel.metric.overflow": True}
        return self.series.setdefault(key, Series(attributes, self.instrument.bounds))

    def metric(self, start: int, now: int, temporality: AggregationTemporality, *, exemplars: bool) -> Metric:
        """Return the counts from `start` to `now`, with the exemplars since the last call that asked for them."""
        instrument = self.instrument
        points: list[Any] = list(self._points(start, now, exemplars=exemplars))
        data = Histogram(points, temporality) if instrument.bounds else Sum(points, temporality, is_monotonic=True)
        return Metric(instrument.name, instrument.description, instrument.unit, data)

    def _points(self, start: int, now: int, *, exemplars: bool) -> Iterator[HistogramDataPoint | NumberDataPoint]:
        for series in self.series.values():
            candidates: dict[int, tuple[int, float, ExemplarSource]] = {}
            if exemplars:
                candidates, series.exemplars = series.exemplars, {}
            chosen = [
                Exemplar({}, value, source.end, int.from_bytes(source.span_id), int.from_bytes(source.trace_id))
                for _, (_, value, source) in sorted(candidates.items())
            ]
            count = sum(series.buckets)
            if not self.instrument.bounds:
                yield NumberDataPoint(series.attributes, start, now, count, chosen)
                continue
            yield HistogramDataPoint(
                series.attributes,
                start,
                now,
                count,
                series.total,
                tuple(series.buckets),
                self.instrument.bounds,
                series.minimum,
                series.maximum,
                chosen,
            )


class RecordMetrics:
    """Base class of metrics that are counted from records. Thread-safe.

    Subclasses register their instruments in `_reset`, and count with `_lock` held.
    """

    def __init__(self, *, exemplar_filter: str, delta: bool = False) -> None:
        """Start with empty counts.

        Args:
            exemplar_filter: value of `OTEL_METRICS_EXEMPLAR_FILTER`.
            delta: whether a collection returns the increase since the previous one, for a single reader, or totals.
        """
        self._always, self._sampled = exemplar_filter == "always_on", exemplar_filter == "trace_based"
        self._delta = delta
        self._start = time_ns()
        self._lock = Lock()
        self._all: list[InstrumentSeries] = []
        self._reset()

    def _reset(self) -> None:
        """Register all instruments, without series."""
        raise NotImplementedError

    def _register(self, instrument: Instrument) -> InstrumentSeries:
        self._all.append(InstrumentSeries(instrument))
        return self._all[-1]

    def collect(self, *, exemplars: bool = True) -> list[Metric]:
        """Return the SDK's metrics. Each exemplar is returned once, to a reader that asks for exemplars."""
        with self._lock:
            now = time_ns()
            temporality = AggregationTemporality.DELTA if self._delta else AggregationTemporality.CUMULATIVE
            metrics = [
                registered.metric(self._start, now, temporality, exemplars=exemplars)
                for registered in self._all
                if registered.series
            ]
            if self._delta:
                self._start = now
                self._all = []
                self._reset()
        return metrics
