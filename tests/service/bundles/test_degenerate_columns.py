"""Columns with hardly any or with extreme variation: each column that can be packed gives finite metrics."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier, DummyRegressor

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.pack import pack
from modeltrace.bundles.reference_distribution import numeric_reference
from modeltrace.bundles.verify_outputs import to_rows
from modeltrace.errors import PackError
from modeltrace.inference.model import Model
from modeltrace.inference.pipeline import model_info
from modeltrace.inference.validate import MAX_FLOAT, MAX_INTEGER
from modeltrace.monitoring import drift
from modeltrace.monitoring.drilldown import PREDICTION, drill_down
from modeltrace.monitoring.model_event import log_model_event
from modeltrace.monitoring.reference_gauges import critical_values, reference_metrics
from tests.helpers.factories import stored_predictions

floats = (
    st.floats(-MAX_FLOAT, MAX_FLOAT)
    | st.sampled_from((0.1, 19.99, 1 / 3, 5e-324, 1e-300, 1e300, -1e300, MAX_FLOAT, math.inf, -math.inf))
    | st.integers(-3, 3).map(float)
)
whole = st.integers(-(2**63), 2**64 - 1) | st.integers(-3, 3)
texts = st.text(max_size=3) | st.sampled_from(("a", "missing", "other", "x" * 300))


def constant_values(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Draw one value many times, possibly with one other value."""
    return st.builds(
        lambda value, n, more: [value] * n + more, values, st.integers(1, 60), st.lists(values, max_size=2)
    )


def columns(values: st.SearchStrategy[Any], *dtypes: Any) -> st.SearchStrategy["pd.Series"]:
    """Draw a column of these values, with or without gaps, in one of these dtypes."""
    lists = constant_values(values) | st.lists(values, min_size=1, max_size=40)
    return st.builds(
        lambda drawn, gap, dtype: _series([*drawn, None] if gap else drawn, dtype),
        lists,
        st.booleans(),
        st.sampled_from(dtypes),
    ).filter(lambda column: column is not None)


def _series(values: list[Any], dtype: Any) -> "pd.Series | None":
    try:
        with np.errstate(over="ignore"):
            return pd.Series(values, dtype=dtype)
    except (TypeError, ValueError, OverflowError):
        return None


any_column = (
    columns(floats, "float64", "float32", "Float64", "category")
    | columns(whole, "int64", "uint64", "float64", "Int64", "UInt64", "category", object)
    | columns(st.booleans(), "bool", "boolean", "category", object)
    | columns(texts, "str", object, "string", "category")
)


@pytest.mark.slow
@settings(max_examples=40)
@given(column=any_column, regressor=st.booleans())
@example(column=pd.Series([0.1] * 3000), regressor=False)
@example(column=pd.Series([1.0, math.nextafter(1.0, 2.0)] * 50), regressor=True)
@example(column=pd.Series([-MAX_FLOAT, MAX_FLOAT] * 50), regressor=False)
@example(column=pd.Series([5e-324, 0.0] * 50), regressor=True)
def test_every_packed_column_gives_finite_metrics(column: "pd.Series", regressor: bool) -> None:
    """Bundle, start and drift window give finite numbers, or the column is refused by name."""
    table = pd.DataFrame({"x": column.to_numpy() if column.dtype == "float64" else column.array})
    target = [float(index % 2) for index in range(len(table))]
    estimator: Any = DummyRegressor() if regressor else DummyClassifier()
    with TemporaryDirectory() as folder:
        try:
            bundle = pack(estimator.fit(np.zeros((len(table), 1)), target), table, name="m", out=Path(folder) / "b")
        except PackError as error:
            if "column x" not in str(error):
                raise
            return
        model = load_bundle(bundle)
    check_metrics(model, to_rows(table))


