"""Serve the alerts: the page `/alerts` and the API call."""

import time
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from modeltrace_hub.alerts.evaluate import evaluate_rules
from modeltrace_hub.alerts.groups import group_alerts, more_text
from modeltrace_hub.alerts.monitor import AlertMonitor
from modeltrace_hub.alerts.rules import RULES, Condition, limit_conditions
from modeltrace_hub.alerts.states import Alert
from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.query_limits import QueryLimits
from modeltrace_hub.web.rendering import Renderer


class AlertPages:
    """The routes. Without a monitor, the rules are evaluated for each request."""

    def __init__(self, renderer: Renderer, queries: Queries, limits: QueryLimits, monitor: AlertMonitor | None) -> None:
        self._renderer = renderer
        self._queries = queries
        self._limits = limits
        self._monitor = monitor

    def router(self) -> APIRouter:
        """Return the routes. They run in worker threads, because queries block."""
        router = APIRouter()
        api, page = self._api, self._page
        if self._monitor is None:
            api, page = self._limits.expensive(api), self._limits.expensive(page)
        router.add_api_route("/api/alerts", api, response_class=Response)
        router.add_api_route("/alerts", page, include_in_schema=False, response_class=HTMLResponse)
        return router

    def _api(self) -> Response:
        """Return the alerts, and the receivers of messages about them."""
        answer = self._read()
        alerts = [_describe(*item) for item in answer.pop("alerts")]
        return Response(orjson.dumps({**answer, "alerts": alerts}), media_type="application/json")

    def _page(self, request: Request) -> Response:
        answer = self._read()
        groups = group_alerts(answer.pop("alerts"), lambda item: (item[0], item[1]))
        alerts = [{**_describe(*group.worst), "more": more_text(group)} for group in groups]
        return self._renderer.render(request, "alerts.html", "/alerts", **answer, alerts=alerts)

    def _read(self) -> dict[str, Any]:
        """Return the fields of the answer; each alert is a condition, its state and its times, if they are known."""
        if self._monitor is None:
            now_ns = time.time_ns()
            conditions, left_out = limit_conditions(evaluate_rules(self._queries, now_ns))
            return {
                "monitored": False,
                "evaluated_ns": now_ns,
                "error": None,
                "alerts": [(condition, "true", None) for condition in conditions],
                "left_out": left_out,
                "receivers": [],
            }
        status = self._monitor.status
        return {
            "monitored": True,
            "evaluated_ns": status.evaluated_ns,
            "error": status.error,
            "alerts": [(alert.condition, alert.state, alert) for alert in status.alerts],
            "left_out": status.left_out,
            "receivers": [asdict(receiver) for receiver in status.receivers],
        }


def _describe(condition: Condition, state: str, alert: Alert | None) -> dict[str, Any]:
    rule = RULES[condition.rule]
    return {
        "alert": rule.name,
        "state": state,
        "severity": rule.severity,
        "team": rule.team,
        "labels": dict(condition.labels),
        "value": condition.value,
        "threshold": condition.threshold,
        "summary": condition.summary,
        "path": condition.path,
        "since_ns": alert.since_ns if alert else None,
        "fired_ns": alert.fired_ns if alert else None,
    }
