"""Links from a dashboard to the traces and log records of the displayed time range."""

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
LOG_STREAM = f'{{service_name="{SERVICE}"}}'


def explore_url(source: DataSourceRef, query: Mapping[str, object]) -> str:
    """Return the URL of Grafana Explore with a query over the same time range. Grafana expands the variables."""
    pane = {
        "datasource": source.uid,
        "queries": [{"refId": "A", "datasource": source.to_json(), **query}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = quote(json.dumps({"one": pane}, separators=(",", ":")), safe="${}_")
    return f"/explore?schemaVersion=1&orgId=1&panes={panes}"


def trace_search_url(**parameters: str) -> str:
    """Return the URL of a search for traces of the service."""
    return explore_url(JAEGER, {"queryType": "search", "service": SERVICE, "limit": 50, **parameters})


def external_link(title: str, url: str) -> DashboardLink:
    """Build a link for the menu of a data point, or for the top of the dashboard."""
    return DashboardLink(title).type(DashboardLinkType.LINK).url(url).icon("external link")


def log_link(title: str, pipeline: str = "") -> DashboardLink:
    """Build a link to the log records of the service that match a LogQL pipeline."""
    return external_link(title, explore_url(LOKI, {"expr": LOG_STREAM + pipeline, "queryType": "range"}))


def slow_request_links() -> list[Link]:
    """Return the links of a data point in a latency panel."""
    return [external_link("Traces above 300 ms", trace_search_url(minDuration="300ms")), log_link("Log records")]


def failed_request_links() -> list[Link]:
    """Return the links of a data point in an error panel."""
    return [
        external_link("Failed traces", trace_search_url(tags="error=true")),
        log_link("Warnings and errors", " | severity_number >= 13"),
    ]


def violation_links() -> list[Link]:
    """Return the links of a data point in a data quality panel."""
    return [log_link("Log records of violations", ' | scope_name="modeltrace.data"')]


def dashboard_links(*dashboards: str) -> list[Link]:
    """Return the links at the top of a dashboard: all traces, all log records and the other dashboards."""
    links: list[Link] = [external_link("Traces", trace_search_url()), log_link("Log records")]
    for uid, title in zip(dashboards[::2], dashboards[1::2], strict=True):
        links.append(external_link(title, f"/d/{uid}").keep_time(True).include_vars(True).icon("dashboard"))
    return links
