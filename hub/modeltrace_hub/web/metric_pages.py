"""Serve the page of metrics: the list of all metrics, or the charts of one. The API returns their series."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from modeltrace_hub.json_responses import encode_non_finite, json_response
from modeltrace_hub.queries.filter_fields import ATTRIBUTE_PREFIX
from modeltrace_hub.queries.metric_records import SeriesFilter, name_quantiles, select_variant, series_record
from modeltrace_hub.queries.metric_series import (
    BY_INSTANCE,
    BY_SERVICE,
    MetricSeries,
    MetricView,
    describe_metric,
    read_series,
    with_cardinality,
)
from modeltrace_hub.queries.metrics import list_metrics
from modeltrace_hub.queries.reader import Queries, Reader, Record
from modeltrace_hub.query_limits import QueryLimits
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.bucket_chart import draw_buckets
from modeltrace_hub.web.filter_form import parse_filters, query_without
from modeltrace_hub.web.line_chart import LineChart, Mark, draw_lines
from modeltrace_hub.web.rendering import Renderer
from modeltrace_hub.web.time_axis import TimeAxis
from modeltrace_hub.web.ucum import format_value, rate_unit

# An attribute with more values is marked in the list: each value is a series.
MANY_VALUES: Final = 100


class MetricPages:
    """The route of the page `/metrics`."""

    def __init__(self, renderer: Renderer, queries: Queries, limits: QueryLimits) -> None:
        self._renderer = renderer
        self._queries = queries
        self._limits = limits

    def router(self) -> APIRouter:
        """Return the route. It runs in worker threads, because queries block."""
        router = APIRouter()
        router.add_api_route("/api/metrics/series", self._limits.expensive(self._series), response_class=Response)
        page = self._limits.expensive(self._metrics)
        router.add_api_route("/metrics", page, include_in_schema=False, response_class=HTMLResponse)
        return router

    def _series(self, view: Annotated[SeriesFilter, Query()]) -> Response:
        """Return a metric over time: rates of a counter, values of a gauge, buckets and quantiles of a histogram."""
        with self._queries.open_reader() as reader:
            variants = describe_metric(reader, view.name)
            if not variants:
                raise HTTPException(404, "No metric of this name is stored. See GET /api/metrics.")
            metric = select_variant(variants, view)
            series = read_series(reader, metric, view)
        return json_response(encode_non_finite(series_record(view.name, metric, series)))

    def _metrics(self, request: Request) -> Response:
        return self._renderer.respond(request, partial(self._render, request))

    def _render(self, request: Request) -> Response:
        parameters = [(key, value) for key, value in request.query_params.multi_items() if value]
        view, problem = parse_filters(MetricView, parameters)
        with self._queries.open_reader() as reader:
            if view.name is None:
                metrics = with_cardinality(list_metrics(reader), reader)
                services = {service for metric in metrics for service in metric["services"]}
                hues = fmt.assign_hues(services)
                return self._renderer.render(
                    request, "metrics.html", "/metrics", metrics=metrics, many_values=MANY_VALUES, hues=hues
                )
            variants = describe_metric(reader, view.name)
            if not variants:
                return self._renderer.error(
                    request, 404, f"No metric “{view.name[:80]}” is stored. See the list of metrics."
                )
            metric = select_variant(variants, view)
            context = _charts(reader, metric, view, self._renderer.root(request))
        return self._renderer.render(
            request,
            "metric.html",
            "/metrics",
            422 if problem else 200,
            name=view.name,
            metric=metric,
            variants=variants,
            view=view,
            problem=problem,
            parameters=dict(parameters),
            query=query_without(parameters),
            attributes=[(f"{ATTRIBUTE_PREFIX}{key}", key, value) for key, value in view.attributes],
            split_choices=_split_choices(metric),
            hues=fmt.assign_hues(metric["services"]),
            many_values=MANY_VALUES,
            **context,
        )


def _split_choices(metric: Record) -> list[tuple[str, int]]:
    """Return what series can be grouped by, with the number of values."""
    return [
        *metric["attributes"].items(),
        (BY_SERVICE, len(metric["services"])),
        (BY_INSTANCE, len(metric["instances"])),
    ]


def _charts(reader: Reader, metric: Record, view: MetricView, root: str) -> dict[str, Any]:
    """Return the charts that the type of the metric needs."""
    series = read_series(reader, metric, view)
    axis = TimeAxis(series.since_ns, series.step_ns, series.steps)

    def in_unit(value: float | None) -> str:
        return format_value(value, metric["unit"])

    def per_second(value: float | None) -> str:
        return format_value(value, rate_unit(metric["unit"] if series.kind == "rate" else ""))

    text: Callable[[float | None], str] = in_unit if series.kind == "value" else per_second
    groups = [(_group_name(group.name, view), group.values) for group in series.groups]
    lines = draw_lines(axis, groups, text)
    lines = replace(lines, resets=_draw_resets(axis, series, lines))
    if series.kind in {"rate", "value"}:
        lines = replace(lines, dots=_draw_dots(axis, series, lines, in_unit, root))
    quantiles = [*name_quantiles(series).items()]
    return {
        "series": series,
        "lines": lines,
        "buckets": draw_buckets(axis, series.buckets, series.exemplars, in_unit, root) if series.buckets else None,
        "quantiles": draw_lines(axis, quantiles, in_unit) if quantiles else None,
        "has_data": any(value is not None for group in series.groups for value in group.values),
    }


def _group_name(name: str, view: MetricView) -> str:
    return name or ("(none)" if view.by else "")


def _draw_resets(axis: TimeAxis, series: MetricSeries, lines: LineChart) -> list[Mark]:
    """Return a mark for each time at which a counter started again."""
    times = sorted({time for group in series.groups for time in group.resets})
    return [
        Mark(axis.percent(time), lines.height, f"A counter restarted before {fmt.time_of_day(time)} UTC.")
        for time in times
        if 0 <= axis.percent(time) <= 100
    ]


def _draw_dots(
    axis: TimeAxis, series: MetricSeries, lines: LineChart, text: Callable[[float | None], str], root: str
) -> list[Mark]:
    """Return the exemplars of a counter or gauge on the time axis: their values are not on the scale of the lines."""
    return [
        Mark(
            axis.percent(item["time_ns"]),
            lines.height,
            f"{text(item['value'])} at {fmt.time_of_day(item['time_ns'])} UTC: open trace {item['trace_id']}",
            f"{root}t/{item['trace_id']}" + (f"?span={item['span_id']}" if item["span_id"] else ""),
        )
        for item in series.exemplars
        if 0 <= axis.percent(item["time_ns"]) <= 100
    ]
