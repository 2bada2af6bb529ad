"""Links into Grafana's Explore, whose whole state is in the address.

The data sources have the UIDs that deploy/grafana gives them.
"""

import json
from collections.abc import Mapping
from urllib.parse import urlencode

JAEGER = "jaeger"
LOKI = "loki"
PROMETHEUS = "prometheus"
# Seconds shown before and after.
TIME_MARGIN = 900


def explore_trace(grafana: str, trace_id: str, at: float) -> str:
    """A trace."""
    return _explore(grafana, "jaeger", JAEGER, {"query": trace_id}, at)


def explore_logs(grafana: str, logql: str, at: float) -> str:
    """The records that a LogQL query finds."""
    return _explore(grafana, "loki", LOKI, {"expr": logql, "queryType": "range", "editorMode": "code"}, at)


def explore_metric(grafana: str, promql: str, at: float) -> str:
    """What a PromQL query finds, with exemplars on top."""
    return _explore(grafana, "prometheus", PROMETHEUS, {"expr": promql, "range": True, "exemplar": True}, at)


def _explore(grafana: str, kind: str, uid: str, query: Mapping[str, object], at: float) -> str:
    """Version 1 of the address: panes by an ID of three letters, times as text in milliseconds."""
    pane = {
        "datasource": uid,
        "queries": [{"refId": "A", "datasource": {"type": kind, "uid": uid}, **query}],
        "range": {"from": f"{int(at - TIME_MARGIN)}000", "to": f"{int(at + TIME_MARGIN)}000"},
    }
    state = {"schemaVersion": 1, "panes": json.dumps({"one": pane}, separators=(",", ":")), "orgId": 1}
    return f"{grafana}/explore?{urlencode(state)}"
