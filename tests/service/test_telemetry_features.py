"""Metrics of features: exact counts, sums and exemplars."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bundles.column_schema import describe_column
from modeltrace.inference.schema import Schema
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.telemetry.metrics.features import CHUNK_ROWS, MAX_RETIRED_MODELS, FeatureMetrics
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog, ReferenceData
from modeltrace.telemetry.metrics.row_dependence import RepeatedRowCounter
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import RequestRecord
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
    """Return a request with predicted rows; its number is its span ID."""
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
    """Return metrics of the toy schema."""
    catalog = ModelCatalog()
    catalog.add(TOY, ReferenceData(FeatureBins(SCHEMA), {}))
    return FeatureMetrics(catalog, exemplar_filter=exemplar_filter, delta=delta)


def counts(metrics: FeatureMetrics) -> dict[tuple[str, str], int]:
    """Return the counts by feature and bin, without zeros."""
    data = metrics.collect()[0].data.data_points
    by_bin = {(p.attributes["ml.feature.name"], p.attributes["ml.feature.bin"]): p.value for p in data}  # type: ignore[index, union-attr]
    return {key: int(value) for key, value in by_bin.items() if value}


def sums(metrics: FeatureMetrics) -> dict[str, float]:
    """Return the sum of each feature."""
    total: dict[str, float] = {}
    for point in metrics.collect()[1].data.data_points:
        attributes: Any = point.attributes
        sign = 1 if attributes["ml.feature.sign"] == "positive" else -1
        total[attributes["ml.feature.name"]] = total.get(attributes["ml.feature.name"], 0.0) + sign * point.value  # type: ignore[union-attr]
    return total


def exemplars(metrics: FeatureMetrics) -> dict[tuple[str, str], int]:
    """Return the request of the exemplar of each bin."""
    return {
        (p.attributes["ml.feature.name"], p.attributes["ml.feature.bin"]): p.exemplars[0].span_id  # type: ignore[index, misc]
        for p in metrics.collect()[0].data.data_points
        if p.exemplars
    }


@given(st.lists(st.lists(ROWS, max_size=4), max_size=6))
def test_counts_do_not_depend_on_how_rows_are_grouped(requests: list[Sequence[tuple[Any, ...]]]) -> None:
    """Requests of one row and requests of several rows give the same counts and sums."""
    grouped, single = points_of(), points_of()
    grouped.add([request_of(*rows) for rows in requests])
    every = [row for rows in requests for row in rows]
    for row in every:
        single.add([request_of(row)])

    assert counts(grouped) == counts(single)
    assert sum(counts(grouped).values()) == 3 * len(every)
    for index, name in enumerate(("age", "balance")):
        expected = np.sum([row[index] for row in every if row[index] is not None])
        assert sums(grouped)[name] == pytest.approx(expected, abs=1e-6)


def test_a_batch_larger_than_a_chunk_is_counted_completely() -> None:
    """Rows are binned chunk by chunk, and no row is lost in between."""
    metrics = points_of()
    metrics.add([request_of(*[(30, 1.0, "pro")] * (2 * CHUNK_ROWS + 1))])

    assert set(counts(metrics).values()) == {2 * CHUNK_ROWS + 1}


def test_the_exemplar_of_a_bin_is_its_latest_request() -> None:
    """A pinned request is preferred. Each exemplar is returned once."""
    metrics = points_of()
    metrics.add([request_of((25, 0.0, "pro"), number=1), request_of((25, 0.0, "basic"), number=2)])
    metrics.add([request_of((25, 0.0, "x"), number=3, pinned=True), request_of((25, 19.0, "x"), number=4)])

    by_bin = exemplars(metrics)
    assert by_bin["plan", "pro"] == 1
    assert by_bin["plan", "basic"] == 2
    assert by_bin["plan", "unseen"] == 3
    assert by_bin["age", "02"] == 3
    assert by_bin["balance", "11"] == 4
    assert exemplars(metrics) == {}


@pytest.mark.parametrize(
    ("exemplar_filter", "expected"), [("trace_based", {1}), ("always_on", {2}), ("always_off", set())]
)
def test_a_trace_that_is_not_sampled_is_no_exemplar(exemplar_filter: str, expected: set[int]) -> None:
    """Its trace ID would be unknown to the backend. `OTEL_METRICS_EXEMPLAR_FILTER` decides."""
    metrics = points_of(exemplar_filter=exemplar_filter)
    metrics.add([request_of((25, 0.0, "pro"), number=1), request_of((25, 0.0, "pro"), number=2, sampled=False)])

    assert set(exemplars(metrics).values()) == expected


def test_with_delta_temporality_counts_are_returned_once() -> None:
    """Each collection starts counting anew. It has a point for every bin, so that no rate starts late."""
    metrics = points_of(delta=True)
    metrics.add([request_of((25, -1.5, "pro"))])

    assert sums(metrics) == {"age": 25.0, "balance": -1.5}
    assert counts(metrics) == {}
    assert len(metrics.collect()[0].data.data_points) == len(FeatureBins(SCHEMA).bin_names)


def repeated(metrics: FeatureMetrics) -> int:
    """Return the number of repeated rows."""
    (point,) = next(metric for metric in metrics.collect() if metric.name == "ml.predictions.repeated").data.data_points
    assert point.attributes == {"ml.model.name": "toy", "ml.model.version": "1"}
    return int(point.value)  # type: ignore[union-attr]  # a sum


def differences(metrics: FeatureMetrics) -> dict[str, float]:
    """Return the differences between consecutive requests by feature, of the predictions, and the number of pairs."""
    by_name = {metric.name: metric.data.data_points for metric in metrics.collect()}
    differences = {p.attributes["ml.feature.name"]: p.value for p in by_name["ml.feature.successive_difference"]}  # type: ignore[index, union-attr]
    (prediction,), (pairs,) = by_name["ml.prediction.successive_difference"], by_name["ml.predictions.pairs"]
    return {**differences, "prediction": prediction.value, "pairs": pairs.value}  # type: ignore[dict-item, union-attr]


@pytest.mark.parametrize("delta", [False, True])
def test_consecutive_requests_are_compared(delta: bool) -> None:
    """Only the first row of a request counts. Chunks of records and collections do not interrupt the sequence."""
    metrics, bins = points_of(delta=delta), FeatureBins(SCHEMA)
    score = dict(zip(bins.bin_names, bins.scores.tolist(), strict=True))
    metrics.add([request_of((25, None, "pro"), (59, 1.0, "x")), request_of((25, 19.0, "basic"))])
    first = differences(metrics)
    metrics.add([request_of((59, 19.0, "basic"))])

    age = (score["age", "02"] - score["age", "10"]) ** 2 / 2
    balance = score["balance", "11"] ** 2 / 2  # a missing number has the score 0
    assert first == pytest.approx({"age": 0, "balance": balance, "plan": 1, "prediction": 0, "pairs": 1})
    second = {"age": age, "balance": 0, "plan": 0, "prediction": 0, "pairs": 1}
    total = second if delta else {name: value + first[name] for name, value in second.items()}
    assert differences(metrics) == pytest.approx(total)


def test_a_batch_of_several_chunks_is_one_request() -> None:
    """Its rows are not compared with each other."""
    metrics = points_of()
    metrics.add([request_of(*[(25 + n % 2, 1.0, "pro") for n in range(2 * CHUNK_ROWS + 1)])] * 1)
    assert set(differences(metrics).values()) == {0}


def test_predictions_of_a_regressor_are_compared_by_score() -> None:
    """A bin that the bundle does not have has the score 0."""
    catalog, model = ModelCatalog(), TOY._replace(value_edges=(0.0, 1.0))
    catalog.add(model, ReferenceData(FeatureBins(SCHEMA), {}, output_scores={"00": -1.0, "01": 2.0}))
    metrics = FeatureMetrics(catalog, exemplar_filter="trace_based")
    for value in (-5.0, 0.5, 7.0, 7.0):
        request = request_of((25, 0.0, "pro"), model=model)
        metrics.add([request._replace(predictions=(request.predictions[0]._replace(label=None, value=value),))])

    assert differences(metrics)["prediction"] == (9 + 4) / 2


@pytest.mark.parametrize("delta", [False, True])
def test_repeated_rows_are_counted(delta: bool) -> None:
    """Rows count from their second occurrence on. A row is repeated only if all of its values are equal."""
    metrics = points_of(delta=delta)
    metrics.add([request_of((25, 0.0, "pro"), (25, 0.0, "basic"), (25, None, "pro")), request_of((26, 0.0, "pro"))])
    assert repeated(metrics) == 0
    for number in range(5):
        metrics.add([request_of((25 + number % 2, 0.0, "pro"))])
    assert repeated(metrics) == 5
    assert repeated(metrics) == (0 if delta else 5)


def test_synthetic_rows_are_not_counted() -> None:
    """They count neither in bins nor as repeated rows."""
    metrics = points_of()
    metrics.add([request_of((25, 0.0, "pro"))._replace(synthetic=True)] * 3)
    assert counts(metrics) == {}
    assert repeated(metrics) == 0


@given(st.integers(1, 20), st.integers(1, 60))
def test_the_number_of_remembered_rows_is_bounded_from_both_sides(remembered: int, cycle: int) -> None:
    """All rows of a cycle up to the number are repeated; none of a cycle of more than twice the number."""
    repeats = RepeatedRowCounter(remembered)
    rounds = 4
    for _ in range(rounds):
        repeats.add([(number,) for number in range(cycle)])
    if cycle <= remembered:
        assert repeats.count == (rounds - 1) * cycle
    elif cycle > 2 * remembered:
        assert repeats.count == 0


def test_each_model_has_its_own_bins() -> None:
    """Two versions are counted separately, each by its own edges. A version outside the catalog is not counted."""
    later = TOY._replace(version="2", hash="b" * 64)
    columns = {**COLUMNS, "age": np.arange(0.0, 400.0, 10.0)}
    schema = Schema(features=tuple(describe_column(pd.Series(values, name=name)) for name, values in columns.items()))
    catalog = ModelCatalog()
    catalog.add(TOY, ReferenceData(FeatureBins(SCHEMA), {}))
    catalog.add(later, ReferenceData(FeatureBins(schema), {}))
    metrics = FeatureMetrics(catalog, exemplar_filter="trace_based")
    row = (59, 0.0, "pro")
    metrics.add([request_of(row), request_of(row, model=later), request_of(row, row)])
    metrics.add([request_of(row, model=TOY._replace(version="3"))])

    by_bin = {
        (p.attributes["ml.model.version"], p.attributes["ml.feature.bin"]): p.value  # type: ignore[index, union-attr]
        for p in metrics.collect()[0].data.data_points
        if p.attributes["ml.feature.name"] == "age" and p.value  # type: ignore[index, union-attr]
    }
    assert by_bin == {("1", "10"): 3, ("2", "03"): 1}


def test_a_limited_number_of_retired_versions_is_reported() -> None:
    """The latest ones are reported, so that a service does not export every version that it has ever served."""
    catalog = ModelCatalog()
    metrics = FeatureMetrics(catalog, exemplar_filter="trace_based")
    reported: list[set[str]] = []
    for number in range(MAX_RETIRED_MODELS + 4):
        model = TOY._replace(version=str(number))
        catalog.add(model, ReferenceData(FeatureBins(SCHEMA), {}))
        metrics.add([request_of((25, 0.0, "pro"), model=model)])
        reported.append({p.attributes["ml.model.version"] for p in metrics.collect()[0].data.data_points})  # type: ignore[index, misc, union-attr]
        catalog.retire(model)

    assert set.union(*reported) == {str(number) for number in range(MAX_RETIRED_MODELS + 4)}
    assert all(len(versions) <= MAX_RETIRED_MODELS + 2 for versions in reported)
    assert "0" not in reported[-1]
