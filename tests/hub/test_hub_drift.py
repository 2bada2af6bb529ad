"""The drift statistics of the hub's SQL equal those of the service for the same counts."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric, NumberDataPoint, Sum

from modeltrace.inference.held_out import HeldOut
from modeltrace.inference.schema import OutputReference, Reference
from modeltrace.monitoring import drift
from modeltrace.monitoring.dependence import count_processes
from modeltrace.monitoring.drift_check import WindowCounts, check_confidence, check_drift
from modeltrace_hub.queries import model_metric_names
from modeltrace_hub.queries.drift_states import MIN_ROWS, MIN_TRAINING_ROWS
from modeltrace_hub.queries.low_confidence import low_confidence
from modeltrace_hub.queries.model_metric_names import DRIFT_COUNTERS
from modeltrace_hub.queries.reader import Queries, Record
from modeltrace_hub.store import Store
from tests.helpers.metric_points import SECOND, SINCE, UNTIL, Attributes, gauge, store_metrics
from tests.helpers.otlp_values import key_values

MODEL: Attributes = (("ml.model.name", "m"), ("ml.model.version", "1"))
FEATURE: Attributes = (*MODEL, ("ml.feature.name", "f"))
OUTPUT: Attributes = (*MODEL, ("ml.output.name", "f"))
# The share of the pairs of each process.
PAIR_SHARES = ((1.0,), (0.5, 0.5), (0.75, 0.125, 0.125))
OF_NUMBERS = ("psi", "jensen_shannon", "ks", "location", "spread", "missing")
OF_CATEGORIES = ("psi", "jensen_shannon", "share_change", "new_categories", "missing")


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A store in memory."""
    store = Store(None)
    yield store
    store.close()


def counter(name: str, values: Mapping[Attributes, float]) -> Metric:
    """Return the totals of a process that started at the beginning of the window."""
    points = [
        NumberDataPoint(
            start_time_unix_nano=SINCE,
            time_unix_nano=SINCE + SECOND,
            as_double=value,
            attributes=key_values(dict(attributes)),
        )
        for attributes, value in values.items()
    ]
    temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    return Metric(name=name, sum=Sum(data_points=points, aggregation_temporality=temporality, is_monotonic=True))


def store_pairs(store: Store, window: WindowCounts) -> None:
    """Store the number of pairs of each process."""
    shares = next(shares for shares in PAIR_SHARES if count_processes(shares) == window.processes)
    for number, share in enumerate(shares):
        store_metrics(store, f"process-{number}", counter("ml.predictions.pairs", {MODEL: share * window.pairs}))


def in_sql(store: Store, reference: Reference, window: WindowCounts, criticals: Mapping[str, float]) -> Record:
    """Return the statistics that the hub computes, by name."""
    bins = [(*FEATURE, ("ml.feature.bin", name)) for name in reference.shares]
    scores = drift.normal_scores(reference.number_shares).tolist()
    rejected = {(*FEATURE, ("ml.data.violation.reason", "missing")): float(window.rejected)}
    gauges: dict[str, dict[Attributes, float]] = {
        "ml.feature.reference": dict(zip(bins, reference.shares.values(), strict=True)),
        "ml.feature.reference.score": dict(zip(bins, scores, strict=False)),  # bins of numbers come first
        "ml.feature.reference.size": {FEATURE: reference.n},
        "ml.drift.min_effect": {
            (*MODEL, ("ml.drift.statistic", name)): value for name, value in drift.MIN_EFFECT.items()
        },
        "ml.drift.critical_value": {
            (*FEATURE, ("ml.drift.statistic", name)): value for name, value in criticals.items()
        },
    }
    with store.write() as connection:
        connection.execute("DELETE FROM metric_points")
    store_metrics(
        store,
        "one",
        counter("ml.feature.observations", dict(zip(bins, map(float, window.counts), strict=True))),
        counter("ml.data.violations", rejected),
        counter("ml.feature.successive_difference", {FEATURE: window.difference}),
        *(gauge(name, "1", values.items(), SINCE + SECOND) for name, values in gauges.items()),
    )
    store_pairs(store, window)
    with Queries(store).open_reader() as reader:
        (row,) = reader.fetch_all(
            "compute_drift",
            counters=[*DRIFT_COUNTERS],
            since_ns=SINCE,
            until_ns=UNTIL,
            step_ns=UNTIL - SINCE,
            lookback_ns=SECOND,
            min_rows=MIN_ROWS,
            min_training_rows=MIN_TRAINING_ROWS,
        )
    return {statistic["statistic"]: statistic for statistic in row["statistics"]}


def shares_of(counts: list[int]) -> list[float]:
    """Return counts as shares of their sum."""
    return [count / sum(counts) for count in counts]


