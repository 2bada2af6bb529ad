"""Values are counted into the bins that the training data were counted into."""

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
    """A column of training data, with values missing or not."""
    kind = draw(st.sampled_from(sorted(COLUMNS)))
    values = draw(st.lists(st.none() | COLUMNS[kind], min_size=1, max_size=60).filter(lambda v: set(v) != {None}))
    if kind == "number" or (kind == "integer" and None in values):
        return pd.Series(values, name=kind, dtype="float64")
    return pd.Series(values, name=kind, dtype="int64" if kind == "integer" else "object")


def sent(column: "pd.Series") -> list[tuple[Value, ...]]:
    """The same values as a client sends them."""
    return [(None if pd.isna(value) else value,) for value in column.tolist()]


def count(bins: FeatureBins, rows: list[tuple[Value, ...]]) -> dict[tuple[str, str], int]:
    """How many values fell into each bin."""
    places = bins.digitize(rows, bins.numeric_values(rows))
    return dict(zip(bins.bin_names, np.bincount(places.ravel(), minlength=len(bins.bin_names)).tolist(), strict=True))


@given(columns())
def test_the_training_data_fall_into_their_own_shares(column: "pd.Series") -> None:
    """Counted again, they are the reference to the digit: what never drifted shows no drift."""
    feature = describe_column(column)

    found = count(FeatureBins(Schema(features=(feature,))), sent(column))

    assert found == {
        (feature.name, name): round(share * feature.reference.n) for name, share in feature.reference.shares.items()
    }


@given(st.lists(columns(), min_size=1, max_size=5), st.data())
def test_every_value_falls_into_one_bin_of_its_own_feature(found: list["pd.Series"], data: st.DataObject) -> None:
    """Whatever is sent: seen before or not, missing or not."""
    features = tuple(describe_column(one).model_copy(update={"name": str(n)}) for n, one in enumerate(found))
    bins = FeatureBins(Schema(features=features))
    rows = data.draw(st.lists(st.tuples(*(st.none() | COLUMNS[str(one.name)] for one in found)), min_size=1))

    places = bins.digitize(rows, bins.numeric_values(rows))

    assert places.shape == (len(rows), len(features))
    assert [[bins.bin_names[place][0] for place in row] for row in places.tolist()] == [list(bins.names)] * len(rows)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "missing"), ("blue", "blue"), ("never seen", "other"), ("missing", "missing"), ("other", "other")],
)
def test_a_category_has_a_bin_of_its_name(value: str | None, expected: str) -> None:
    """What is new counts as `other`, so a share of new categories is a query."""
    bins = FeatureBins(Schema(features=(describe_column(pd.Series(["blue", "red", None], name="colour")),)))

    ((place,),) = bins.digitize([(value,)], bins.numeric_values([(value,)]))

    assert bins.bin_names[place] == ("colour", expected)


def test_a_number_belongs_to_the_bin_that_it_is_the_upper_edge_of() -> None:
    """As in the training data; beyond all edges there is the last bin."""
    feature = describe_column(pd.Series(np.arange(1.0, 101.0), name="x"))
    bins = FeatureBins(Schema(features=(feature,)))
    edges = feature.reference.edges or ()

    found = [bins.bin_names[bins.digitize([(x,)], bins.numeric_values([(x,)]))[0, 0]][1] for x in (*edges, -1e30, 1e30)]

    assert found == [*(f"{n:02d}" for n in range(9)), "00", "09"]
