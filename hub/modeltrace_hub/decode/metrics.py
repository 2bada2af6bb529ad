"""Data points to rows of the tables `metric_points` and `exemplars`.

A series is what the metrics data model calls a stream with its attributes: resource, scope, name, unit, type,
temporality, monotonicity and the point's attributes. `series_id` is a hash of them, the same after every restart.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)

from modeltrace_hub.decode import ids
from modeltrace_hub.decode.batch import MAX_NS, Batch, Problems, RejectedError, Row
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.resource import length, resource_columns, scope_columns
from modeltrace_hub.decode.values import sorted_attributes_text

Point = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint

# What a number in a list costs until it is stored: an object of Python, and two places in lists. On the wire it is a
# single byte.
BYTES_A_NUMBER: Final = 64

_TEMPORALITIES: Final = {
    value: name.removeprefix("AGGREGATION_TEMPORALITY_") for name, value in AggregationTemporality.items()
}


def decode(
    request: ExportMetricsServiceRequest,
    received_ns: int,
    size: int,
    budget: Budget | None = None,
    problems: Problems | None = None,
) -> Batch:
    """Make rows of a request.

    Args:
        request: the request.
        received_ns: when it arrived.
        size: its length in bytes.
        budget: what it may expand to; None for no limits.
        problems: counts what is not stored as it was sent.

    Raises:
        TooLargeError: it expands to more than it may.
    """
    budget = budget or Budget.unlimited()
    decoder = _Decoder(received_ns, budget, problems or Problems())
    budget.messages(len(request.resource_metrics))
    for resource_metrics in request.resource_metrics:
        resource = resource_columns(resource_metrics.resource, resource_metrics.schema_url, budget)
        budget.messages(len(resource_metrics.scope_metrics))
        for scope_metrics in resource_metrics.scope_metrics:
            decoder.scope(
                scope_metrics.metrics, resource + scope_columns(scope_metrics.scope, scope_metrics.schema_url, budget)
            )
    tables = {"metric_points": decoder.points, "exemplars": decoder.exemplars}
    return Batch("metrics", tables, len(decoder.points), size, budget.bytes_used, decoder.problems)


class _Decoder:
    """Collects the rows of one request."""

    def __init__(self, received_ns: int, budget: Budget, problems: Problems) -> None:
        self.received_ns = received_ns
        self.budget = budget
        self.problems = problems
        self.points: list[Row] = []
        self.exemplars: list[Row] = []

    def scope(self, metrics: Sequence[Metric], origin: Row) -> None:
        """Add all metrics of one scope."""
        self.budget.messages(len(metrics))
        # Hashed once: a resource may be large, and its metrics many.
        identity = blake2b(f"({origin!r}".encode(), digest_size=8)
        origin_length = length(origin)
        for metric in metrics:
            self._metric(metric, origin, origin_length, identity)

    def _metric(self, metric: Metric, origin: Row, origin_length: int, identity: "blake2b") -> None:
        """Add all points of one metric; none when its type is one that this version of the protocol does not have."""
        type_ = metric.WhichOneof("data")
        if type_ is None:
            return
        data = getattr(metric, type_)
        temporality = None
        if type_ in {"sum", "histogram", "exponential_histogram"}:
            number = data.aggregation_temporality
            temporality = _TEMPORALITIES.get(number) or str(number)
        monotonic = data.is_monotonic if type_ == "sum" else None
        about = (
            metric.name,
            metric.description,
            metric.unit,
            sorted_attributes_text(metric.metadata, self.budget),
            type_,
            temporality,
            monotonic,
        )
        identity = identity.copy()
        identity.update(repr((metric.name, metric.unit, *about[4:])).replace("(", ", ", 1).encode())
        shared = origin_length + length(about)
        self.budget.records(len(data.data_points))
        for point in data.data_points:
            try:
                self._point(point, about, identity, origin, shared)
            except RejectedError as error:
                self.problems.reject(error)

    def _point(self, point: Point, about: Row, identity: "blake2b", origin: Row, shared: int) -> None:
        """Add one point and its exemplars; `shared` are the bytes of all that its metric says for it.

        Raises:
            RejectedError: a time is not one, or the buckets do not fit their bounds.
            TooLargeError: the request expands to more than it may.
        """
        start, time = point.start_time_unix_nano, point.time_unix_nano or self.received_ns
        if start > MAX_NS or time > MAX_NS:
            raise RejectedError("time")
        attributes = sorted_attributes_text(point.attributes, self.budget)
        series = identity.copy()
        series.update(attributes.encode())
        series_id = series.hexdigest()
        exemplars = () if isinstance(point, SummaryDataPoint) else point.exemplars
        common = (self.received_ns, series_id, time, about[0], origin[0], origin[1])
        if exemplars:
            self.budget.records(len(exemplars))
        rows = [self._exemplar(exemplar, common) for exemplar in exemplars]
        self.problems.warn("ids", count=sum(ids.detached(one.trace_id, one.span_id) for one in exemplars))
        self.budget.bytes(shared + len(attributes) + BYTES_A_NUMBER * _list_items(point))
        self.points.append(
            (
                self.received_ns,
                series_id,
                *about,
                start or None,
                time,
                point.flags,
                attributes,
                *_measures(point),
                *origin,
            )
        )
        self.exemplars.extend(rows)

    def _exemplar(self, exemplar: Exemplar, common: Row) -> Row:
        """One row of `exemplars`.

        Raises:
            RejectedError: its time is not one.
        """
        time = exemplar.time_unix_nano or common[2]
        if time > MAX_NS:
            raise RejectedError("time")
        attributes = sorted_attributes_text(exemplar.filtered_attributes, self.budget)
        self.budget.bytes(len(attributes) + length(common))
        return (
            *common,
            ids.trace_id(exemplar.trace_id),
            ids.span_id(exemplar.span_id),
            time,
            *_number(exemplar),
            attributes,
        )


def _list_items(point: Point) -> int:
    """How many numbers the lists of a point hold."""
    match point:
        case HistogramDataPoint():
            return len(point.bucket_counts) + len(point.explicit_bounds)
        case ExponentialHistogramDataPoint():
            return len(point.positive.bucket_counts) + len(point.negative.bucket_counts)
        case SummaryDataPoint():
            return 2 * len(point.quantile_values)
        case _:
            return 0


def _number(point: NumberDataPoint | Exemplar) -> tuple[float | None, int | None]:
    """Columns `value` and `value_int`."""
    match point.WhichOneof("value"):
        case "as_double":
            return point.as_double, None
        case "as_int":
            return float(point.as_int), point.as_int
        case _:
            return None, None


class _Measures(NamedTuple):
    """The columns that differ between types, in their order."""

    value: float | None = None
    value_int: int | None = None
    total: int | None = None  # the column `count`, which is a method of tuples
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    bucket_counts: list[int] | None = None
    explicit_bounds: list[float] | None = None
    scale: int | None = None
    zero_count: int | None = None
    zero_threshold: float | None = None
    positive_offset: int | None = None
    positive_counts: list[int] | None = None
    negative_offset: int | None = None
    negative_counts: list[int] | None = None
    quantiles: list[float] | None = None
    quantile_values: list[float] | None = None


def _measures(point: Point) -> _Measures:
    """What was measured; `sum`, `min` and `max` of histograms are optional on the wire.

    Raises:
        RejectedError: the buckets do not fit their bounds.
    """
    match point:
        case NumberDataPoint():
            return _Measures(*_number(point))
        case HistogramDataPoint():
            if point.bucket_counts and len(point.bucket_counts) != len(point.explicit_bounds) + 1:
                raise RejectedError("buckets")
            return _Measures(
                total=point.count,
                sum=point.sum if point.HasField("sum") else None,
                min=point.min if point.HasField("min") else None,
                max=point.max if point.HasField("max") else None,
                bucket_counts=list(point.bucket_counts),
                explicit_bounds=list(point.explicit_bounds),
            )
        case ExponentialHistogramDataPoint():
            return _Measures(
                total=point.count,
                sum=point.sum if point.HasField("sum") else None,
                min=point.min if point.HasField("min") else None,
                max=point.max if point.HasField("max") else None,
                scale=point.scale,
                zero_count=point.zero_count,
                zero_threshold=point.zero_threshold,
                positive_offset=point.positive.offset,
                positive_counts=list(point.positive.bucket_counts),
                negative_offset=point.negative.offset,
                negative_counts=list(point.negative.bucket_counts),
            )
        case SummaryDataPoint():
            return _Measures(
                total=point.count,
                sum=point.sum,
                quantiles=[item.quantile for item in point.quantile_values],
                quantile_values=[item.value for item in point.quantile_values],
            )
