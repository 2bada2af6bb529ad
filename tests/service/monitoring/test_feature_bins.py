"""Assignment of values to the bins of the training data."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.reference_distribution import MAX_SINGLE_CATEGORIES
from modeltrace.inference.schema import Schema, Value
from modeltrace.monitoring.binning import FeatureBins

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
    """Counting the training data again yields the reference, unless one half of the rows selects the bins."""
    assume(column.dtype != "object" or (column.value_counts() == 1).sum() <= MAX_SINGLE_CATEGORIES)
    feature = describe_column(column)

    counts = count(FeatureBins(Schema(features=(feature,))), client_rows(column))

    assert counts == {
        (feature.name, name): round(share * feature.reference.n) for name, share in feature.reference.shares.items()
    }


@pytest.mark.slow
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
    [(None, "missing"), ("blue", "blue"), ("never seen", "unseen"), ("missing", "missing"), ("other", "other")],
)
def test_a_category_has_a_bin_of_its_name(value: str | None, expected: str) -> None:
    """A category that the training data does not contain counts as `unseen`."""
    bins = FeatureBins(Schema(features=(describe_column(pd.Series(["blue", "red", None], name="colour")),)))

    ((number,),) = bins.digitize([(value,)], bins.numeric_values([(value,)]))

    assert bins.bin_names[number] == ("colour", expected)


def test_a_number_on_an_edge_belongs_to_the_lower_bin() -> None:
    """Numbers outside the range of the training data have bins of their own, the first and the last one."""
    feature = describe_column(pd.Series(np.arange(1.0, 101.0), name="x"))
    bins = FeatureBins(Schema(features=(feature,)))
    edges = feature.reference.edges or ()

    names = [bins.bin_names[bins.digitize([(x,)], bins.numeric_values([(x,)]))[0, 0]][1] for x in (*edges, -1e30, 1e30)]

    assert names == [*(f"{n:02d}" for n in range(11)), "00", "11"]
    assert feature.reference.shares["00"] == feature.reference.shares["11"] == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=300), st.integers(0, 3))
def test_rounded_numbers_stay_in_their_bins(numbers: list[float], digits: int) -> None:
    """A client that sends the training data as float32, or with few digits as it was, shows no drift."""
    column = pd.Series(np.round(numbers, digits), name="x")
    feature = describe_column(column)
    bins = FeatureBins(Schema(features=(feature,)))

    sent = [(float(value),) for value in column.astype("float32")]

    assert count(bins, sent) == count(bins, client_rows(column))


def test_frequent_values_and_zero_have_bins_of_their_own() -> None:
    """A tie is not split and not merged with its neighbours, and a value that becomes zero can be seen."""
    rng = np.random.default_rng(0)
    column = pd.Series(np.where(rng.random(1000) < 0.3, 7.0, rng.normal(5, 3, 1000)), name="x")
    feature = describe_column(column)
    bins = FeatureBins(Schema(features=(feature,)))

    def bin_of(value: float) -> str:
        return bins.bin_names[bins.digitize([(value,)], bins.numeric_values([(value,)]))[0, 0]][1]

    assert feature.reference.shares[bin_of(7.0)] == (column == 7).mean()
    assert feature.reference.shares[bin_of(0.0)] == 0


@pytest.mark.parametrize("sign", [-1, 1])
def test_zero_is_outside_the_range_of_positive_and_negative_values(sign: int) -> None:
    """This holds even if the value next to zero is far from the others."""
    reference = describe_column(pd.Series(sign * np.array([0.001, 5, 6, 7, 8]), name="x")).reference
    edges = reference.edges or ()

    assert (0 < edges[0] < 0.001) if sign > 0 else (-0.001 < edges[-1] < 0)


def test_rare_categories_are_counted_apart_from_unseen_ones() -> None:
    """Half of the rows select the bins, and the shares of the other half are those of further rows."""
    rng = np.random.default_rng(1)
    draw = lambda rows: pd.Series([f"c{index}" for index in rng.zipf(1.5, rows)], name="x")  # noqa: E731  short
    feature = describe_column(draw(4000))
    bins = FeatureBins(Schema(features=(feature,)))

    counts = {name: rows / 20_000 for (_, name), rows in count(bins, client_rows(draw(20_000))).items()}

    assert feature.reference.n <= 2000
    assert counts == pytest.approx(feature.reference.shares, abs=0.03)
    assert counts["unseen"] == pytest.approx(feature.reference.shares["unseen"], abs=0.02)
    assert counts["unseen"] > 0.05
    assert counts["other"] > 0.05


@pytest.mark.slow
def test_new_values_of_many_equal_categories_are_expected() -> None:
    """The estimated share of unseen values, and its error, agree with those of further rows."""
    errors = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        training = rng.integers(0, 5000, 2000)
        reference = describe_column(pd.Series(training.astype(str), name="x")).reference
        share = reference.shares["unseen"]
        errors.append((share - (1 - len(np.unique(training)) / 5000)) / np.sqrt(share * (1 - share) / reference.n))

    assert abs(np.mean(errors)) < 0.25
    assert 0.5 < np.std(errors) < 1.1


def test_unique_texts_have_no_bins_of_their_own() -> None:
    """Every value of an identifier is unseen, in the training data and later."""
    reference = describe_column(pd.Series([f"id {index}" for index in range(400)], name="x")).reference

    assert reference.shares == {"missing": 0.0, "other": 0.0, "unseen": 1.0}