@st.composite
def references(draw: st.DrawFn, *, numeric: bool) -> Reference:
    """Draw the reference of a numeric or categorical feature."""
    size = draw(st.integers(2, 10) if numeric else st.integers(2, 21))
    names = [f"{index:02d}" if numeric else f"c{index}" for index in range(size)]
    counts = draw(st.lists(st.integers(0, 400), min_size=size, max_size=size))
    special = ["missing", "other"] if numeric else ["missing", "other", "unseen"]
    # With one bin only, location and spread are not computed.
    counts = [counts[0] + 1, *counts[1:-1], counts[-1] + 1, *(draw(st.integers(0, 50)) for _ in special)]
    if numeric:
        counts[-1] = 0
    return Reference(
        n=sum(counts),
        shares=dict(zip([*names, *special], shares_of(counts), strict=True)),
        edges=tuple(map(float, range(size - 1))) if numeric else None,
    )


@st.composite
def windows(draw: st.DrawFn, reference: Reference) -> WindowCounts:
    """Draw the counts of these bins in a window."""
    counts = draw(st.lists(st.integers(0, 300), min_size=len(reference.shares), max_size=len(reference.shares)))
    if reference.edges is not None:
        counts[-1] = 0
    difference, pairs = draw(st.floats(0, 500)), draw(st.integers(0, 2000))
    processes = count_processes(draw(st.sampled_from(PAIR_SHARES)))
    return WindowCounts(counts, draw(st.integers(0, 60)), difference=difference, pairs=pairs, processes=processes)


def named_output_in_sql(
    store: Store, reference: OutputReference, window: WindowCounts, criticals: Mapping[str, float], *, held_out: bool
) -> Record:
    """Return the statistics of a named output that the hub computes, by name; a feature has the same name."""
    bins = [(*OUTPUT, ("ml.output.bin", name)) for name in reference.shares]
    scores = drift.normal_scores(reference.number_shares).tolist()
    missing = (*FEATURE, ("ml.feature.bin", "missing"))
    gauges: dict[str, dict[Attributes, float]] = {
        "ml.output.reference": dict(zip(bins, reference.shares.values(), strict=True)),
        "ml.feature.reference": {missing: 1.0},
        "ml.feature.reference.score": dict(zip(bins, scores, strict=False)),
        "ml.feature.reference.size": {OUTPUT: reference.n, FEATURE: 10},
        "ml.prediction.reference.held_out": {MODEL: reference.n if held_out else 0},
        "ml.drift.min_effect": {
            (*MODEL, ("ml.drift.statistic", name)): value for name, value in drift.MIN_EFFECT.items()
        },
        "ml.drift.critical_value": {
            (*OUTPUT, ("ml.drift.statistic", name)): value for name, value in criticals.items()
        },
    }
    with store.write() as connection:
        connection.execute("DELETE FROM metric_points")
    store_metrics(
        store,
        "one",
        counter("ml.output.observations", dict(zip(bins, map(float, window.counts), strict=True))),
        counter("ml.feature.observations", {missing: 7.0}),
        counter("ml.output.successive_difference", {OUTPUT: window.difference}),
        *(gauge(name, "1", values.items(), SINCE + SECOND) for name, values in gauges.items()),
    )
    store_pairs(store, window)
    with Queries(store).open_reader() as reader:
        feature, row = reader.fetch_all(
            "compute_drift",
            counters=[*DRIFT_COUNTERS],
            since_ns=SINCE,
            until_ns=UNTIL,
            step_ns=UNTIL - SINCE,
            lookback_ns=SECOND,
            min_rows=MIN_ROWS,
            min_training_rows=MIN_TRAINING_ROWS,
        )
    assert (feature["feature"], feature["output"], feature["n"]) == ("f", None, 7)
    assert (row["feature"], row["output"]) == (None, "f")
    return {statistic["statistic"]: statistic for statistic in row["statistics"]}


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(data=st.data(), numeric=st.booleans(), held_out=st.booleans(), critical=st.floats(0.1, 8))
def test_named_outputs_agree(store: Store, data: Any, *, numeric: bool, held_out: bool, critical: float) -> None:
    """Numbers and labels, one of which has the name of a bin of features, with and without held-out rows."""
    names = [f"{index:02d}" for index in range(5)] if numeric else ["other", "a", "missing", "unseen", "b"]
    counts = data.draw(st.lists(st.integers(1, 400), min_size=5, max_size=5))
    edges = (0.0, 1.0, 2.0, 3.0) if numeric else None
    reference = OutputReference(n=sum(counts), shares=dict(zip(names, shares_of(counts), strict=True)), edges=edges)
    window = WindowCounts(
        data.draw(st.lists(st.integers(0, 300), min_size=5, max_size=5)),
        difference=data.draw(st.floats(0, 500)),
        pairs=data.draw(st.integers(0, 2000)),
        processes=count_processes(data.draw(st.sampled_from(PAIR_SHARES))),
    )
    statistics = OF_NUMBERS[:-1] if numeric else ("psi", "jensen_shannon", "share_change")
    criticals = dict.fromkeys(statistics, critical)

    found = named_output_in_sql(store, reference, window, criticals, held_out=held_out)

    assert {name for name, statistic in found.items() if statistic["min_effect"] is not None} == set(criticals)
    for expected in check_drift(reference, window, criticals, has_reference=held_out):
        actual = found[expected.statistic]
        assert (actual["n"], actual["state"]) == (expected.n, expected.state)
        if math.isfinite(expected.value) and expected.n:
            assert actual["value"] == pytest.approx(expected.value, rel=1e-9, abs=1e-12)
        # If no share has changed, the threshold is that of any label.
        if math.isfinite(expected.threshold) and expected.n and abs(expected.value) > 1e-9:
            assert actual["threshold"] == pytest.approx(expected.threshold, rel=1e-9)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data(), numeric=st.booleans(), critical=st.floats(0.1, 8))
