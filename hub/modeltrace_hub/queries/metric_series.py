"""Series of one metric over time, by its type: rates of counters, values of gauges, buckets of histograms."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Literal

from pydantic import Field

from modeltrace_hub.queries.conditions import sql_conditions
from modeltrace_hub.queries.heatmap import time_step
from modeltrace_hub.queries.histograms import Buckets, common_scale, read_buckets
from modeltrace_hub.queries.list_parameters import LimitedText, MetricFilter
from modeltrace_hub.queries.reader import Reader, Record, json_pointer

# Without a time range, the series cover the hour up to the newest point.
COVERED_NS: Final = 3600 * 10**9
MAX_POINTS: Final = 20_000
MAX_GROUPS: Final = 8
MAX_EXEMPLARS: Final = 200
MAX_METRICS: Final = 2000
BY_INSTANCE: Final = "service.instance.id"
BY_SERVICE: Final = "service.name"
OTHERS: Final = "others"

Kind = Literal["rate", "value", "histogram", "summary"]


class MetricView(MetricFilter):
    """Select a metric, its time range, and the attribute by which its series are grouped."""

    by: LimitedText = Field(
        None, description=f"Group series by this attribute, by `{BY_SERVICE}` or by `{BY_INSTANCE}`."
    )
    type: LimitedText = Field(None, description="The type, if the name has several.")
    unit: LimitedText = Field(None, description="The unit, if the name has several.")


@dataclass(slots=True)
class Group:
    """The series that have one value of the grouping attribute, combined into one: the sum, or the mean of gauges.

    `values` has one value per step: the rate per second of a counter, or the last value; None without data. `resets`
    are the times of the first points after a restart of a counter.
    """

    name: str
    values: list[float | None]
    resets: list[int] = field(default_factory=list)


@dataclass(slots=True)
class MetricSeries:
    """A metric over time. The steps of length `step_ns` begin at `since_ns`.

    `buckets` has the counts of a histogram by step. `quantiles` has the quantiles of a summary by step. `is_cut` is
    true if there are more than `MAX_POINTS` points, of which the oldest are left out.
    """

    kind: Kind
    since_ns: int
    step_ns: int
    steps: int
    groups: list[Group]
    buckets: list[Buckets]
    quantiles: dict[float, list[float | None]]
    exemplars: list[Record]
    is_cut: bool

    @property
    def until_ns(self) -> int:
        """The end, exclusive."""
        return self.since_ns + self.steps * self.step_ns


def describe_metric(reader: Reader, name: str) -> list[Record]:
    """Return the types of a metric, the last received first, each with its attributes; empty for an unknown metric."""
    variants = reader.fetch_all("get_metric", name=name)
    attributes = reader.fetch_all("list_metric_attributes", name=name)
    return _with_attributes(variants, attributes, name)


def with_cardinality(metrics: list[Record], reader: Reader) -> list[Record]:
    """Return metrics with `attributes`: the number of different values of each attribute."""
    return _with_attributes(metrics, reader.fetch_all("list_metric_attributes", name=None), None)


def _with_attributes(metrics: list[Record], attributes: Iterable[Record], name: str | None) -> list[Record]:
    counts: defaultdict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for row in attributes:
        counts[row["name"], row["type"], row["unit"]][row["key"]] = row["value_count"]
    return [
        {**metric, "attributes": counts[name or metric["name"], metric["type"], metric["unit"]]} for metric in metrics
    ]


def read_series(reader: Reader, metric: Record, view: MetricView) -> MetricSeries:
    """Return the series of a metric.

    Args:
        reader: a reader.
        metric: one of the records of `describe_metric`.
        view: the name, the time range, the filters and the grouping.
    """
    time_range = view.time_range
    until_ns = min(time_range["until_ns"], max(metric["last_ns"], time_range["since_ns"]))
    since_ns = until_ns - COVERED_NS if view.since is None else time_range["since_ns"]
    step_ns = time_step(max(until_ns - since_ns, 1))
    since_ns = max(since_ns // step_ns * step_ns, 0)
    steps = (until_ns - since_ns) // step_ns + 1
    kind = _kind(metric)
    conditions, values = sql_conditions(reader, view.conditions)
    points = reader.fetch_all(
        "list_series_points",
        conditions,
        **values,
        name=view.name,
        type=metric["type"],
        unit=metric["unit"],
        # The step before the first one has the previous value of counters.
        since_ns=since_ns - (0 if kind == "value" else COVERED_NS),
        until_ns=until_ns,
        step_ns=step_ns,
        group_pointer=json_pointer(view.by or ""),
        limit=MAX_POINTS + 1,
    )
    series = MetricSeries(kind, since_ns, step_ns, steps, [], [], {}, [], is_cut=len(points) > MAX_POINTS)
    grouped = _group(points[-MAX_POINTS:], view.by)
    if kind == "value":
        series.groups = [_values(series, name, items, total=metric["type"] == "sum") for name, items in grouped]
    else:
        if kind == "histogram":
            series.buckets = _bucket_increases(series, points)
        if kind == "summary":
            series.quantiles = _summary_quantiles(series, points)
        column = "value" if kind == "rate" else "count"
        series.groups = [_rates(series, name, items, column) for name, items in grouped]
    series.exemplars = reader.fetch_all(
        "list_metric_exemplars", name=view.name, since_ns=since_ns, until_ns=until_ns, limit=MAX_EXEMPLARS
    )
    return series


def _kind(metric: Record) -> Kind:
    match metric["type"]:
        case "sum":
            return "rate" if metric["is_monotonic"] else "value"
        case "histogram" | "exponential_histogram":
            return "histogram"
        case "summary":
            return "summary"
        case _:
            return "value"


def _group(points: Sequence[Record], by: str | None) -> list[tuple[str, list[list[Record]]]]:
    """Return the points by group and series. Beyond the largest groups, the others are one group."""
    columns = {BY_INSTANCE: "service_instance_id", BY_SERVICE: "service_name", None: None}
    groups: defaultdict[str, list[list[Record]]] = defaultdict(list)
    for _, items in groupby(points, key=itemgetter("series_id")):
        series = list(items)
        column = columns.get(by, "group_value")
        groups["" if column is None else str(series[0][column] or "")].append(series)
    ranked = sorted(groups.items(), key=lambda item: (-sum(map(len, item[1])), item[0]))
    shown, rest = ranked[:MAX_GROUPS], ranked[MAX_GROUPS:]
    if rest:
        shown.append((f"{len(rest)} {OTHERS}", [series for _, items in rest for series in items]))
    return sorted(shown) if not rest else [*sorted(shown[:-1]), shown[-1]]


@dataclass(frozen=True, slots=True)
class _Increase:
    """An increase between two points of a series, whose time is (begin_ns, end_ns]."""

    begin_ns: int
    end_ns: int
    value: Any
    is_reset: bool


def _increases(series: Sequence[Record], values: Sequence[Any]) -> Iterable[_Increase]:
    """Yield the increases of one series.

    A cumulative series restarts from zero if its start changes or its value decreases. Its first point counts only if
    the start is known. A point of a delta series is an increase.
    """
    previous: Record | None = None
    previous_value: Any = None
    for point, value in zip(series, values, strict=True):
        if value is None:
            continue
        start_ns, end_ns = point["start_ns"] or 0, point["effective_ns"]
        if point["temporality"] == "DELTA":
            begin_ns = start_ns or (previous["effective_ns"] if previous else end_ns - 1)
            yield _Increase(min(begin_ns, end_ns - 1), end_ns, value, is_reset=False)
        elif previous is None:
            if start_ns:
                yield _Increase(min(start_ns, end_ns - 1), end_ns, value, is_reset=False)
        else:
            increase = _subtract(value, previous_value) if start_ns == (previous["start_ns"] or 0) else None
            begin_ns = previous["effective_ns"] if increase is not None else max(previous["effective_ns"], start_ns)
            yield _Increase(
                min(begin_ns, end_ns - 1), end_ns, value if increase is None else increase, is_reset=increase is None
            )
        previous, previous_value = point, value


def _subtract(value: Any, previous: Any) -> Any:  # noqa: ANN401  a number or buckets
    if isinstance(value, Buckets):
        return value.since(previous)
    return value - previous if value >= previous else None


def _rates(series: MetricSeries, name: str, items: Sequence[Sequence[Record]], column: str) -> Group:
    """Return the rate per second by step. An increase counts evenly in the time between its two points."""
    totals: list[float | None] = [None] * series.steps
    resets = []
    for points in items:
        for increase in _increases(points, [point[column] for point in points]):
            if increase.is_reset and increase.end_ns >= series.since_ns:
                resets.append(increase.end_ns)
            for step, share in _shares(series, increase):
                totals[step] = (totals[step] or 0.0) + increase.value * share
    seconds = series.step_ns / 1e9
    return Group(name, [None if total is None else total / seconds for total in totals], sorted(set(resets)))


def _shares(series: MetricSeries, increase: _Increase) -> Iterable[tuple[int, float]]:
    """Yield the steps that an increase covers, each with the share of its time in the step."""
    first = max((increase.begin_ns - series.since_ns) // series.step_ns, 0)
    last = min((increase.end_ns - 1 - series.since_ns) // series.step_ns, series.steps - 1)
    for step in range(first, last + 1):
        begin_ns = series.since_ns + step * series.step_ns
        overlap = min(increase.end_ns, begin_ns + series.step_ns) - max(increase.begin_ns, begin_ns)
        yield step, overlap / (increase.end_ns - increase.begin_ns)


def _values(series: MetricSeries, name: str, items: Sequence[Sequence[Record]], *, total: bool) -> Group:
    """Return the last value of each step: the sum over series of a counter that may decrease, or else their mean."""
    sums: list[float] = [0.0] * series.steps
    counts = [0] * series.steps
    for points in items:
        latest = {
            (point["effective_ns"] - series.since_ns) // series.step_ns: point["value"]
            for point in points
            if point["value"] is not None
        }
        for step, value in latest.items():
            if 0 <= step < series.steps:
                sums[step] += value
                counts[step] += 1
    return Group(name, [None if not n else value / (1 if total else n) for value, n in zip(sums, counts, strict=True)])


def _bucket_increases(series: MetricSeries, points: Sequence[Record]) -> list[Buckets]:
    """Return the counts of all series by step. An increase counts evenly in the time between its two points."""
    steps = [Buckets() for _ in range(series.steps)]
    scale = common_scale(points)
    for _, items in groupby(points, key=itemgetter("series_id")):
        own = list(items)
        for increase in _increases(own, [read_buckets(point, scale) for point in own]):
            for step, share in _shares(series, increase):
                steps[step].add(increase.value, share)
    return steps


def _summary_quantiles(series: MetricSeries, points: Iterable[Record]) -> dict[float, list[float | None]]:
    """Return the largest value of each quantile by step: quantiles of several series cannot be combined."""
    result: defaultdict[float, list[float | None]] = defaultdict(lambda: [None] * series.steps)
    for point in points:
        step = (point["effective_ns"] - series.since_ns) // series.step_ns
        if 0 <= step < series.steps:
            for share, value in zip(point["quantiles"] or (), point["quantile_values"] or (), strict=False):
                known = result[share][step]
                result[share][step] = value if known is None else max(known, value)
    return dict(sorted(result.items()))
