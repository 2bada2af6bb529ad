"""Snapshots of the metrics of a process, which other processes can read and add up.

| metric | processes that have ended | processes that run |
|---|---|---|
| counter, histogram | added | added |
| up-down counter | left out | added |
| gauge | left out | value of the latest snapshot, except `SUMMED_GAUGES` |

Sums are exact (fractions) and are rounded when they are shown. Sums of floating-point numbers depend on the order of
the summands, so a counter could decrease by a rounding error, which Prometheus would read as a restart from zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import inf
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

COUNTER, UP_DOWN_COUNTER, GAUGE, HISTOGRAM = "counter", "up_down_counter", "gauge", "histogram"
# Gauges whose values of several processes can be added: shares of the CPUs.
SUMMED_GAUGES: Final = frozenset({"process.cpu.utilization"})

Items = tuple[tuple[str, Any], ...]  # sorted attributes
Number = int | float | Fraction
# A number, or of a histogram: count, sum, and the count of each bucket.
Value = Number | tuple[int, Number, tuple[int, ...]]
# Points by metric (the fields of `MetricKey`) and attributes.
Snapshot = dict[tuple[Any, ...], dict[Items, Value]]


_NO_BOUNDS: Final[tuple[float, ...]] = ()


class MetricKey(NamedTuple):
    """A metric with its scope."""

    scope: tuple[str, str | None, str | None, Items]  # name, version, schema URL, attributes
    name: str
    description: str | None
    unit: str | None
    kind: str
    bounds: tuple[float, ...]


def take_snapshot(scopes: Iterable[tuple[InstrumentationScope, Iterable[Metric]]]) -> Snapshot:
    """Return the snapshot of cumulative metrics, by scope. Exponential histograms are not supported."""
    snapshot: Snapshot = {}
    for scope, metrics in scopes:
        scope_key = (scope.name, scope.version, scope.schema_url, _items(scope.attributes))
        for metric in metrics:
            data, bounds = metric.data, _NO_BOUNDS
            if isinstance(data, Histogram):
                kind = HISTOGRAM
                bounds = next((tuple(point.explicit_bounds) for point in data.data_points), _NO_BOUNDS)
            elif isinstance(data, Sum):
                kind = COUNTER if data.is_monotonic else UP_DOWN_COUNTER
            else:
                kind = GAUGE
            key = MetricKey(scope_key, metric.name, metric.description, metric.unit, kind, bounds)
            snapshot.setdefault(tuple(key), {}).update(
                (_items(point.attributes), _value(point)) for point in data.data_points
            )
    return snapshot


def add_snapshots(running: Sequence[Snapshot], ended: Sequence[Snapshot] = ()) -> Snapshot:
    """Return the metrics of all processes.

    Args:
        running: snapshots of running processes, the latest last.
        ended: the last snapshots of processes that have ended, or sums of them.
    """
    total: Snapshot = {}
    for snapshot, is_running in [*((s, False) for s in ended), *((s, True) for s in running)]:
        for fields, points in snapshot.items():
            key = MetricKey(*fields)
            if not is_running and key.kind not in (COUNTER, HISTOGRAM):
                continue
            sums = total.setdefault(fields, {})
            replaces = key.kind == GAUGE and key.name not in SUMMED_GAUGES
            for attributes, value in points.items():
                present = sums.get(attributes)
                sums[attributes] = value if present is None or replaces else _add(present, value)
    return total


def to_metrics_data(snapshot: Snapshot, resource: Resource) -> MetricsData:
    """Return a snapshot as the SDK's metrics."""
    scopes: dict[tuple[Any, ...], list[Metric]] = {}
    for fields, points in snapshot.items():
        key = MetricKey(*fields)
        scopes.setdefault(key.scope, []).append(Metric(key.name, key.description, key.unit or "", _data(key, points)))
    return MetricsData(
        [
            ResourceMetrics(
                resource,
                [
                    ScopeMetrics(
                        InstrumentationScope(name, version, schema_url, dict(attributes)), metrics, schema_url or ""
                    )
                    for (name, version, schema_url, attributes), metrics in scopes.items()
                ],
                resource.schema_url,
            )
        ]
    )


def _data(key: MetricKey, points: Mapping[Items, Any]) -> Sum | Gauge | Histogram:
    if key.kind == HISTOGRAM:
        histograms = [
            HistogramDataPoint(dict(attributes), 0, 0, count, _rounded(total), buckets, key.bounds, 0.0, 0.0)
            for attributes, (count, total, buckets) in points.items()
        ]
        return Histogram(histograms, AggregationTemporality.CUMULATIVE)
    numbers = [NumberDataPoint(dict(attributes), 0, 0, _rounded(value)) for attributes, value in points.items()]
    if key.kind == GAUGE:
        return Gauge(numbers)
    return Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=key.kind == COUNTER)


def _items(attributes: Mapping[str, Any] | None) -> Items:
    return tuple(sorted(attributes.items())) if attributes else ()


def _value(point: Any) -> Value:  # noqa: ANN401  a data point of any kind
    if isinstance(point, HistogramDataPoint):
        return point.count, point.sum, tuple(point.bucket_counts)
    number: int | float = point.value
    return number


def _add(first: Any, second: Any) -> Value:  # noqa: ANN401  two values of the same metric
    if not isinstance(first, tuple):
        return _sum(first, second)
    buckets = tuple(a + b for a, b in zip(first[2], second[2], strict=True))
    return first[0] + second[0], _sum(first[1], second[1]), buckets


def _sum(first: Number, second: Number) -> Number:
    if isinstance(first, int) and isinstance(second, int):
        return first + second
    try:
        return Fraction(first) + Fraction(second)
    except (ValueError, OverflowError):  # NaN or infinity
        return _rounded(first) + _rounded(second)


def _rounded(number: Number) -> int | float:
    if not isinstance(number, Fraction):
        return number
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf
