"""Links from a trace to the same trace in other backends. Settings contain their addresses."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

import orjson

from modeltrace_hub.settings import HubSettings

# The time around the trace that Grafana and Prometheus show.
MARGIN_NS: Final = 5 * 60 * 10**9
_PROMETHEUS_QUERY: Final = (
    "histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket{selector}[1m])))"
)


@dataclass(frozen=True, slots=True)
class ExternalLink:
    """A link to another backend."""

    title: str
    url: str


def build_links(
    settings: HubSettings, trace_id: str, start_ns: int, end_ns: int, service: str | None
) -> list[ExternalLink]:
    """Return the links of a trace, in the order Jaeger, Grafana, Prometheus.

    Args:
        settings: the settings; a backend without an address has no link.
        trace_id: the trace.
        start_ns: its start, in unix nanoseconds.
        end_ns: its end, in unix nanoseconds.
        service: the service of the first span, whose durations Prometheus shows.
    """
    links = []
    first_ns, last_ns = max(start_ns - MARGIN_NS, 0), end_ns + MARGIN_NS
    if settings.jaeger_url:
        links.append(ExternalLink("Jaeger", f"{settings.jaeger_url}/trace/{trace_id}"))
    if settings.grafana_url:
        pane = {
            "datasource": settings.grafana_logs,
            "queries": [
                {
                    "refId": "A",
                    "datasource": {"type": "loki", "uid": settings.grafana_logs},
                    "expr": f'{{service_name=~".+"}} | trace_id="{trace_id}"',
                }
            ],
            "range": {"from": str(first_ns // 10**6), "to": str(last_ns // 10**6)},
        }
        query = urlencode({"schemaVersion": 1, "panes": orjson.dumps({"trace": pane}).decode()}, quote_via=quote)
        links.append(ExternalLink("Logs in Grafana", f"{settings.grafana_url}/explore?{query}"))
    if settings.prometheus_url:
        # Prometheus derives the label `job` from the namespace, if there is one, and the name of a service.
        job = orjson.dumps(f"(.*/)?{re.escape(service)}").decode() if service else None
        query = urlencode(
            {
                "g0.expr": _PROMETHEUS_QUERY.replace("{selector}", f"{{job=~{job}}}" if job else ""),
                "g0.tab": "graph",
                "g0.show_exemplars": 1,
                "g0.range_input": f"{(last_ns - first_ns) // 10**9}s",
                "g0.end_input": f"{last_ns / 10**9:.3f}",
            },
            quote_via=quote,
        )
        links.append(ExternalLink("Durations in Prometheus", f"{settings.prometheus_url}/query?{query}"))
    return links
