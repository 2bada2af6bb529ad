"""Metric readers that collect the SDK's instruments and the metrics that are counted from records."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, Self

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
from opentelemetry.semconv._incubating.attributes.process_attributes import PROCESS_PID
from opentelemetry.semconv.attributes.service_attributes import SERVICE_INSTANCE_ID
from prometheus_client import CollectorRegistry

from modeltrace.otel_settings import OtelSettings
from modeltrace.telemetry.metrics.shared_folder import RECORDS, SDK, SharedMetrics
from modeltrace.telemetry.metrics.snapshots import take_snapshot, to_metrics_data

logger = logging.getLogger("modeltrace.telemetry")

# Seconds between two snapshots of a worker: `RECORDS_INTERVAL` for metrics that are counted from records, if they have
# changed, and `ALL_INTERVAL` for all metrics. After a snapshot, the pause is at least `REST_FACTOR` times its CPU time.
RECORDS_INTERVAL: Final = 0.1
ALL_INTERVAL: Final = 1.0
REST_FACTOR: Final = 200


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

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry=registry)
        self.registry: Final = registry

    def on_records(self, _: Sequence[object]) -> None:
        """Note that records were counted."""

    def start(self) -> None:
        """Start the work in the background, once the meter provider has the reader."""

    def _receive(self, metrics_data: MetricsData | None, *arguments: Any, **more: Any) -> None:  # noqa: ANN401  passed on
        super()._receive(_with_equal_labels(metrics_data) if metrics_data else None, *arguments, **more)


class SharedPrometheusReader(PrometheusReader):
    """Reader for `/metrics` of several workers: writes snapshots of this worker, and shows the metrics of all of them.

    A scrape first writes the snapshots of the worker that answers it. Those of the others are at most as old as the
    interval of their threads, so a worker that is killed loses what it counted since.
    """

    def __init__(self, registry: CollectorRegistry, shared: SharedMetrics) -> None:
        super().__init__(registry)
        self._shared = shared
        # The SDK calls it for each scrape, and has no parameter for it.
        self._collector._callback = self._scrape  # type: ignore[assignment]  # noqa: SLF001  see above
        # Held while metrics are collected and written, so that the last snapshot that is written is the newest.
        self._lock = threading.Lock()
        self._changed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="shared-metrics")

    def start(self) -> None:
        """Start the thread that writes snapshots."""
        self._thread.start()

    def on_records(self, _: Sequence[object]) -> None:
        """Write a snapshot soon."""
        self._changed = True

    def shutdown(self, timeout_millis: float = 30_000, **more: Any) -> None:  # noqa: ANN401  passed on
        """Write the last snapshots."""
        self._stopping.set()
        with self._lock:
            self.collect()
        super().shutdown(timeout_millis, **more)

    def _scrape(self) -> None:
        with self._lock:
            self.collect()
        per_worker = (SERVICE_INSTANCE_ID, PROCESS_PID)
        attributes = {name: value for name, value in self._resource.attributes.items() if name not in per_worker}
        self._receive(to_metrics_data(self._shared.read(), Resource(attributes, self._resource.schema_url)))

    def _receive_metrics(self, metrics_data: MetricsData | None, *_: Any, **__: Any) -> None:  # noqa: ANN401  not used
        """Write the snapshots of a collection."""
        self._write_records()
        resources = metrics_data.resource_metrics if metrics_data else ()
        scopes = [(scope.scope, scope.metrics) for resource in resources for scope in resource.scope_metrics]
        self._shared.write(SDK, take_snapshot(scopes))

    def _write_records(self) -> None:
        metrics = [metric for source in self._sources for metric in source.collect(exemplars=False)]
        self._shared.write(RECORDS, take_snapshot([(self._scope, metrics)]))

    def _run(self) -> None:
        """Write the metrics of records soon after they change, and all metrics at intervals."""
        next_records = next_all = time.monotonic() + ALL_INTERVAL
        failing = False
        while not self._stopping.wait(RECORDS_INTERVAL):
            now = time.monotonic()
            try:
                if now >= next_all:
                    next_all = now + self._write(self.collect, ALL_INTERVAL)
                elif self._changed and now >= next_records:
                    next_records = now + self._write(self._write_records, RECORDS_INTERVAL)
                failing = False
            except OSError as error:
                if not failing:
                    logger.warning("/metrics lacks the newest values of this worker for now: %s", error)
                failing = True

    def _write(self, write: Callable[[], None], interval: float) -> float:
        """Write snapshots, and return the seconds until the next ones."""
        self._changed = False
        started = time.thread_time()
        with self._lock:
            write()
        return max(interval, REST_FACTOR * (time.thread_time() - started))


def build_prometheus_reader(settings: OtelSettings, folder: Path | None) -> PrometheusReader | None:
    """Return the reader of `/metrics`; `None` if the Prometheus exporter is disabled.

    Args:
        settings: select the exporters.
        folder: that of `create_shared_folder`; `None`: there is one worker.
    """
    if "prometheus" not in settings.metrics_exporter or settings.sdk_disabled:
        return None
    registry = CollectorRegistry()
    return PrometheusReader(registry) if folder is None else SharedPrometheusReader(registry, SharedMetrics(folder))


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
