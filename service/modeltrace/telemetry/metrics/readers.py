"""Metric readers that collect the SDK's instruments and the metrics that are counted from records."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope


class MetricSource(Protocol):
    """Metrics that are counted from records."""

    def collect(self, *, exemplars: bool = True) -> list[Metric]:
        """Return the SDK's metrics. Each exemplar is returned once, to a reader that asks for exemplars."""


class RecordMetricsReader(MetricReader):
    """Mixin for a reader of the SDK: it also collects the metrics that are counted from records."""

    _sources: Sequence[MetricSource] = ()
    _exemplars = True

    def with_sources(self, sources: Sequence[MetricSource], resource: Resource, scope: InstrumentationScope) -> Self:
        """Also collect these sources. The constructors of the SDK's readers have no parameter for them."""
        self._sources, self._resource, self._scope = sources, resource, scope
        return self

    def _receive_metrics(self, metrics_data: MetricsData | None, *arguments: Any, **more: Any) -> None:  # noqa: ANN401  passed on
        metrics = [metric for source in self._sources for metric in source.collect(exemplars=self._exemplars)]
        if metrics:
            metrics_data = _merge(metrics_data, metrics, self._resource, self._scope)
        self._receive(metrics_data, *arguments, **more)

    def _receive(self, metrics_data: MetricsData | None, *arguments: Any, **more: Any) -> None:  # noqa: ANN401  passed on
        super()._receive_metrics(metrics_data, *arguments, **more)  # type: ignore[safe-super, arg-type]  # the SDK's readers take none, too


class PeriodicRecordMetricsReader(RecordMetricsReader, PeriodicExportingMetricReader):
    """Exports at an interval."""


class PrometheusReader(RecordMetricsReader, PrometheusMetricReader):
    """Reader for `/metrics`, which shows no exemplars."""

    _exemplars = False

    def _receive(self, metrics_data: MetricsData | None, *arguments: Any, **more: Any) -> None:  # noqa: ANN401  passed on
        super()._receive(_with_equal_labels(metrics_data) if metrics_data else None, *arguments, **more)


def _with_equal_labels(data: MetricsData) -> MetricsData:
    """Give all points of a metric the same attributes. Missing attributes become empty, which Prometheus treats alike.

    The exporter takes the label names of a metric from the first scope that has it. If another scope has other
    attributes, it writes values under the wrong names.
    """
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for metric in _metrics(data):
        for point in metric.data.data_points:
            keys[metric.name] |= (point.attributes or {}).keys()

    def pad(metric: Metric) -> Metric:
        empty = dict.fromkeys(keys[metric.name], "")
        points = [replace(point, attributes={**empty, **(point.attributes or {})}) for point in metric.data.data_points]
        return replace(metric, data=replace(metric.data, data_points=points))  # type: ignore[arg-type]  # of its own kind

    resources = [
        replace(resource, scope_metrics=[replace(s, metrics=list(map(pad, s.metrics))) for s in resource.scope_metrics])
        for resource in data.resource_metrics
    ]
    return MetricsData(resources)


def _merge(
    data: MetricsData | None, metrics: list[Metric], resource: Resource, scope: InstrumentationScope
) -> MetricsData:
    """Add metrics to their scope. The SDK's encoder expects each resource and each scope once."""
    scopes = [*data.resource_metrics[0].scope_metrics] if data and data.resource_metrics else []
    others = [existing for existing in scopes if existing.scope != scope]
    same = [metric for existing in scopes if existing.scope == scope for metric in existing.metrics]
    merged = ScopeMetrics(scope, [*same, *metrics], scope.schema_url or "")
    return MetricsData([ResourceMetrics(resource, [*others, merged], resource.schema_url)])


def _metrics(data: MetricsData) -> Iterator[Metric]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics
