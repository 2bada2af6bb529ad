"""What counters added in a window, against what made-up processes really counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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

from modeltrace_hub.queries.queries import Queries
from modeltrace_hub.store import Store
from tests.helpers.metric_points import SECOND, SINCE, UNTIL, gauge, store_metrics
from tests.helpers.otlp_values import key_values

STEP = 120 * SECOND
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE

Kind = Literal["cumulative", "no start", "delta"]


@dataclass(frozen=True)
class Run:
    """One process: when it started, and when it exported how much had come since the export before."""

    instance: str
    kind: Kind
    start: int
    exports: Sequence[tuple[int, int]]

    def points(self) -> Iterator[NumberDataPoint]:
        """What it exported."""
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
        """How much it counted in intervals that ended in the window."""
        return sum(added for time, added in self.exports if SINCE < time <= UNTIL)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """A process that started at most 20 minutes before the window, and said so at once."""
    start = SINCE + draw(st.integers(-1200, 500)) * SECOND
    gaps = draw(st.lists(st.integers(1, 200), max_size=6))
    times = [start + sum(gaps[: number + 1]) * SECOND for number in range(len(gaps))]
    added = draw(st.lists(st.integers(0, 50), min_size=len(times), max_size=len(times)))
    kind: Kind = draw(st.sampled_from(["cumulative", "no start", "delta"]))
    return Run(draw(st.sampled_from(["a", "b", "c"])), kind, start, list(zip(times, added, strict=True)))


def counter(points: Sequence[NumberDataPoint], temporality: Any) -> Metric:
    """A counter of ours."""
    return Metric(
        name="ml.predictions", sum=Sum(data_points=points, aggregation_temporality=temporality, is_monotonic=True)
    )


def added(store: Store, step: int = STEP) -> dict[int, float]:
    """What the SQL says was added, by step."""
    with Queries(store).ask() as reader:
        found = reader.records(
            "model_counts",
            counters=["ml.predictions"],
            since_ns=SINCE,
            until_ns=UNTIL,
            step_ns=step,
            lookback_ns=3600 * SECOND,
        )
    return {one["step"]: one["added"] for one in found}


def fill(store: Store, several: Sequence[Run], *, times: int = 1) -> None:
    """Store what these processes exported, nothing else."""
    with store.write() as connection:
        connection.execute("DELETE FROM metric_points")
    for number, run in enumerate(several):
        # A process of its own each: a start says so with another instance, as ours do.
        instance = f"{run.instance}-{number}"
        store_metrics(
            store, instance, gauge("ml.feature.reference", "1", [((("ml.model.name", "m"),), 1.0)], run.start)
        )
        for _ in range(times):
            store_metrics(store, instance, counter(list(run.points()), DELTA if run.kind == "delta" else CUMULATIVE))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(runs(), max_size=4))
def test_what_processes_counted_adds_up(store: Store, several: list[Run]) -> None:
    """However they export, whenever they start: the sum is what they counted in intervals that ended in the window."""
    fill(store, several)

    assert sum(added(store).values()) == sum(run.counted() for run in several)
    assert added(store, UNTIL - SINCE).get(0, 0) == sum(run.counted() for run in several)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(runs(), min_size=1, max_size=3))
def test_what_is_sent_twice_counts_once(store: Store, several: list[Run]) -> None:
    """A sender that got no answer sends again; that adds nothing."""
    fill(store, several, times=2)

    assert sum(added(store).values()) == sum(run.counted() for run in several)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=2, max_size=4))
def test_a_counter_that_starts_anew_goes_on_adding(store: Store, lives: list[list[int]]) -> None:
    """One series with a start after another, as an exporter process that is replaced makes them: each counts from 0."""
    with store.write() as connection:
        connection.execute("DELETE FROM metric_points")
    time = SINCE
    for life in lives:
        run = Run("a", "cumulative", time + SECOND, [(time + n * 10 * SECOND, one) for n, one in enumerate(life, 1)])
        store_metrics(store, "a", counter(list(run.points()), CUMULATIVE))
        time = run.exports[-1][0]

    assert sum(added(store).values()) == sum(map(sum, lives))


def test_a_total_that_falls_has_started_anew(store: Store) -> None:
    """Where no start is said, a fall is all that tells of a reset."""
    run = Run("a", "no start", SINCE, [(SINCE + n * 10 * SECOND, one) for n, one in enumerate((5, 3), 1)])
    again = Run("a", "no start", SINCE, [(SINCE + n * 10 * SECOND, one) for n, one in enumerate((2, 4), 3)])
    store_metrics(store, "a", gauge("ml.feature.reference", "1", [((("ml.model.name", "m"),), 1.0)], SINCE + SECOND))
    store_metrics(store, "a", counter([*run.points(), *again.points()], CUMULATIVE))

    assert sum(added(store).values()) == 8 + 6


def test_what_was_counted_before_the_hub_heard_of_it_is_not_in_the_window(store: Store) -> None:
    """A service that ran for days when the hub started: its totals are no traffic of the last minutes."""
    days_ago = SINCE - 3 * 86400 * SECOND
    run = Run("a", "cumulative", days_ago, [(SINCE + SECOND, 5000), (SINCE + 60 * SECOND, 7)])
    store_metrics(store, "a", counter(list(run.points()), CUMULATIVE))

    assert sum(added(store).values()) == 7


def test_a_label_met_for_the_first_time_counts_from_nothing(store: Store) -> None:
    """Its series says the start of the process, long ago, and is younger than the other series of that."""
    days_ago = SINCE - 3 * 86400 * SECOND
    store_metrics(
        store, "a", gauge("ml.feature.reference", "1", [((("ml.model.name", "m"),), 1.0)], SINCE - 60 * SECOND)
    )
    run = Run("a", "cumulative", days_ago, [(SINCE + SECOND, 5)])
    store_metrics(store, "a", counter(list(run.points()), CUMULATIVE))

    assert sum(added(store).values()) == 5


def test_histograms_add_up_bucket_by_bucket(store: Store) -> None:
    """Each bucket is a counter of its own."""
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
    with Queries(store).ask() as reader:
        found = reader.records(
            "model_counts",
            counters=["ml.predictions"],
            since_ns=SINCE,
            until_ns=UNTIL,
            step_ns=UNTIL - SINCE,
            lookback_ns=SECOND,
        )

    assert {one["place"]: one["added"] for one in found} == {1: 2, 3: 9}
    assert {tuple(one["bounds"]) for one in found} == {(0.5, 0.9)}
