"""Metric points: gauges as OTLP, and metrics in the store of a hub."""

from collections.abc import Iterable

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)

from modeltrace_hub.store import Store
from tests.helpers.decoding import decode
from tests.helpers.otlp_messages import resource
from tests.helpers.otlp_values import Value, key_values

SECOND = 10**9
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
# A window of ten minutes, long after the epoch.
SINCE = 1_000_000 * SECOND
UNTIL = SINCE + 600 * SECOND

Attributes = tuple[tuple[str, Value], ...]


def store_metrics(store: Store, instance: str, *metrics: Metric) -> None:
    """Store the points of metrics, as an instance of a service exported them."""
    scope = ScopeMetrics(metrics=metrics)
    request = ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(resource=resource("service", instance), scope_metrics=[scope])]
    )
    rows = decode(request, UNTIL).tables["metric_points"]
    with store.write() as connection:
        if rows:
            placeholders = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO metric_points VALUES ({placeholders})", rows)  # noqa: S608  question marks


def gauge(name: str, unit: str, values: Iterable[tuple[Attributes, float]], time_ns: int) -> Metric:
    """Return a gauge with a point for each set of attributes."""
    points = [
        NumberDataPoint(time_unix_nano=time_ns, as_double=value, attributes=key_values(dict(attributes)))
        for attributes, value in values
    ]
    return Metric(name=name, unit=unit, gauge=Gauge(data_points=points))
