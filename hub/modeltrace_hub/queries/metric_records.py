"""Metrics over time as records of the API."""

import math
from typing import Annotated, Final

from pydantic import Field

from modeltrace_hub.queries.metric_series import MetricSeries, MetricView
from modeltrace_hub.queries.reader import Record

# The shares of the quantiles of a histogram.
QUANTILES: Final = (0.5, 0.9, 0.99)


class SeriesFilter(MetricView):
    """Select the metric of the API call."""

    name: Annotated[str, Field(max_length=500, description="The metric.")]


def select_variant(variants: list[Record], view: MetricView) -> Record:
    """Return the metric with the type and unit of the address, or else the one that was received last."""
    return next(
        (
            variant
            for variant in variants
            if view.type in {None, variant["type"]} and (view.unit is None or view.unit == variant["unit"])
        ),
        variants[0],
    )


def name_quantiles(series: MetricSeries) -> dict[str, list[float | None]]:
    """Return the quantiles of a histogram or a summary by step, with names such as `p99`."""
    shares = [(share, [step.quantile(share) for step in series.buckets]) for share in QUANTILES if series.buckets]
    return {f"p{100 * share:g}": values for share, values in [*shares, *series.quantiles.items()]}


def series_record(name: str, metric: Record, series: MetricSeries) -> Record:
    """Return a metric over time.

    Args:
        name: the name of the metric.
        metric: one of the records of `describe_metric`.
        series: its series.

    Returns:
        A record with these keys:

        - `name`, `type`, `unit`, `description` of the metric.
        - `kind`: `rate` (per second), `value`, `histogram` (measurements per second) or `summary`.
        - `since_ns`, `step_ns`, `steps`: the steps of time. All lists below have one item for each step.
        - `groups`: `name`, `values` (None without data) and `resets`, the times at which a counter restarted.
        - `quantiles`: by name, in the unit of the metric.
        - `buckets`: `low` (exclusive), `high` (inclusive) and `counts` of each bucket of a histogram.
        - `exemplars`, and `is_cut`: whether there are too many data points, of which the oldest are left out.
    """
    bounds = sorted({bucket for step in series.buckets for bucket in step.counts})
    return {
        "name": name,
        **{key: metric[key] for key in ("type", "unit", "description")},
        "kind": series.kind,
        "since_ns": series.since_ns,
        "step_ns": series.step_ns,
        "steps": series.steps,
        "groups": [{"name": group.name, "values": group.values, "resets": group.resets} for group in series.groups],
        "quantiles": name_quantiles(series),
        "buckets": [
            {
                "low": low if math.isfinite(low) else None,
                "high": high if math.isfinite(high) else None,
                "counts": [step.counts.get((low, high), 0) for step in series.buckets],
            }
            for low, high in bounds
        ],
        "exemplars": series.exemplars,
        "is_cut": series.is_cut,
    }
