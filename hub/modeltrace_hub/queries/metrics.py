"""List the metrics and the points of one metric."""

from typing import Final

from modeltrace_hub.queries.conditions import sql_conditions
from modeltrace_hub.queries.list_parameters import MetricFilter
from modeltrace_hub.queries.reader import Reader, Record

MAX_METRICS: Final = 2000


def list_metrics(reader: Reader) -> list[Record]:
    """Return all metrics, each with its newest point."""
    return reader.fetch_all("list_metrics", limit=MAX_METRICS)


def list_points(reader: Reader, filters: MetricFilter) -> list[Record]:
    """Return the points of the metric `filters.name`, newest first."""
    conditions, values = sql_conditions(reader, filters.conditions)
    return reader.fetch_all("list_metric_points", conditions, **values, **filters.time_range, limit=filters.limit)
