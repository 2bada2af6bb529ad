"""Client of Prometheus: exemplars, and the Collector's own metrics."""

import time
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx

from modeltrace.doctor.backends.api import JsonApi

EXEMPLARS_PATH = "/api/v1/query_exemplars"
# Metrics that have an exemplar of a prediction request.
REQUEST_METRICS = '{__name__=~"http_server_.+|ml_.+"}'
# Metrics that have exemplars of predictions only. http_server_* is missing: components of the stack emit it, too.
PREDICTION_METRICS = '{__name__=~"ml_.+|traces_span_metrics_.+"}'
LINKED_METRIC = "http_server_request_duration_seconds_bucket"
# Seconds before now, and after now because clocks differ.
LOOK_BACK_SECONDS = 900
LOOK_AHEAD_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An exemplar: metric, trace ID and time in seconds since the epoch."""

    metric: str
    trace_id: str
    timestamp: float


class Prometheus:
    """A Prometheus server."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.api = JsonApi("Prometheus", url, "--prometheus", client)

    async def check(self) -> None:
        """Check that Prometheus answers."""
        await self.api.get_data(EXEMPLARS_PATH, **_query_parameters("up", time.time()))

    async def exemplars(self, query: str) -> list[Exemplar]:
        """Return the recent exemplars of a query."""
        data = await self.api.get_data(EXEMPLARS_PATH, **_query_parameters(query, time.time()))
        return [
            Exemplar(series["seriesLabels"]["__name__"], exemplar["labels"]["trace_id"], float(exemplar["timestamp"]))
            for series in data
            for exemplar in series["exemplars"]
            if "trace_id" in exemplar["labels"]
        ]

    async def stores_exemplars(self) -> bool:
        """Return whether exemplar storage is on; true if the server does not publish its flags."""
        answer = await self.api.get_json("/api/v1/status/flags")
        return answer is None or "exemplar-storage" in answer["data"].get("enable-feature", "exemplar-storage")

    async def collector_queue_size(self, exporter_name: str) -> int:
        """Return the number of spans, records or points in the queue of a Collector exporter."""
        query = f'sum(otelcol_exporter_queue_size{{exporter=~".*{exporter_name}.*"}})'
        answer = await self.api.get_json("/api/v1/query", query=query)
        return int(float(answer["data"]["result"][0]["value"][1])) if answer and answer["data"]["result"] else 0

    async def has_web_ui(self) -> bool:
        """Return whether this build has web pages."""
        return await self.api.has_page("/query", placeholder="Error opening React index.html")

    def graph_page_url(self) -> str:
        """Return the URL of the latency graph with exemplars."""
        parameters = {"g0.expr": LINKED_METRIC, "g0.tab": "graph", "g0.range_input": "15m", "g0.show_exemplars": "1"}
        return f"{self.api.url}/query?{urlencode(parameters)}"

    def exemplars_json_url(self, timestamp: float) -> str:
        """Return the URL of the exemplars as JSON."""
        return f"{self.api.url}{EXEMPLARS_PATH}?{urlencode(_query_parameters(REQUEST_METRICS, timestamp))}"


def _query_parameters(query: str, timestamp: float) -> dict[str, str | float]:
    return {
        "query": query,
        "start": int(timestamp) - LOOK_BACK_SECONDS,
        "end": int(timestamp) + LOOK_AHEAD_SECONDS,
    }
