"""The reader behind `/metrics`."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import Metric, MetricsData

from modeltrace.telemetry.metrics.predictions import RecordMetricsReader


class PrometheusReader(RecordMetricsReader, PrometheusMetricReader):
    """Is read by `/metrics`, which has no exemplars."""

    _exemplars = False

    def _receive(self, metrics_data: MetricsData | None, *arguments: Any, **more: Any) -> None:  # noqa: ANN401  passed on
        super()._receive(_alike(metrics_data) if metrics_data else None, *arguments, **more)


def _alike(data: MetricsData) -> MetricsData:
    """Give all points of a metric the same attributes, empty where they had none, which to Prometheus is the same.

    The exporter names the labels of a metric once, by the first scope that has it: with others of another scope it
    would put values under the wrong names.
    """
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for metric in _metrics(data):
        for point in metric.data.data_points:
            keys[metric.name] |= (point.attributes or {}).keys()

    def padded(metric: Metric) -> Metric:
        none = dict.fromkeys(keys[metric.name], "")
        points = [replace(point, attributes={**none, **(point.attributes or {})}) for point in metric.data.data_points]
        return replace(metric, data=replace(metric.data, data_points=points))  # type: ignore[arg-type]  # of its own kind

    return MetricsData(
        [
            replace(
                resource,
                scope_metrics=[replace(s, metrics=list(map(padded, s.metrics))) for s in resource.scope_metrics],
            )
            for resource in data.resource_metrics
        ]
    )


def _metrics(data: MetricsData) -> list[Metric]:
    return [
        metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
    ]