def test_sql_and_service_agree(store: Store, data: Any, *, numeric: bool, critical: float) -> None:
    """Value, threshold, sample size and state of every statistic are equal to 1e-9, for numbers and categories."""
    reference = data.draw(references(numeric=numeric))
    window = data.draw(windows(reference))
    criticals = dict.fromkeys(OF_NUMBERS if numeric else OF_CATEGORIES, critical)

    statistics = in_sql(store, reference, window, criticals)

    assert set(statistics) == set(criticals)
    for expected in check_drift(reference, window, criticals):
        actual = statistics[expected.statistic]
        assert actual["n"] == expected.n
        assert actual["independent"] == pytest.approx(expected.independent, rel=1e-9)
        assert actual["state"] == expected.state, expected
        for number, expected_number in (
            (actual["value"], expected.value),
            (actual["threshold"], expected.threshold),
        ):
            # Without rows there is no value, and without independent rows there is no threshold.
            if (expected.n == 0 and number is None) or not math.isfinite(expected_number):
                assert number is None
            else:
                assert number == pytest.approx(expected_number, rel=1e-9, abs=1e-9), expected


@given(
    low=st.integers(0, 500),
    more=st.integers(0, 5000),
    critical=st.floats(0, 8),
    rows=st.integers(1, 5000),
    share=st.none() | st.floats(0, 1),
    rows_repeat=st.booleans(),
    independent_share=st.sampled_from([0.001, 0.1, 1.0]),
)
def test_low_confidence_is_equal(
    low: int, more: int, critical: float, rows: int, share: float | None, rows_repeat: bool, independent_share: float
) -> None:
    """The page and the service compute the same share, limit and state, with and without held-out rows."""
    n = low + more
    gauges: dict[str, tuple[float | None, str | None]] = {
        model_metric_names.CONFIDENCE_THRESHOLD: (0.5, None),
        model_metric_names.HELD_OUT_ROWS: (rows, None),
        model_metric_names.LOW_CONFIDENCE_REFERENCE: (share, None),
        model_metric_names.MIN_EFFECT: (drift.MIN_EFFECT[drift.LOW_CONFIDENCE], drift.LOW_CONFIDENCE),
        model_metric_names.CRITICAL_VALUE: (critical, drift.LOW_CONFIDENCE),
    }
    held_out = HeldOut(method="held_out", rows=rows, low_confidence_share=share)
    dependence: dict[str, Any] = {"rows_repeat": rows_repeat, "independent_share": independent_share}
    expected = check_confidence(low, n, critical, held_out, **dependence)

    actual = low_confidence(
        [{"added": low}],
        [
            {"name": name, "value": value, "attributes": {"ml.drift.statistic": statistic} if statistic else {}}
            for name, (value, statistic) in gauges.items()
            if value is not None
        ],
        n,
        **dependence,
    )

    if n:
        assert actual["state"] == expected.state
        assert actual["low_share"] == pytest.approx(expected.value, rel=1e-9)
        if share is None:
            assert actual["limit"] is None
        else:
            assert actual["limit"] == pytest.approx(expected.threshold, rel=1e-9)
    else:
        assert (actual["low_share"], actual["limit"], actual["state"]) == (None, None, None)


def test_minimum_rows_are_equal() -> None:
    """The hub and the service require the same number of predictions for a result."""
    assert (MIN_ROWS, MIN_TRAINING_ROWS) == (drift.MIN_ROWS, drift.MIN_TRAINING_ROWS)