def check_metrics(model: Model, rows: list[tuple[object, ...]]) -> None:
    """Compute what a start, a window of 400 rows and `evidence` compute, and check that everything is finite."""
    (feature,) = model.schema.features
    log_model_event(model)
    figures = [point for points in reference_metrics(model).gauges.values() for point, _ in points]
    assert all(map(math.isfinite, [*figures, *critical_values(model).values()]))

    predictions = stored_predictions(model, [{"x": value} for (value,) in (rows * 400)[:400]])
    for name in (feature.name, PREDICTION):
        report = drill_down(model, model_info(model), name, predictions, max_traces=3)
        assert report.rows == 400
        for finding in report.results:
            assert math.isfinite(finding.value), finding
            has_reference = name == feature.name or model.held_out is not None
            assert math.isfinite(finding.threshold) or not has_reference, finding
            # A cycle of equal rows can be worth fewer than 200 independent rows.
            states = ("ok", "drift", "rows repeat", "reference too small", "not enough data")
            assert finding.state in (states if has_reference else ("no held-out reference",))


@pytest.mark.parametrize("value", [3.0, 0.5, 0.1, 0.07, 19.99, 1 / 3, -0.3, 1e-9, 1e-300, 1e37])
@pytest.mark.parametrize("n", [1, 50, 398, 5000])
def test_a_constant_has_the_deviation_0(value: float, n: int) -> None:
    """The mean of equal numbers is that number, for any number of rows."""
    reference = numeric_reference(np.full(n, value), n=n)

    assert (reference.mean, reference.deviation) == (value, 0.0)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_moments_neither_overflow_nor_vanish(scale: float) -> None:
    """Mean and deviation scale with the numbers."""
    values = np.array([1.0, 2.0, 4.0, 9.0])
    reference = numeric_reference(values * scale, n=4)

    assert reference.mean == pytest.approx(4.0 * scale, rel=1e-12)
    assert reference.deviation == pytest.approx(values.std() * scale, rel=1e-12)
    assert reference.edges == pytest.approx(np.array([0.5, 1.5, 3.0, 6.5, 11.5]) * scale)


def test_the_largest_numbers_of_both_signs_give_finite_metrics() -> None:
    """The difference of two such doubles is infinite, but the metrics are not."""
    largest = float(np.finfo(np.float64).max)
    reference = numeric_reference(np.array([-largest, largest]), n=2)

    assert reference.mean == 0.0
    assert reference.deviation == largest
    assert all(map(math.isfinite, reference.edges or ()))
    assert numeric_reference(np.array([-largest]), n=1).edges == pytest.approx((-largest, -largest * (1 - 1e-6)))


def test_a_constant_has_no_scores() -> None:
    """Its location and spread cannot change; a value outside its bin shows as PSI and KS."""
    scores = drift.normal_scores([0.0, 1.0, 0.0])

    assert scores.tolist() == [0.0, 0.0, 0.0]
    assert not drift.has_reliable_scores(scores, [0.0, 1.0, 0.0])
    assert not drift.has_reliable_scores(drift.spread_scores(scores, [0.0, 1.0, 0.0]), [0.0, 1.0, 0.0])


def test_a_single_class_cannot_drift() -> None:
    """A single bin has no degree of freedom: critical value and statistic are 0."""
    assert drift.critical_psi(1, 10, 1e-4) == drift.critical_jensen_shannon(1, 1e-4) == 0.0
    assert drift.psi([400], [10]) == 0.0


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.Series([1.0, math.inf]), "row 1 .*infinite|infinite.*row 1"),
        (pd.Series([1.0, -1e300]), "row 1 .*-1e.300, beyond"),
        (pd.Series([2**64 - 1], dtype="uint64"), "row 0 .*identifiers"),
        (pd.Series([2**63 - 1]), "row 0 .*beyond"),
        (pd.Series([None, None], dtype=object), "every value is missing"),
    ],
)
def test_values_that_a_request_cannot_send_are_refused(column: "pd.Series", message: str) -> None:
    """The message names column, row and remedy."""
    with pytest.raises(PackError, match=message) as refused:
        describe_column(column.rename("x"))
    assert "fit again" in str(refused.value)


def test_the_largest_numbers_that_a_request_can_send_are_accepted() -> None:
    """Training data and requests have the same limits."""
    assert describe_column(pd.Series([-MAX_FLOAT, MAX_FLOAT], name="x")).training_range == (-MAX_FLOAT, MAX_FLOAT)
    assert describe_column(pd.Series([int(MAX_INTEGER)], name="x")).example == int(MAX_INTEGER)
