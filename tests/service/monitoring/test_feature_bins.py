"""Assignment of values to the bins of the training data."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bundles.columns import describe_column
from modeltrace.inference.schema import Schema, Value
from modeltrace.monitoring.bins import FeatureBins

NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, 1.0, 2.0])
COLUMNS = {
    "number": NUMBERS,
    "integer": st.integers(-50, 50),
    "boolean": st.booleans(),
    "category": st.text(max_size=3) | st.sampled_from(["missing", "other", "a", "b"]),
}


@st.composite
def columns(draw: st.DrawFn) -> "pd.Series":
    """Generate a column of training data, with or without missing values."""
    kind = draw(st.sampled_from(sorted(COLUMNS)))
    values = draw(st.lists(st.none() | COLUMNS[kind], min_size=1, max_size=60).filter(lambda v: set(v) != {None}))
    if kind == "number" or (kind == "integer" and None in values):
        return pd.Series(values, name=kind, dtype="float64")
    return pd.Series(values, name=kind, dtype="int64" if kind == "integer" else "object")


def client_rows(column: "pd.Series") -> list[tuple[Value, ...]]:
    """Return the values as a client sends them."""
    return [(None if pd.isna(value) else value,) for value in column.tolist()]


def count(bins: FeatureBins, rows: list[tuple[Value, ...]]) -> dict[tuple[str, str], int]:
    """Return the number of values in each bin."""
    numbers = bins.digitize(rows, bins.numeric_values(rows))
    return dict(zip(bins.bin_names, np.bincount(numbers.ravel(), minlength=len(bins.bin_names)).tolist(), strict=True))


@given(columns())
def test_the_training_data_has_the_shares_of_its_reference(column: "pd.Series") -> None:
    """Counting the training data again yields the reference, so it shows no drift."""
    feature = describe_column(column)

    counts = count(FeatureBins(Schema(features=(feature,))), client_rows(column))

    assert counts == {
        (feature.name, name): round(share * feature.reference.n) for name, share in feature.reference.shares.items()
    }


@given(st.lists(columns(), min_size=1, max_size=5), st.data())
def test_every_value_falls_into_one_bin_of_its_feature(training: list["pd.Series"], data: st.DataObject) -> None:
    """This holds for known, unknown and missing values."""
    features = tuple(describe_column(column).model_copy(update={"name": str(n)}) for n, column in enumerate(training))
    bins = FeatureBins(Schema(features=features))
    rows = data.draw(st.lists(st.tuples(*(st.none() | COLUMNS[str(column.name)] for column in training)), min_size=1))

    numbers = bins.digitize(rows, bins.numeric_values(rows))

    assert numbers.shape == (len(rows), len(features))
    assert [[bins.bin_names[number][0] for number in row] for row in numbers.tolist()] == [list(bins.names)] * len(rows)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "missing"), ("blue", "blue"), ("never seen", "other"), ("missing", "missing"), ("other", "other")],
)
def test_a_category_has_a_bin_of_its_name(value: str | None, expected: str) -> None:
    """An unknown category counts as `other`."""
    bins = FeatureBins(Schema(features=(describe_column(pd.Series(["blue", "red", None], name="colour")),)))

    ((number,),) = bins.digitize([(value,)], bins.numeric_values([(value,)]))

    assert bins.bin_names[number] == ("colour", expected)


def test_a_number_on_an_edge_belongs_to_the_lower_bin() -> None:
    """Numbers above all edges belong to the last bin."""
    feature = describe_column(pd.Series(np.arange(1.0, 101.0), name="x"))
    bins = FeatureBins(Schema(features=(feature,)))
    edges = feature.reference.edges or ()

    names = [bins.bin_names[bins.digitize([(x,)], bins.numeric_values([(x,)]))[0, 0]][1] for x in (*edges, -1e30, 1e30)]

    assert names == [*(f"{n:02d}" for n in range(9)), "00", "09"]
