"""Prometheus: exemplars, and what it has scraped of the Collector."""

import time
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx

from modeltrace.doctor.backends.api import JsonApi

EXEMPLARS_PATH = "/api/v1/query_exemplars"
# The metrics of a prediction, and those made of predictions and their spans alone: the parts of the stack have
# http_server_* with exemplars of their own, too.
REQUEST_METRICS = '{__name__=~"http_server_.+|ml_.+"}'
PREDICTION_METRICS = '{__name__=~"ml_.+|traces_span_metrics_.+"}'
LINKED_METRIC = "http_server_request_duration_seconds_bucket"
# Seconds looked back, and ahead, for clocks differ.
LOOK_BACK_SECONDS = 900
LOOK_AHEAD_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Exemplar:
    """The trace that a point of a metric names; `at` is when, in seconds since 1970."""

    metric: str
    trace_id: str
    timestamp: float


class Prometheus:
    """Asks for exemplars and metrics."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.api = JsonApi("Prometheus", url, "--prometheus", client)

    async def check(self) -> None:
        """See that it is Prometheus that answers."""
        said = await self.api.get_json(EXEMPLARS_PATH, **_range("up", time.time()))
        if not isinstance(said, dict) or said.get("status") != "success":
            raise self.api.wrong_server_error()

    async def exemplars(self, query: str) -> list[Exemplar]:
        """The exemplars of a query over the last minutes."""
        said = await self.api.get_json(EXEMPLARS_PATH, **_range(query, time.time()))
        if said is None:
            raise self.api.wrong_server_error()
        return [
            Exemplar(series["seriesLabels"]["__name__"], found["labels"]["trace_id"], float(found["timestamp"]))
            for series in said["data"]
            for found in series["exemplars"]
            if "trace_id" in found["labels"]
        ]

    async def stores_exemplars(self) -> bool:
        """Whether its storage for exemplars is on; one that does not show its flags has the benefit of the doubt."""
        said = await self.api.get_json("/api/v1/status/flags")
        return said is None or "exemplar-storage" in said["data"].get("enable-feature", "exemplar-storage")

    async def collector_queue_size(self, exporter_name: str) -> int:
        """What waits in the Collector's queue for a backend: spans, records or points."""
        query = f'sum(otelcol_exporter_queue_size{{exporter=~".*{exporter_name}.*"}})'
        said = await self.api.get_json("/api/v1/query", query=query)
        return int(float(said["data"]["result"][0]["value"][1])) if said and said["data"]["result"] else 0

    async def has_web_ui(self) -> bool:
        """Whether this build has the web pages."""
        return await self.api.has_page("/query", placeholder="Error opening React index.html")

    def graph_page_url(self) -> str:
        """The page that draws the latency with its exemplars on top."""
        shown = {"g0.expr": LINKED_METRIC, "g0.tab": "graph", "g0.range_input": "15m", "g0.show_exemplars": "1"}
        return f"{self.api.url}/query?{urlencode(shown)}"

    def exemplars_json_url(self, at: float) -> str:
        """The exemplars as JSON."""
        return f"{self.api.url}{EXEMPLARS_PATH}?{urlencode(_range(REQUEST_METRICS, at))}"


def _range(query: str, at: float) -> dict[str, str | float]:
    return {"query": query, "start": int(at) - LOOK_BACK_SECONDS, "end": int(at) + LOOK_AHEAD_SECONDS}
