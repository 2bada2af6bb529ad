"""The reference distribution of the training data."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modeltrace.bundles.column_schema import MAX_LISTED_CATEGORIES, describe_column
from modeltrace.bundles.reference_distribution import MAX_CATEGORIES, numeric_reference
from modeltrace.errors import PackError

numbers = st.lists(st.floats(-1e9, 1e9) | st.integers(-3, 3).map(float), min_size=1, max_size=200)
texts = st.lists(st.sampled_from(["a", "b", "missing", "other"]) | st.text(max_size=2) | st.none(), min_size=1)


@example([0.0, 5e-324], 0)
@example([1.0, -5e-324], 0)
@example([429496729.9816983] * 5, 0)
@given(numbers, st.integers(0, 50))
def test_numeric_bins_are_consistent(values: list[float], missing: int) -> None:
    """Edges increase strictly and lie between values, the outer ones outside of all, and the shares add up to 1."""
    reference = numeric_reference(np.array(values), n=len(values) + missing)
    edges = reference.edges
    assert edges is not None

    assert list(edges) == sorted(set(edges))
    assert 2 <= len(edges) <= 23
    # No number is between neighbouring floats, one of which may be zero. Then the edge is the lower one.
    assert all(edge not in values or np.nextafter(edge, np.inf) in (*values, 0) for edge in edges)
    assert edges[0] < min(values) <= max(values) < edges[-1]
    assert list(reference.shares) == [*(f"{index:02d}" for index in range(len(edges) + 1)), "missing", "other"]
    assert sum(reference.shares.values()) == pytest.approx(1)
    assert reference.mean == pytest.approx(np.mean(values))
    # The numbers of a constant column have no deviation; NumPy's is the rounding error of its mean.
    assert reference.deviation == pytest.approx(np.std(values) if len(set(values)) > 1 else 0)


@given(numbers)
def test_a_bin_includes_its_upper_edge(values: list[float]) -> None:
    """Counting the training data into the bins again yields the shares."""
    reference = numeric_reference(np.array(values), n=len(values))
    bounds = [-np.inf, *(reference.edges or ()), np.inf]

    for index, (low, high) in enumerate(pairwise(bounds)):
        inside = sum(low < value <= high for value in values)
        assert reference.shares[f"{index:02d}"] == pytest.approx(inside / len(values))


@pytest.mark.parametrize("value", [0.0, -1.5, 3e300])
def test_a_constant_feature_has_a_bin_for_its_value(value: float) -> None:
    """Lower and higher values fall into other bins."""
    reference = numeric_reference(np.full(5, value), n=5)

    assert reference.shares == {"00": 0, "01": 1, "02": 0, "missing": 0, "other": 0}
    assert np.searchsorted(reference.edges or (), [value - 1e298, value, value + 1e298]).tolist() == [0, 1, 2]


def test_uniform_data_has_deciles() -> None:
    """A thousand different numbers fall into ten bins of a hundred, none of them outside the range."""
    shares = numeric_reference(np.arange(1.0, 1001.0), n=1000).shares

    assert [shares[f"{index:02d}"] for index in range(12)] == [0.0, *[pytest.approx(0.1)] * 10, 0.0]


@given(texts)
def test_the_shares_of_categories_add_up(values: list[str | None]) -> None:
    """No value is counted twice or lost, whatever the categories are called."""
    if not any(values):
        values = [*values, "a"]
    feature = describe_column(pd.Series(values, name="x", dtype=object))

    assert sum(feature.reference.shares.values()) == pytest.approx(1)
    assert len(feature.reference.shares) <= MAX_CATEGORIES + 3


def test_a_category_called_missing_or_other_counts_there() -> None:
    """These bins keep their meaning, and categories of these names are added to them."""
    shares = describe_column(pd.Series(["missing", "other", "a", None], name="x", dtype=object)).reference.shares

    assert shares == {"a": 0.25, "missing": 0.5, "other": 0.25, "unseen": 0.0}


def test_rare_categories_count_as_other() -> None:
    """Twenty frequent categories have a bin each; the shares are those of the half that did not select them."""
    values = [f"c{index:02d}" for index in range(30) for _ in range(30 - index)]
    reference = describe_column(pd.Series(values, name="x")).reference

    assert set(reference.shares) > {*(f"c{index:02d}" for index in range(10)), "missing", "other", "unseen"}
    assert len(reference.shares) <= 23
    assert reference.n < len(values) / 2
    assert reference.shares["unseen"] == pytest.approx(1 / len(values))  # the category that occurs once
    assert sum(reference.shares.values()) == pytest.approx(1)


def test_a_schema_lists_a_limited_number_of_categories() -> None:
    """A schema cannot be strict about more categories than it lists."""
    column = pd.Series([f"text {index}" for index in range(MAX_LISTED_CATEGORIES + 1)], name="x")

    feature = describe_column(column)
    assert len(feature.categories or ()) == MAX_LISTED_CATEGORIES
    assert "unseen" not in feature.reference.shares  # it is not known which values are new
    with pytest.raises(PackError, match="--strict-categories: column x has 10,001 categories, more than 10,000"):
        describe_column(column, strict_categories=True)


def test_the_example_is_in_the_valid_range() -> None:
    """The service accepts the example."""
    feature = describe_column(pd.Series(np.arange(100.0), name="x"), valid_range=(0, 10))

    assert 0 <= float(feature.example or 0) <= 10


def test_the_example_has_the_type_of_the_feature() -> None:
    """The example of an integer is an integer, that of a boolean is a boolean."""
    assert describe_column(pd.Series([1, 2, 3], name="x")).example == 2
    assert describe_column(pd.Series([True, True, False], name="x")).example is True


def test_a_range_of_categories_is_rejected() -> None:
    """Only numbers have a valid range."""
    with pytest.raises(PackError, match="column x has the type category, not a number"):
        describe_column(pd.Series(["a"], name="x"), valid_range=(0, 1))
