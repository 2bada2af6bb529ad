"""Decode data points into rows of the tables `metric_points` and `exemplars`.

A series is identified by resource, scope, name, unit, type, temporality, monotonicity and the attributes of the point
("timeseries" in the metrics data model). `series_id` is a hash of them, and does not change when the hub restarts.
"""

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
from modeltrace_hub.decode.batch import Problems, RecordRejectedError, Row, Tables
from modeltrace_hub.decode.budget import Budget
from modeltrace_hub.decode.resource import Scope, iter_scopes, reject_unknown_fields, text_bytes
from modeltrace_hub.decode.values import sorted_attributes_text
from modeltrace_hub.durations import MAX_NS

Point = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint

# Memory that one number of a list uses until it is stored: a Python object and two list slots. In protobuf, a number
# can take a single byte.
BYTES_PER_LIST_ITEM: Final = 64

_TEMPORALITIES: Final = {
    value: name.removeprefix("AGGREGATION_TEMPORALITY_") for name, value in AggregationTemporality.items()
}


def decode(request: ExportMetricsServiceRequest, received_ns: int, budget: Budget, problems: Problems) -> Tables:
    """Decode a request into rows; see `modeltrace_hub.decode.traces.decode`."""
    decoder = _Decoder(received_ns, budget, problems)
    tables = {"metric_points": decoder.points, "exemplars": decoder.exemplars}
    scopes = iter_scopes(
        request.resource_metrics, "scope_metrics", "metrics", budget, tables, "metric_points", problems
    )
    for scope in scopes:
        decoder.add_scope(scope)
    return tables


class _Decoder:
    """Collect the rows of one request."""

    def __init__(self, received_ns: int, budget: Budget, problems: Problems) -> None:
        self.received_ns = received_ns
        self.budget = budget
        self.problems = problems
        self.points: list[Row] = []
        self.exemplars: list[Row] = []

    def add_scope(self, scope: Scope) -> None:
        """Add all metrics of a scope."""
        self.budget.count_messages(len(scope.records))
        # Hash resource and scope once: a resource may be large and have many metrics.
        series_hash = blake2b(f"({scope.identity!r}".encode(), digest_size=8)
        for metric in scope.records:
            self._add_metric(metric, scope, series_hash.copy())

    def _add_metric(self, metric: Metric, scope: Scope, series_hash: "blake2b") -> None:
        """Add all points of a metric. If its type is unknown to this version of the protocol, it is rejected."""
        type_ = metric.WhichOneof("data")
        if type_ is None:
            reject_unknown_fields(metric, self.problems)
            return
        data = getattr(metric, type_)
        temporality = None
        if type_ in {"sum", "histogram", "exponential_histogram"}:
            number = data.aggregation_temporality
            temporality = _TEMPORALITIES.get(number) or str(number)
        columns = (
            metric.name,
            metric.description,
            metric.unit,
            sorted_attributes_text(metric.metadata, self.budget),
            type_,
            temporality,
            data.is_monotonic if type_ == "sum" else None,
        )
        series_hash.update(repr((metric.name, metric.unit, *columns[4:])).replace("(", ", ", 1).encode())
        shared_bytes = scope.text_bytes + text_bytes(columns)
        self.budget.count_records(len(data.data_points))
        for point in data.data_points:
            try:
                self._add_point(point, columns, series_hash.copy(), scope.columns, shared_bytes)
            except RecordRejectedError as error:
                self.problems.reject(error)

    def _add_point(
        self, point: Point, metric_columns: Row, series_hash: "blake2b", scope_columns: Row, shared_bytes: int
    ) -> None:
        """Add a point and its exemplars.

        Args:
            point: the point.
            metric_columns: columns of its metric.
            series_hash: hash of the scope and the metric. This method adds the attributes of the point to it.
            scope_columns: columns `service_name` to `scope_id`.
            shared_bytes: bytes of the texts of its metric, resource and scope.

        Raises:
            RecordRejectedError: a time is out of range, or the buckets do not match their bounds.
            TooLargeError: the request exceeds its limits.
        """
        start, time = point.start_time_unix_nano, point.time_unix_nano or self.received_ns
        if start > MAX_NS or time > MAX_NS:
            raise RecordRejectedError("time")
        attributes = sorted_attributes_text(point.attributes, self.budget)
        series_hash.update(attributes.encode())
        series_id = series_hash.hexdigest()
        exemplars = () if isinstance(point, SummaryDataPoint) else point.exemplars
        point_columns = (self.received_ns, series_id, time, metric_columns[0], scope_columns[0], scope_columns[1])
        if exemplars:
            self.budget.count_records(len(exemplars))
        rows = [self._exemplar_row(exemplar, point_columns) for exemplar in exemplars]
        invalid_ids = sum(ids.has_invalid_id(exemplar.trace_id, exemplar.span_id) for exemplar in exemplars)
        self.problems.warn("ids", count=invalid_ids)
        self.budget.count_bytes(shared_bytes + len(attributes) + BYTES_PER_LIST_ITEM * _list_items(point))
        self.points.append(
            (
                self.received_ns,
                series_id,
                *metric_columns,
                start or None,
                time,
                point.flags,
                attributes,
                *_value_columns(point),
                *scope_columns,
            )
        )
        self.exemplars.extend(rows)

    def _exemplar_row(self, exemplar: Exemplar, point_columns: Row) -> Row:
        """Return the row of an exemplar.

        Raises:
            RecordRejectedError: its time is out of range.
        """
        time = exemplar.time_unix_nano or point_columns[2]
        if time > MAX_NS:
            raise RecordRejectedError("time")
        attributes = sorted_attributes_text(exemplar.filtered_attributes, self.budget)
        self.budget.count_bytes(len(attributes) + text_bytes(point_columns))
        return (
            *point_columns,
            ids.trace_id_hex(exemplar.trace_id),
            ids.span_id_hex(exemplar.span_id),
            time,
            *_number_columns(exemplar),
            attributes,
        )


