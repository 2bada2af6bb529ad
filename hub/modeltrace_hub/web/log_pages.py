"""Serve the page of log records: filters, counts over time, facets, groups of similar records."""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from modeltrace_hub.queries.filter_fields import SEVERITIES
from modeltrace_hub.queries.list_fields import LOG_FIELDS
from modeltrace_hub.queries.list_parameters import LogFilter
from modeltrace_hub.queries.logs import NO_SEVERITY, LogCounts, count_logs, group_logs, list_logs
from modeltrace_hub.queries.reader import Queries, Record
from modeltrace_hub.query_limits import QueryLimits
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.filter_form import (
    attribute_name,
    move_to_line,
    parse_filters,
    query_with_condition,
    query_without,
)
from modeltrace_hub.web.rendering import Renderer

CHART_HEIGHT: Final = 44.0
MIN_BAR_HEIGHT: Final = 1.5
MAX_FACET_VALUES: Final = 8
# The severities from the bottom to the top of a bar, with their CSS classes.
_LAYERS: Final = (
    ("error", ("ERROR", "FATAL")),
    ("warn", ("WARN",)),
    ("info", (NO_SEVERITY, "TRACE", "DEBUG", "INFO")),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """The records of one step of time. Positions and heights are in percent of the chart's width and in pixels."""

    x: float
    width: float
    title: str
    since: str
    until: str
    layers: list[tuple[str, float, float]]  # CSS class, top, height


class LogPages:
    """The route of the page `/logs`."""

    def __init__(self, renderer: Renderer, queries: Queries, limits: QueryLimits) -> None:
        self._renderer = renderer
        self._queries = queries
        self._limits = limits

    def router(self) -> APIRouter:
        """Return the route. It runs in worker threads, because queries block."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/logs", self._limits.expensive(self._logs))
        return router

    def _logs(self, request: Request) -> Response:
        parameters = [(key, value) for key, value in request.query_params.multi_items() if value]
        if (moved := move_to_line(LogFilter, LOG_FIELDS, parameters)) is not None:
            return RedirectResponse(f"logs?{urlencode(moved)}", status_code=303)
        return self._renderer.respond(request, partial(self._render, request, parameters))

    def _render(self, request: Request, parameters: list[tuple[str, str]]) -> Response:
        view = dict(parameters).get("view", "list")
        filters, problem = parse_filters(LogFilter, [pair for pair in parameters if pair[0] != "view"])
        with self._queries.open_reader() as reader:
            counts = count_logs(reader, filters)
            groups = group_logs(reader, filters) if view == "groups" else []
            logs, cursor = ([], None) if view == "groups" else list_logs(reader, filters)
        lasting = [pair for pair in parameters if pair[0] not in {"cursor", "around"}]
        return self._renderer.render(
            request,
            "logs.html",
            "/logs",
            422 if problem else 200,
            filters=filters,
            parameters=dict(parameters),
            field_set=LOG_FIELDS,
            attribute_name=partial(attribute_name, LOG_FIELDS),
            query=query_without(lasting),
            query_with=query_with_condition(lasting),
            problem=problem,
            view=view,
            counts=counts,
            bars=draw_counts(counts) if counts else [],
            facets=_facets(counts, filters) if counts else {},
            groups=[{**group, "conditions": _group_conditions(group)} for group in groups],
            logs=_with_keys(logs),
            cursor=cursor,
            hues=fmt.assign_hues(
                [*(counts.facets["service"] if counts else ()), *(log["service_name"] for log in logs)]
            ),
        )


def draw_counts(counts: LogCounts) -> list[Bar]:
    """Draw one bar per step of time that has records, with its severities on top of each other."""
    highest = max((sum(step.values()) for step in counts.steps), default=0)
    width = 100 / max(len(counts.steps), 1)
    bars = []
    for number, step in enumerate(counts.steps):
        total = sum(step.values())
        if not total:
            continue
        layers = []
        top = CHART_HEIGHT
        for layer, names in _LAYERS:
            count = sum(step.get(name, 0) for name in names)
            if count:
                height = max(CHART_HEIGHT * count / highest, MIN_BAR_HEIGHT)
                top = max(top - height, 0.0)
                layers.append((layer, round(top, 2), round(height, 2)))
        since_ns = counts.since_ns + number * counts.step_ns
        until_ns = min(since_ns + counts.step_ns, counts.until_ns)
        texts = ", ".join(f"{step[name]:,} {name}" for name in (*SEVERITIES, NO_SEVERITY) if step.get(name))
        bars.append(
            Bar(
                x=round(number * width, 3),
                width=round(width, 3),
                title=f"{fmt.time_of_day(since_ns + 1)} to {fmt.time_of_day(until_ns)}: {texts}",
                since=fmt.unix_seconds(since_ns + 1),
                until=fmt.unix_seconds(until_ns),
                layers=layers,
            )
        )
    return bars


def _facets(counts: LogCounts, filters: LogFilter) -> dict[str, list[tuple[str, int]]]:
    """Return the most frequent values of each property that the filters do not fix, if there are several."""
    fixed = {condition.name for condition in filters.conditions if condition.operator == "="}
    return {
        name: list(values.items())[:MAX_FACET_VALUES]
        for name, values in counts.facets.items()
        if name not in fixed and len(values) > 1
    }


def _group_conditions(group: Record) -> list[tuple[str, str]]:
    """Return the fields that the records of a group share, with their values."""
    conditions = [("service", group["service_name"]), ("event", group["event_name"])]
    return [pair for pair in conditions if pair[1]] + [("severity_number", str(group["severity_number"]))]


def _with_keys(logs: list[Record]) -> list[Record]:
    """Add `key`, which identifies a record on the page."""
    seen: Counter[str] = Counter()
    result: list[Record] = []
    for log in logs:
        key = f"{log['effective_ns']}-{log['span_id'] or ''}"
        seen[key] += 1
        result.append({**log, "key": f"{key}-{seen[key]}"})
    return result
