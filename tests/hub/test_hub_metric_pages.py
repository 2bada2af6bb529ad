"""`/metrics`: rates, resets, gauges, histograms of both types and summaries, split by attribute and instance."""

import math
import random
import re
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
    Summary,
    SummaryDataPoint,
)

from modeltrace_hub.queries.histograms import read_buckets
from modeltrace_hub.queries.metric_series import MetricSeries, MetricView, describe_metric, read_series
from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.web.line_chart import draw_lines, round_ticks
from modeltrace_hub.web.time_axis import TimeAxis
from modeltrace_hub.web.ucum import format_value, rate_unit
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import metric_request, resource
from tests.helpers.otlp_values import Value, key_values

S = 10**9
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
END = time.time_ns() // (60 * S) * 60 * S
START = END - 1200 * S
BOUNDS = (0.1, 0.2, 0.5, 1.0, 2.0)
_FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages of an empty hub."""
    with hub_pages() as pages:
        yield pages


def number(time_ns: int, value: float, *, start_ns: int = 0, **attributes: Value) -> NumberDataPoint:
    """Return a point of a counter or gauge."""
    return NumberDataPoint(
        start_time_unix_nano=start_ns, time_unix_nano=time_ns, as_double=value, attributes=key_values(attributes)
    )


def counter(*points: NumberDataPoint, temporality: "AggregationTemporality.ValueType" = CUMULATIVE) -> Metric:
    """Return a monotonic counter of requests."""
    return Metric(
        name="requests",
        unit="{request}",
        description="Requests since the start.",
        sum=Sum(data_points=points, aggregation_temporality=temporality, is_monotonic=True),
    )


def send(pages: HubPages, *metrics: Metric, instance: str = "one") -> None:
    """Store metrics of an instance."""
    request: ExportMetricsServiceRequest = metric_request(*metrics)
    request.resource_metrics[0].resource.CopyFrom(resource(instance=instance))
    pages.add(request)


def series(pages: HubPages, name: str, **parameters: object) -> MetricSeries:
    """Return the series of a metric."""
    with Queries(pages.store).open_reader() as reader:
        (metric,) = describe_metric(reader, name)
        return read_series(reader, metric, MetricView.model_validate({"name": name, **parameters}))


def total(values: Sequence[float | None], result: MetricSeries) -> float:
    """Return the increase that rates add up to."""
    return sum(value for value in values if value is not None) * result.step_ns / S


def test_rates_add_up_to_the_increase_over_resets(pages: HubPages) -> None:
    """A counter that restarts counts from zero, the restart is marked, and a point that was sent twice counts once."""
    first = [number(START + n * 60 * S, 100.0 + 10 * n, start_ns=START - 600 * S) for n in range(6)]
    restart = START + 310 * S
    second = [number(START + n * 60 * S, 4.0 * (n - 5), start_ns=restart) for n in range(6, 16)]
    send(pages, counter(*first, *second))
    send(pages, counter(first[-1]))
    result = series(pages, "requests", since=str((START - 60 * S) // S))
    (group,) = result.groups
    # Ten each minute until the restart, of which the minute before the first point is in the range; then 40.
    until_restart = (START + 300 * S - result.since_ns) // result.step_ns
    assert total(group.values[:until_restart], result) == pytest.approx(60)
    assert total(group.values, result) == pytest.approx(60 + 40)
    assert group.resets == [START + 360 * S]
    assert "A counter restarted" in pages.client.get("/metrics?name=requests").text


def test_without_a_start_a_smaller_value_is_a_restart(pages: HubPages) -> None:
    """A cumulative counter without a start time counts from its first point; a smaller value is a restart."""
    values = [5.0, 9.0, 2.0, 3.0]
    send(pages, counter(*(number(START + n * 60 * S, value) for n, value in enumerate(values))))
    result = series(pages, "requests", since=str(START // S))
    assert total(result.groups[0].values, result) == pytest.approx(4 + 2 + 1)
    assert len(result.groups[0].resets) == 1


def test_deltas_are_increases(pages: HubPages) -> None:
    """Each point of a delta counter is an increase of its interval."""
    points = [number(START + n * 60 * S, 7.0, start_ns=START + (n - 1) * 60 * S) for n in range(1, 11)]
    send(pages, counter(*points, temporality=DELTA))
    result = series(pages, "requests", since=str(START // S))
    (group,) = result.groups
    assert total(group.values, result) == pytest.approx(70)
    assert {round(value, 9) for value in group.values if value} == {round(7 / 60, 9)}


def test_series_are_split_by_attribute_and_instance(pages: HubPages) -> None:
    """Groups add up to the whole; beyond eight values, the others are one group."""
    for instance in ("one", "two"):
        points = [
            number(START + n * 60 * S, 60.0 * n * (route + 1), start_ns=START, route=f"r{route:02d}")
            for n in range(11)
            for route in range(12)
        ]
        send(pages, counter(*points), instance=instance)
    whole = series(pages, "requests", since=str(START // S))
    assert total(whole.groups[0].values, whole) == pytest.approx(2 * 600 * 78)
    for by, names in (
        ("route", [*(f"r{route:02d}" for route in range(8)), "4 others"]),
        ("service.instance.id", ["one", "two"]),
        ("service.name", ["svc"]),
        ("nothing", [""]),
    ):
        split = series(pages, "requests", by=by, since=str(START // S))
        assert [group.name for group in split.groups] == names
        assert sum(total(group.values, split) for group in split.groups) == pytest.approx(2 * 600 * 78)
    one = series(pages, "requests", since=str(START // S), **{"attr.route": "r01"})
    assert total(one.groups[0].values, one) == pytest.approx(2 * 600 * 2)
    html = pages.client.get("/metrics").text
    assert re.search(r"<code>route</code> 12", html)
    assert "Requests since the start." in html


def test_gauges_are_averaged_and_sums_that_may_fall_are_added(pages: HubPages) -> None:
    """The value of a step is the last one: the mean of gauges, the sum of counters that may decrease."""
    for instance, value in (("one", 10.0), ("two", 30.0)):
        points = [number(START, 1.0), number(START + S, value)]
        queue = Sum(data_points=points, aggregation_temporality=CUMULATIVE, is_monotonic=False)
        send(
            pages,
            Metric(name="temperature", unit="Cel", gauge=Gauge(data_points=points)),
            Metric(name="queue", sum=queue),
            instance=instance,
        )
    assert [value for value in series(pages, "temperature").groups[0].values if value is not None][-1] == 20.0
    assert [value for value in series(pages, "queue").groups[0].values if value is not None][-1] == 40.0
    assert "20°C" in pages.client.get("/metrics?name=temperature").text


def draw(count: int) -> list[float]:
    """Return durations in seconds."""
    chance = random.Random(1)  # noqa: S311  the same values every time
    return [chance.lognormvariate(-1, 0.5) for _ in range(count)]


def histogram_point(values: Sequence[float], time_ns: int, trace_id: bytes = b"") -> HistogramDataPoint:
    """Return a point of a cumulative histogram that has measured some values, with an exemplar."""
    counts = [0] * (len(BOUNDS) + 1)
    for value in values:
        counts[next((n for n, bound in enumerate(BOUNDS) if value <= bound), len(BOUNDS))] += 1
    exemplars = [Exemplar(trace_id=trace_id, span_id=trace_id[:8], time_unix_nano=time_ns, as_double=values[-1])]
    return HistogramDataPoint(
        start_time_unix_nano=START,
        time_unix_nano=time_ns,
        count=len(values),
        sum=sum(values),
        explicit_bounds=BOUNDS,
        bucket_counts=counts,
        exemplars=exemplars if trace_id else [],
    )


def exponential_point(values: Sequence[float], time_ns: int, scale: int) -> ExponentialHistogramDataPoint:
    """Return a point of a cumulative exponential histogram, with the index as the data model defines it."""
    base = 2.0 ** (2.0**-scale)
    indices = [math.ceil(math.log(value, base)) - 1 for value in values]
    offset = min(indices)
    counts = [indices.count(index) for index in range(offset, max(indices) + 1)]
    point = ExponentialHistogramDataPoint(
        start_time_unix_nano=START, time_unix_nano=time_ns, count=len(values), sum=sum(values), scale=scale
    )
    point.positive.offset = offset
    point.positive.bucket_counts.extend(counts)
    return point


def test_quantiles_of_an_explicit_histogram(pages: HubPages) -> None:
    """Buckets of all steps add up to all values, each quantile is in the right bucket, and a dot leads to a trace."""
    values, trace = draw(400), bytes(range(1, 17))
    points = [histogram_point(values[: 40 * n], START + n * 60 * S, trace if n == 9 else b"") for n in range(1, 11)]
    histogram = Histogram(data_points=points, aggregation_temporality=CUMULATIVE)
    send(pages, Metric(name="latency", unit="s", histogram=histogram))
    result = series(pages, "latency", since=str(START // S))
    whole = result.buckets[0]
    for step in result.buckets[1:]:
        whole.add(step)
    assert whole.total == pytest.approx(400)
    for share in (0.5, 0.9, 0.99):
        exact, found = float(np.quantile(values, share, method="inverted_cdf")), whole.quantile(share)
        assert found is not None
        low, high = next((low, high) for low, high in whole.counts if low < exact <= high)
        assert low <= found <= high
    html = pages.client.get("/metrics?name=latency").text
    assert f'href="./t/{trace.hex()}?span={trace[:8].hex()}"' in html
    assert re.search(r"<h2>Distribution</h2>.*<h2>Quantiles</h2>", html, re.DOTALL)
    assert re.search(r"over 200\u202fms, up to 500\u202fms: [\d.]+", html)


@pytest.mark.parametrize("scales", [(6, 6), (6, 2), (0, 0)])
def test_quantiles_of_an_exponential_histogram(pages: HubPages, scales: tuple[int, int]) -> None:
    """Also after the sender has reduced its scale, quantiles are within one bucket of the exact ones."""
    values = draw(400)
    points = [
        exponential_point(values[: 40 * n], START + n * 60 * S, scales[0] if n < 5 else scales[1]) for n in range(1, 11)
    ]
    histogram = ExponentialHistogram(data_points=points, aggregation_temporality=CUMULATIVE)
    send(pages, Metric(name="latency", unit="s", exponential_histogram=histogram))
    result = series(pages, "latency", since=str(START // S))
    whole = result.buckets[0]
    for step in result.buckets[1:]:
        whole.add(step)
    assert whole.total == pytest.approx(400)
    width = 2.0 ** (2.0 ** -min(3, *scales))
    for share in (0.1, 0.5, 0.9, 0.99):
        exact, found = float(np.quantile(values, share, method="inverted_cdf")), whole.quantile(share)
        assert found is not None
        assert exact / width <= found <= exact * width
    assert "Distribution" in pages.client.get("/metrics?name=latency").text


def test_zero_and_negative_values_of_exponential_histograms() -> None:
    """Negative buckets are the mirror image of positive ones, and the zero bucket is between them."""
    point: dict[str, Any] = {"scale": 0, "zero_count": 3, "positive_offset": 1, "positive_counts": [2]}
    point |= {"negative_offset": 0, "negative_counts": [5]}
    assert read_buckets(point, 0).counts == {(-2.0, -1.0): 5, (0.0, 0.0): 3, (2.0, 4.0): 2}
    assert read_buckets({**point, "scale": 1}, 0).counts == {(-2.0, -1.0): 5, (0.0, 0.0): 3, (1.0, 2.0): 2}


def test_summaries_show_their_quantiles(pages: HubPages) -> None:
    """The quantiles are those that were sent."""
    quantiles = [SummaryDataPoint.ValueAtQuantile(quantile=0.9, value=4.5)]
    points = [
        SummaryDataPoint(start_time_unix_nano=START, time_unix_nano=START + n * S, count=n, quantile_values=quantiles)
        for n in range(1, 5)
    ]
    send(pages, Metric(name="sizes", unit="By", summary=Summary(data_points=points)))
    assert [value for value in series(pages, "sizes").quantiles[0.9] if value is not None] == [4.5]
    assert "p90" in pages.client.get("/metrics?name=sizes").text


def test_an_unknown_metric_and_an_empty_range(pages: HubPages) -> None:
    """An unknown name is 404; a range without points says when the last one was."""
    assert pages.client.get("/metrics?name=nosuch").status_code == 404
    assert "No metrics have arrived" in pages.client.get("/metrics").text
    send(pages, counter(number(START, 1.0)))
    assert "No data in this range" in pages.client.get(f"/metrics?name=requests&since={(END + 60 * S) // S}").text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0015, "s", "1.50 ms"),
        (2048, "By", "2 KiB"),
        (1.5, "MiBy/s", "1.50 MiB/s"),
        (1, "{request}", "1 request"),
        (3, "{request}/s", "3 requests/s"),
        (2, "{query}", "2 queries"),
        (0.25, "1", "0.250"),
        (40, "Cel", "40°C"),
        (12.5, "%", "12.5 %"),
        (3, "", "3"),
        (None, "s", "\N{EN DASH}"),
    ],
)
def test_units_are_read_as_ucum(value: float | None, unit: str, text: str) -> None:
    """Times and bytes have the unit that suits their size; annotations are words."""
    assert format_value(value, unit).replace("\u202f", " ") == text


def test_the_unit_of_a_rate() -> None:
    """A rate of seconds is a number; anything else is per second."""
    assert [format_value(2.0, rate_unit(unit)).replace("\u202f", " ") for unit in ("s", "By", "{request}", "1")] == [
        "2",
        "2 B/s",
        "2 requests/s",
        "2/s",
    ]


@given(st.tuples(_FINITE, _FINITE).map(sorted))
@example([1e16, 1e16])
@example([0.0, 5e-324])
@example([-1.7e308, 1.7e308])
@example([1e16, 1e16 + 2])
def test_ticks_contain_the_values_and_are_few(values: list[float]) -> None:
    """For all finite floats, the first tick is at most the lowest value, the last at least the highest."""
    low, high = values
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert all(tick < following for tick, following in pairwise(ticks))
    tolerance = 1e-6 * max(abs(low), abs(high), 1e-280)
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= high - tolerance
    chart = draw_lines(TimeAxis(0, 60, 2), [("", values)], str)
    assert all(math.isfinite(y) for y, _ in chart.value_labels)


def test_the_axis_of_one_value_is_around_it() -> None:
    """A line of equal values is not at the lower edge."""
    ticks = round_ticks(0.848, 0.848)
    assert ticks[0] < 0.848 < ticks[-1] < 1
