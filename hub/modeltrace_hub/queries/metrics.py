"""List the metrics and the points of one metric."""

from typing import Final

from modeltrace_hub.queries.conditions import record_conditions
from modeltrace_hub.queries.filters import MetricFilter
from modeltrace_hub.queries.reader import Reader, Record

MAX_METRICS: Final = 2000

_CONDITIONS: Final = {"service": "service_name = $service", "name": "name = $name"}


def list_metrics(reader: Reader) -> list[Record]:
    """Return all metrics, each with its newest point."""
    return reader.fetch_all("list_metrics", limit=MAX_METRICS)


def list_points(reader: Reader, filters: MetricFilter) -> list[Record]:
    """Return the points of the metric `filters.name`, newest first."""
    conditions, values = record_conditions(reader, filters, _CONDITIONS)
    return reader.fetch_all("list_metric_points", conditions, **values, **filters.time_range, limit=filters.limit)
