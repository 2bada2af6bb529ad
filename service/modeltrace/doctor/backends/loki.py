"""Loki, over LogQL."""

import time
from urllib.parse import urlencode

import httpx

from modeltrace.doctor.backends.api import JsonApi
from modeltrace.doctor.backends.backend import Link, LogRecordRef
from modeltrace.doctor.backends.grafana import explore_logs

QUERY_PATH = "/loki/api/v1/query_range"
# Seconds looked back: a prediction that is followed is not older, and Loki reads less.
LOOK_BACK_SECONDS = 900
MAX_RECORDS = 1000


class Loki:
    """Asks for log records."""

    title = "Loki"
    exporter_name = "loki"  # in the name of the Collector's exporter

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.api = JsonApi("Loki", url, "--loki", client)

    async def check(self) -> None:
        """See that it is Loki that answers."""
        said = await self.api.get_json("/loki/api/v1/labels")
        if not isinstance(said, dict) or said.get("status") != "success":
            raise self.api.wrong_server_error()

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """The log records of a trace: Loki keeps logger, event and trace ID beside a record, not in its line."""
        said = await self.api.get_json(QUERY_PATH, **_range(trace_id, time.time()))
        if said is None:
            raise self.api.wrong_server_error()
        return [
            LogRecordRef(stream["stream"].get("scope_name", ""), stream["stream"].get("event_name", ""))
            for stream in said["data"]["result"]
            for _ in stream["values"]
        ]

    def link(self, trace_id: str, at: float, grafana: str | None) -> Link:
        """Grafana's page of the records, or else the records as JSON and the query to paste elsewhere."""
        logql = trace_query(trace_id)
        if grafana:
            return Link("logs", explore_logs(grafana, logql, at))
        return Link("logs", f"{self.api.url}{QUERY_PATH}?{urlencode(_range(trace_id, at))}", logql)


def trace_query(trace_id: str) -> str:
    """The LogQL query for a trace: whoever wrote to it."""
    return f'{{service_name=~".+"}} | trace_id="{trace_id}"'


def _range(trace_id: str, at: float) -> dict[str, str | float]:
    return {
        "query": trace_query(trace_id),
        "start": int(at) - LOOK_BACK_SECONDS,
        "end": int(at) + LOOK_BACK_SECONDS,
        "limit": MAX_RECORDS,
    }