def _list_items(point: Point) -> int:
    """Return the number of items in the lists of a point."""
    match point:
        case HistogramDataPoint():
            return len(point.bucket_counts) + len(point.explicit_bounds)
        case ExponentialHistogramDataPoint():
            return len(point.positive.bucket_counts) + len(point.negative.bucket_counts)
        case SummaryDataPoint():
            return 2 * len(point.quantile_values)
        case _:
            return 0


def _number_columns(point: NumberDataPoint | Exemplar) -> tuple[float | None, int | None]:
    """Return the columns `value` and `value_int`."""
    match point.WhichOneof("value"):
        case "as_double":
            return point.as_double, None
        case "as_int":
            return float(point.as_int), point.as_int
        case _:
            return None, None


class _ValueColumns(NamedTuple):
    """The columns of the values, in the order of the table."""

    value: float | None = None
    value_int: int | None = None
    total: int | None = None  # the column `count`; a tuple has a method of that name
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


def _value_columns(point: Point) -> _ValueColumns:
    """Return the columns of the values. `sum`, `min` and `max` of histograms are optional.

    Raises:
        RecordRejectedError: the buckets do not match their bounds.
    """
    if isinstance(point, NumberDataPoint):
        return _ValueColumns(*_number_columns(point))
    if isinstance(point, SummaryDataPoint):
        return _ValueColumns(
            total=point.count,
            sum=point.sum,
            quantiles=[item.quantile for item in point.quantile_values],
            quantile_values=[item.value for item in point.quantile_values],
        )
    columns = _ValueColumns(
        total=point.count,
        sum=point.sum if point.HasField("sum") else None,
        min=point.min if point.HasField("min") else None,
        max=point.max if point.HasField("max") else None,
    )
    if isinstance(point, HistogramDataPoint):
        if point.bucket_counts and len(point.bucket_counts) != len(point.explicit_bounds) + 1:
            raise RecordRejectedError("buckets")
        bounds = list(point.explicit_bounds)
        return columns._replace(bucket_counts=list(point.bucket_counts), explicit_bounds=bounds)
    return columns._replace(
        scale=point.scale,
        zero_count=point.zero_count,
        zero_threshold=point.zero_threshold,
        positive_offset=point.positive.offset,
        positive_counts=list(point.positive.bucket_counts),
        negative_offset=point.negative.offset,
        negative_counts=list(point.negative.bucket_counts),
    )
