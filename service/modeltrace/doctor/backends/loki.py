"""Client of Loki's query API."""

import time
from urllib.parse import urlencode

import httpx

from modeltrace.doctor.backends.api import JsonApi
from modeltrace.doctor.backends.backend import Link, LogRecordRef
from modeltrace.doctor.backends.grafana import explore_logs

QUERY_PATH = "/loki/api/v1/query_range"
# The prediction was sent within this time. A short range keeps the query cheap.
LOOK_BACK_SECONDS = 900
MAX_RECORDS = 1000


class Loki:
    """A Loki server."""

    title = "Loki"
    exporter_name = "loki"

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.api = JsonApi("Loki", url, "--loki", client)

    async def check(self) -> None:
        """Check that Loki answers."""
        await self.api.get_data("/loki/api/v1/labels")

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """Return the log records of a trace. Logger and event name are labels or structured metadata in Loki."""
        data = await self.api.get_data(QUERY_PATH, **_query_parameters(trace_id, time.time()))
        return [
            LogRecordRef(stream["stream"].get("scope_name", ""), stream["stream"].get("event_name", ""))
            for stream in data["result"]
            for _ in stream["values"]
        ]

    def link(self, trace_id: str, timestamp: float, grafana: str | None) -> Link:
        """Return Grafana's page of the records; without Grafana, the records as JSON and the query."""
        logql = trace_query(trace_id)
        if grafana:
            return Link("logs", explore_logs(grafana, logql, timestamp))
        return Link("logs", f"{self.api.url}{QUERY_PATH}?{urlencode(_query_parameters(trace_id, timestamp))}", logql)


def trace_query(trace_id: str) -> str:
    """Return the LogQL query for the records of a trace from any service."""
    return f'{{service_name=~".+"}} | trace_id="{trace_id}"'


def _query_parameters(trace_id: str, timestamp: float) -> dict[str, str | float]:
    return {
        "query": trace_query(trace_id),
        "start": int(timestamp) - LOOK_BACK_SECONDS,
        "end": int(timestamp) + LOOK_BACK_SECONDS,
        "limit": MAX_RECORDS,
    }
