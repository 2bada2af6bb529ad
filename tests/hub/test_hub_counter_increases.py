"""The increases of counters in SQL equal what simulated processes counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from modeltrace_hub.queries.reader import Queries
from modeltrace_hub.store import Store
from tests.helpers.metric_points import SECOND, SINCE, UNTIL, gauge, store_metrics
from tests.helpers.otlp_values import key_values

STEP = 120 * SECOND
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE

Kind = Literal["cumulative", "no start", "delta"]


@dataclass(frozen=True)
class Run:
    """One process: its start, and what it counted in each export interval."""

    instance: str
    kind: Kind
    start: int
    exports: Sequence[tuple[int, int]]

    def points(self) -> Iterator[NumberDataPoint]:
        """Return its exported points."""
        total, before = 0, self.start
        for time, added in self.exports:
            total += added
            start = {"cumulative": self.start, "no start": 0, "delta": before}[self.kind]
            value = added if self.kind == "delta" else total
            yield NumberDataPoint(
                start_time_unix_nano=start,
                time_unix_nano=time,
                as_int=value,
                attributes=key_values({"ml.model.name": "m", "ml.prediction.label": "yes"}),
            )
            before = time

    def counted(self) -> int:
        """Return what it counted in the intervals that ended in the window."""
        return sum(added for time, added in self.exports if SINCE < time <= UNTIL)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Draw a process that started at most 20 minutes before the window and exported at once."""
    start = SINCE + draw(st.integers(-1200, 500)) * SECOND
    gaps = draw(st.lists(st.integers(1, 200), max_size=6))
    times = [start + sum(gaps[: number + 1]) * SECOND for number in range(len(gaps))]
    added = draw(st.lists(st.integers(0, 50), min_size=len(times), max_size=len(times)))
    kind: Kind = draw(st.sampled_from(["cumulative", "no start", "delta"]))
    return Run(draw(st.sampled_from(["a", "b", "c"])), kind, start, list(zip(times, added, strict=True)))


def counter(points: Sequence[NumberDataPoint], temporality: Any) -> Metric:
    """Return a counter with the test's attributes."""
    return Metric(
        name="ml.predictions", sum=Sum(data_points=points, aggregation_temporality=temporality, is_monotonic=True)
    )


def added(store: Store, step: int = STEP) -> dict[int, float]:
    """Return the increases by step, as computed in SQL."""
    with Queries(store).open_reader() as reader:
        result = reader.fetch_all(
            "sum_model_counters",
            counters=["ml.predictions"],
            since_ns=SINCE,
            until_ns=UNTIL,
            step_ns=step,
            lookback_ns=3600 * SECOND,
        )
    return {item["step"]: item["added"] for item in result}


def fill(store: Store, several: Sequence[Run], *, times: int = 1) -> None:
    """Store the exports of these processes, and nothing else."""
    with store.write() as connection:
        connection.execute("DELETE FROM metric_points")
    for number, run in enumerate(several):
        # Each run is a process with its own instance ID, like the processes of the service.
        instance = f"{run.instance}-{number}"
        store_metrics(
            store, instance, gauge("ml.feature.reference", "1", [((("ml.model.name", "m"),), 1.0)], run.start)
        )
        for _ in range(times):
            store_metrics(store, instance, counter(list(run.points()), DELTA if run.kind == "delta" else CUMULATIVE))


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(runs(), max_size=4))
def test_increases_of_all_processes_add_up(store: Store, several: list[Run]) -> None:
    """The sum is what they counted in intervals that ended in the window, for any start and temporality."""
    fill(store, several)

    assert sum(added(store).values()) == sum(run.counted() for run in several)
    assert added(store, UNTIL - SINCE).get(0, 0) == sum(run.counted() for run in several)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(runs(), min_size=1, max_size=3))
def test_a_point_sent_twice_counts_once(store: Store, several: list[Run]) -> None:
    """A sender that gets no response sends again."""
    fill(store, several, times=2)

    assert sum(added(store).values()) == sum(run.counted() for run in several)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=2, max_size=4))
def test_a_new_start_time_is_a_reset(store: Store, lives: list[list[int]]) -> None:
    """One series with several start times, as after a restart of a sidecar: each counts from 0."""
    with store.write() as connection:
        connection.execute("DELETE FROM metric_points")
    time = SINCE
    for life in lives:
        run = Run("a", "cumulative", time + SECOND, [(time + n * 10 * SECOND, item) for n, item in enumerate(life, 1)])
        store_metrics(store, "a", counter(list(run.points()), CUMULATIVE))
        time = run.exports[-1][0]

    assert sum(added(store).values()) == sum(map(sum, lives))


def test_a_decreasing_total_is_a_reset(store: Store) -> None:
    """Without a start time, only a decrease shows a reset."""
    run = Run("a", "no start", SINCE, [(SINCE + n * 10 * SECOND, item) for n, item in enumerate((5, 3), 1)])
    again = Run("a", "no start", SINCE, [(SINCE + n * 10 * SECOND, item) for n, item in enumerate((2, 4), 3)])
    store_metrics(store, "a", gauge("ml.feature.reference", "1", [((("ml.model.name", "m"),), 1.0)], SINCE + SECOND))
    store_metrics(store, "a", counter([*run.points(), *again.points()], CUMULATIVE))

    assert sum(added(store).values()) == 8 + 6


def test_totals_from_before_the_first_export_do_not_count(store: Store) -> None:
    """The totals of a service that ran for days before the hub started are not traffic of the window."""
    days_ago = SINCE - 3 * 86400 * SECOND
    run = Run("a", "cumulative", days_ago, [(SINCE + SECOND, 5000), (SINCE + 60 * SECOND, 7)])
    store_metrics(store, "a", counter(list(run.points()), CUMULATIVE))

    assert sum(added(store).values()) == 7


def test_the_series_of_a_new_label_counts_from_zero(store: Store) -> None:
    """Its start time is that of the process, but it is younger than the other series of the process."""
    days_ago = SINCE - 3 * 86400 * SECOND
    store_metrics(
        store, "a", gauge("ml.feature.reference", "1", [((("ml.model.name", "m"),), 1.0)], SINCE - 60 * SECOND)
    )
    run = Run("a", "cumulative", days_ago, [(SINCE + SECOND, 5)])
    store_metrics(store, "a", counter(list(run.points()), CUMULATIVE))

    assert sum(added(store).values()) == 5


def test_histograms_add_up_bucket_by_bucket(store: Store) -> None:
    """Each bucket is a counter."""
    totals = [(1, 0, 4), (2, 0, 9)]
    points = [
        HistogramDataPoint(
            start_time_unix_nano=SINCE,
            time_unix_nano=SINCE + n * 10 * SECOND,
            bucket_counts=buckets,
            explicit_bounds=(0.5, 0.9),
            count=sum(buckets),
            attributes=key_values({"ml.model.name": "m"}),
        )
        for n, buckets in enumerate(totals, 1)
    ]
    histogram = Histogram(data_points=points, aggregation_temporality=CUMULATIVE)
    store_metrics(store, "a", Metric(name="ml.predictions", histogram=histogram))
    with Queries(store).open_reader() as reader:
        result = reader.fetch_all(
            "sum_model_counters",
            counters=["ml.predictions"],
            since_ns=SINCE,
            until_ns=UNTIL,
            step_ns=UNTIL - SINCE,
            lookback_ns=SECOND,
        )

    assert {item["bucket"]: item["added"] for item in result} == {1: 2, 3: 9}
    assert {tuple(item["bounds"]) for item in result} == {(0.5, 0.9)}
