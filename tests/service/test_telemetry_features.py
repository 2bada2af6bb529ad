"""Metric points of features: exact counts and sums, and exemplars worth following."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bundles.columns import describe_column
from modeltrace.inference.schema import Schema
from modeltrace.monitoring.bins import FeatureBins
from modeltrace.telemetry.metrics.features import CHUNK_ROWS, MAX_RETIRED_MODELS, FeatureMetrics, RepeatedRowCounter
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog, ReferenceData
from modeltrace.telemetry.records.prediction import ModelInfo, RequestRecord
from tests.helpers.factories import answered_row, request_record

COLUMNS = {"age": np.arange(20.0, 60.0), "balance": np.arange(-20.0, 20.0), "plan": ["basic", "pro"] * 20}
SCHEMA = Schema(features=tuple(describe_column(pd.Series(values, name=name)) for name, values in COLUMNS.items()))
TOY = ModelInfo("toy", "1", "a" * 64, SCHEMA.names, SCHEMA.hash)
ROWS = st.tuples(
    st.none() | st.integers(-100, 100), st.none() | st.floats(-1e6, 1e6), st.none() | st.sampled_from(["basic", "x"])
)


def request_of(
    *rows: tuple[Any, ...], number: int = 1, pinned: bool = False, sampled: bool = True, model: ModelInfo | None = None
) -> RequestRecord:
    """A request that answered rows; its number is its span ID."""
    _, request = request_record()
    model = model or TOY
    answered = tuple(
        answered_row(str(n), row=n, label="a", confidence=0.5, inputs=row, time=1) for n, row in enumerate(rows)
    )
    return request._replace(
        span_id=number.to_bytes(8),
        pinned=pinned,
        trace_flags=int(sampled),
        predictions=answered,
        is_batch=len(rows) > 1,
        model=model,
    )


def points_of(*, exemplar_filter: str = "trace_based", delta: bool = False) -> FeatureMetrics:
    """Points of the toy schema."""
    watched = ModelCatalog()
    watched.add(TOY, ReferenceData(FeatureBins(SCHEMA), {}))
    return FeatureMetrics(watched, exemplar_filter=exemplar_filter, delta=delta)


def counts(points: FeatureMetrics) -> dict[tuple[str, str], int]:
    """What was met, by feature and bin; without zeros."""
    data = points.collect()[0].data.data_points
    found = {(p.attributes["ml.feature.name"], p.attributes["ml.feature.bin"]): p.value for p in data}  # type: ignore[index, union-attr]
    return {key: int(value) for key, value in found.items() if value}


def sums(points: FeatureMetrics) -> dict[str, float]:
    """The sum of each feature."""
    total: dict[str, float] = {}
    for point in points.collect()[1].data.data_points:
        said: Any = point.attributes
        sign = 1 if said["ml.feature.sign"] == "positive" else -1
        total[said["ml.feature.name"]] = total.get(said["ml.feature.name"], 0.0) + sign * point.value  # type: ignore[union-attr]
    return total


def exemplars(points: FeatureMetrics) -> dict[tuple[str, str], int]:
    """The request that each bin leads to."""
    return {
        (p.attributes["ml.feature.name"], p.attributes["ml.feature.bin"]): p.exemplars[0].span_id  # type: ignore[index, misc]
        for p in points.collect()[0].data.data_points
        if p.exemplars
    }


@given(st.lists(st.lists(ROWS, max_size=4), max_size=6))
def test_however_rows_come_together_they_are_counted_once(requests: list[Sequence[tuple[Any, ...]]]) -> None:
    """One request a row, or all in one: the same counts, and sums that are those of the values."""
    apart, together = points_of(), points_of()
    apart.add([request_of(*rows) for rows in requests])
    every = [row for rows in requests for row in rows]
    for row in every:
        together.add([request_of(row)])

    assert counts(apart) == counts(together)
    assert sum(counts(apart).values()) == 3 * len(every)
    for place, name in enumerate(("age", "balance")):
        expected = np.sum([row[place] for row in every if row[place] is not None])
        assert sums(apart)[name] == pytest.approx(expected, abs=1e-6)


def test_a_batch_larger_than_a_piece_is_counted_whole() -> None:
    """Rows are placed a piece at a time, and none is lost between two."""
    points = points_of()
    points.add([request_of(*[(30, 1.0, "pro")] * (2 * CHUNK_ROWS + 1))])

    assert set(counts(points).values()) == {2 * CHUNK_ROWS + 1}


def test_a_bin_leads_to_the_request_that_was_in_it_last() -> None:
    """A pinned one stays before all others; each is handed over once."""
    points = points_of()
    points.add([request_of((25, 0.0, "pro"), number=1), request_of((25, 0.0, "basic"), number=2)])
    points.add([request_of((25, 0.0, "x"), number=3, pinned=True), request_of((25, 19.0, "x"), number=4)])

    found = exemplars(points)
    assert found["plan", "pro"] == 1
    assert found["plan", "basic"] == 2
    assert found["plan", "other"] == 3
    assert found["age", "01"] == 3
    assert found["balance", "09"] == 4
    assert exemplars(points) == {}


@pytest.mark.parametrize(
    ("exemplar_filter", "expected"), [("trace_based", {1}), ("always_on", {2}), ("always_off", set())]
)
def test_a_trace_that_was_not_sampled_is_no_exemplar(exemplar_filter: str, expected: set[int]) -> None:
    """A link would lead nowhere, unless the filter asks for it."""
    points = points_of(exemplar_filter=exemplar_filter)
    points.add([request_of((25, 0.0, "pro"), number=1), request_of((25, 0.0, "pro"), number=2, sampled=False)])

    assert set(exemplars(points).values()) == expected


def test_what_is_new_is_told_once_to_who_asks_for_that() -> None:
    """With `delta` a collection takes what it tells; every bin is told, empty ones too, so that no rate starts late."""
    points = points_of(delta=True)
    points.add([request_of((25, -1.5, "pro"))])

    assert sums(points) == {"age": 25.0, "balance": -1.5}
    assert counts(points) == {}
    assert len(points.collect()[0].data.data_points) == len(FeatureBins(SCHEMA).bin_names)


def repeated(points: FeatureMetrics) -> int:
    """How many rows equalled one of the last."""
    (point,) = next(one for one in points.collect() if one.name == "ml.predictions.repeated").data.data_points
    assert point.attributes == {"ml.model.name": "toy", "ml.model.version": "1"}
    return int(point.value)  # type: ignore[union-attr]  # a sum


@pytest.mark.parametrize("delta", [False, True])
def test_rows_that_come_again_are_counted(delta: bool) -> None:
    """Of a cycle of few rows all but the first round; equal values of other features are other rows."""
    points = points_of(delta=delta)
    points.add([request_of((25, 0.0, "pro"), (25, 0.0, "basic"), (25, None, "pro")), request_of((26, 0.0, "pro"))])
    assert repeated(points) == 0
    for number in range(5):
        points.add([request_of((25 + number % 2, 0.0, "pro"))])
    assert repeated(points) == 5
    assert repeated(points) == (0 if delta else 5)


def test_synthetic_rows_are_not_counted() -> None:
    """Neither into bins nor as repeated ones."""
    points = points_of()
    points.add([request_of((25, 0.0, "pro"))._replace(synthetic=True)] * 3)
    assert counts(points) == {}
    assert repeated(points) == 0


@given(st.integers(1, 20), st.integers(1, 60))
def test_as_many_rows_are_remembered_as_promised(remembered: int, cycle: int) -> None:
    """A cycle up to that is seen whole from the second round on; one of more than twice as many never is."""
    repeats = RepeatedRowCounter(remembered)
    rounds = 4
    for _ in range(rounds):
        repeats.add([(number,) for number in range(cycle)])
    if cycle <= remembered:
        assert repeats.count == (rounds - 1) * cycle
    elif cycle > 2 * remembered:
        assert repeats.count == 0


def test_each_model_has_its_own_bins() -> None:
    """Rows of two versions are counted apart, each by its own edges; a version that nobody watches is not counted."""
    later = TOY._replace(version="2", hash="b" * 64)
    columns = {**COLUMNS, "age": np.arange(0.0, 400.0, 10.0)}
    schema = Schema(features=tuple(describe_column(pd.Series(values, name=name)) for name, values in columns.items()))
    watched = ModelCatalog()
    watched.add(TOY, ReferenceData(FeatureBins(SCHEMA), {}))
    watched.add(later, ReferenceData(FeatureBins(schema), {}))
    points = FeatureMetrics(watched, exemplar_filter="trace_based")
    row = (59, 0.0, "pro")
    points.add([request_of(row), request_of(row, model=later), request_of(row, row)])
    points.add([request_of(row, model=TOY._replace(version="3"))])

    found = {
        (p.attributes["ml.model.version"], p.attributes["ml.feature.bin"]): p.value  # type: ignore[index, union-attr]
        for p in points.collect()[0].data.data_points
        if p.attributes["ml.feature.name"] == "age" and p.value  # type: ignore[index, union-attr]
    }
    assert found == {("1", "09"): 3, ("2", "01"): 1}


def test_versions_of_the_past_are_told_for_a_while() -> None:
    """The last of them: a service that changes its version every day does not export all it ever had."""
    watched = ModelCatalog()
    points = FeatureMetrics(watched, exemplar_filter="trace_based")
    told: list[set[str]] = []
    for number in range(MAX_RETIRED_MODELS + 4):
        model = TOY._replace(version=str(number))
        watched.add(model, ReferenceData(FeatureBins(SCHEMA), {}))
        points.add([request_of((25, 0.0, "pro"), model=model)])
        told.append({p.attributes["ml.model.version"] for p in points.collect()[0].data.data_points})  # type: ignore[index, misc, union-attr]
        watched.retire(model)

    assert set.union(*told) == {str(number) for number in range(MAX_RETIRED_MODELS + 4)}
    assert all(len(versions) <= MAX_RETIRED_MODELS + 2 for versions in told)
    assert "0" not in told[-1]
