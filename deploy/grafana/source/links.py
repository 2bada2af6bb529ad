"""From a dashboard to the traces and log records of the time that it shows."""

import json
from collections.abc import Mapping
from urllib.parse import quote

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef

from deploy.grafana.source.queries import JAEGER, LOKI

Link = Builder[models.DashboardLink]

SERVICE = "${service}"
RECORDS = f'{{service_name="{SERVICE}"}}'


def explore(source: DataSourceRef, query: Mapping[str, object]) -> str:
    """The address of Grafana's Explore with a query in it, over the same time. Variables are left for Grafana."""
    pane = {
        "datasource": source.uid,
        "queries": [{"refId": "A", "datasource": source.to_json(), **query}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = quote(json.dumps({"one": pane}, separators=(",", ":")), safe="${}_")
    return f"/explore?schemaVersion=1&orgId=1&panes={panes}"


def search(**asked: str) -> str:
    """The address of a search for the service's traces."""
    return explore(JAEGER, {"queryType": "search", "service": SERVICE, "limit": 50, **asked})


def link(title: str, url: str) -> DashboardLink:
    """A link in the menu of a point, or above the panels."""
    return DashboardLink(title).type(DashboardLinkType.LINK).url(url).icon("external link")


def of_slow_requests() -> list[Link]:
    """Where a point of a latency panel leads to."""
    return [link("Traces above 300 ms", search(minDuration="300ms")), link("Log records", explore(LOKI, records("")))]


def of_failed_requests() -> list[Link]:
    """Where a point of an error panel leads to."""
    return [
        link("Failed traces", search(tags="error=true")),
        link("Warnings and errors", explore(LOKI, records(" | severity_number >= 13"))),
    ]


def of_violations() -> list[Link]:
    """Where a point of a panel about data quality leads to."""
    return [link("Log records of violations", explore(LOKI, records(' | scope_name="modeltrace.data"')))]


def records(pipeline: str) -> dict[str, object]:
    """A query for log records of the service."""
    return {"expr": RECORDS + pipeline, "queryType": "range"}


def above(*others: str) -> list[Link]:
    """The links above all panels: everything in Jaeger and in Loki, and the other dashboards."""
    found: list[Link] = [link("Traces", search()), link("Log records", explore(LOKI, records("")))]
    for uid, title in zip(others[::2], others[1::2], strict=True):
        found.append(link(title, f"/d/{uid}").keep_time(True).include_vars(True).icon("dashboard"))
    return found
