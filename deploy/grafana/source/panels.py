"""The panels of the dashboards: every axis has a unit, and colours mark only what needs action."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import common, logs, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LogsSortOrder,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)

from deploy.grafana.source.queries import PROMETHEUS, Target, data_source

# The thresholds of the alerts.
SLOW_SECONDS, TOO_SLOW_SECONDS = 0.3, 0.5
MAX_SLOW_SHARE = 0.05
MAX_ERRORS = 5

HEIGHT = 7
REF_IDS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

P = TypeVar("P", timeseries.Panel, stat.Panel, table.Panel, logs.Panel)
Limits = Sequence[float]
Panels = Sequence[Any]  # panel builders, which have no common base type


def configure_panel(panel: P, width: int, title: str, description: str, targets: Sequence[Target]) -> P:
    """Set title, description, queries and width (of 24 columns) of a panel."""
    queries: list[Builder[Dataquery]] = [target.ref_id(name) for target, name in zip(targets, REF_IDS, strict=False)]
    panel.title(title).description(description).targets(queries).datasource(data_source(targets[0]))
    return panel.span(width).height(HEIGHT)


def time_series_panel(
    width: int,
    title: str,
    description: str,
    unit: str,
    *targets: Target,
    limits: Limits = (),
    links: Sequence[Builder[models.DashboardLink]] = (),
    max_value: float | None = None,
    stacked: bool = False,
) -> timeseries.Panel:
    """Build a panel of lines over time.

    `limits` are the warning and critical thresholds, drawn as dashed lines. `links` are in the menu of a data point.
    `max_value` is the upper end of the axis. `stacked` stacks the lines.
    """
    panel = configure_panel(timeseries.Panel(), width, title, description, targets)
    panel = (
        panel.unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(0)
        .show_points(VisibilityMode.NEVER)
        .span_nulls(180_000)  # milliseconds: longer gaps interrupt the line
        .legend(common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .thresholds(thresholds(limits))
        .data_links([*links])
    )
    if limits:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    if max_value is not None:
        panel.max(max_value)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(20)
    return panel


def stat_panel(width: int, title: str, description: str, unit: str, target: Target, limits: Limits = ()) -> stat.Panel:
    """Build a panel with one number, coloured from its first limit on."""
    panel = configure_panel(stat.Panel(), width, title, description, [target])
    return (
        panel.unit(unit)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(thresholds(limits))
        .height(4)
    )


def table_panel(
    width: int, title: str, description: str, group_labels: Mapping[str, str], columns: Mapping[str, tuple[str, Target]]
) -> table.Panel:
    """Build a table with a row for each combination of `group_labels`, and a column with a unit for each query."""
    panel = configure_panel(table.Panel(), width, title, description, [query for _, query in columns.values()])
    positions = {label: position for position, label in enumerate(group_labels)}
    values = {f"Value #{name}": heading for name, heading in zip(REF_IDS, columns, strict=False)}
    values = {"Value": next(iter(columns))} if len(columns) == 1 else values
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={})).with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": positions,
                "renameByName": {**group_labels, **values},
            },
        )
    )
    panel.show_header(True)
    for heading, (unit, _) in columns.items():
        panel.override_by_name(heading, [models.DynamicConfigValue(id_val="unit", value=unit)])
    return panel


def traces_panel(width: int, title: str, description: str, search: Target, empty_text: str) -> table.Panel:
    """Build a table of the traces that Jaeger finds, longest first. Each ID links to its trace."""
    panel = configure_panel(table.Panel(), width, title, description, [search])
    return (
        panel.no_value(empty_text)
        .sort_by([common.TableSortByFieldState().display_name("Duration").desc(True)])
        .override_by_name("Trace name", [models.DynamicConfigValue(id_val="custom.minWidth", value=220)])
    )


def logs_panel(width: int, title: str, description: str, query: Target) -> logs.Panel:
    """Build a panel of log records, newest first. Each record links to its trace."""
    panel = configure_panel(logs.Panel(), width, title, description, [query])
    newest_first = panel.sort_order(LogsSortOrder.DESCENDING).show_time(True)
    return newest_first.enable_log_details(True).wrap_log_message(True)


def thresholds(limits: Limits) -> builders.ThresholdsConfig:
    """Return thresholds: orange from the first limit on, red from the second one on. A single limit is red."""
    colours = ("red",) if len(limits) == 1 else ("orange", "red")
    steps = [models.Threshold(color="text")]
    steps += [models.Threshold(value=v, color=c) for v, c in zip(limits, colours, strict=bool(limits))]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def query_variable(name: str, label: str, query: str, *, multiple: bool, regex: str = "") -> builders.QueryVariable:
    """Build a variable of the dashboard. With `multiple`, several values or all of them can be selected."""
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query(query)
        .regex(regex)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if not multiple:
        return variable
    all_option = models.VariableOption(selected=True, text="All", value="$__all")
    return variable.multi(True).include_all(True).all_value(".*").current(all_option)


def build_dashboard(uid: str, title: str, description: str, rows: Mapping[str, Panels]) -> builders.Dashboard:
    """Build a dashboard of rows of panels, by heading. The first row may have an empty heading."""
    dashboard = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["modeltrace"])
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
    )
    last_id = 0
    for heading, panels in rows.items():
        if heading:
            last_id += 1
            dashboard.with_row(builders.Row(heading).id(last_id))
        for panel in panels:
            last_id += 1
            dashboard.with_panel(panel.id(last_id))
    return dashboard
