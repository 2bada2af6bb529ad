"""Links to Grafana Explore. The URL holds the whole state of the page.

The data sources have the UIDs from deploy/grafana.
"""

import json
from collections.abc import Mapping
from urllib.parse import urlencode

JAEGER = "jaeger"
LOKI = "loki"
PROMETHEUS = "prometheus"
# Seconds shown before and after the given time.
TIME_MARGIN = 900


def explore_trace(grafana: str, trace_id: str, timestamp: float) -> str:
    """Return the URL of a trace."""
    return _explore(grafana, "jaeger", JAEGER, {"query": trace_id}, timestamp)


def explore_logs(grafana: str, logql: str, timestamp: float) -> str:
    """Return the URL of the log records that match a LogQL query."""
    return _explore(grafana, "loki", LOKI, {"expr": logql, "queryType": "range", "editorMode": "code"}, timestamp)


def explore_metric(grafana: str, promql: str, timestamp: float) -> str:
    """Return the URL of the result of a PromQL query, with exemplars."""
    return _explore(grafana, "prometheus", PROMETHEUS, {"expr": promql, "range": True, "exemplar": True}, timestamp)


def _explore(grafana: str, kind: str, uid: str, query: Mapping[str, object], timestamp: float) -> str:
    """Build a URL of schema version 1: panes by an ID of three letters, times as text in milliseconds."""
    pane = {
        "datasource": uid,
        "queries": [{"refId": "A", "datasource": {"type": kind, "uid": uid}, **query}],
        "range": {"from": f"{int(timestamp - TIME_MARGIN)}000", "to": f"{int(timestamp + TIME_MARGIN)}000"},
    }
    state = {"schemaVersion": 1, "panes": json.dumps({"one": pane}, separators=(",", ":")), "orgId": 1}
    return f"{grafana}/explore?{urlencode(state)}"
