"""Render the metrics of the hub in the text format of Prometheus."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modeltrace_hub.hub_metrics.definitions import HubMetric

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_UNITS: Final = {"By": "bytes"}


class _Metrics(Collector):
    def __init__(self, metrics: Iterable[HubMetric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of one scrape."""
        for metric in self._metrics:
            name = metric.name.replace(".", "_")
            labels = [key.replace(".", "_") for key, _ in metric.values[0][0]] if metric.values else []
            family_type = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
            family = family_type(name, metric.description, labels=labels, unit=_UNITS.get(metric.unit, ""))
            for attributes, value in metric.values:
                family.add_metric([text for _, text in attributes], value)
            yield family


def render_text(metrics: Iterable[HubMetric]) -> bytes:
    """Return the text. Dots of names become underscores, and names of counters end in `_total`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(list(metrics)))
    return generate_latest(registry)
