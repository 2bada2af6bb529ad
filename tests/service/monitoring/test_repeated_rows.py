"""Detection of repeated rows, relative to the training data."""

import numpy as np
import pandas as pd
import pytest

from modeltrace.bundles.duplicate_probability import duplicate_probability
from modeltrace.monitoring.drift import drift_state, max_repeated_share, min_distinct_rows

ROWS = 500


def table(kind: str, rng: np.random.Generator, rows: int) -> pd.DataFrame:
    """Return independent rows of a population."""
    if kind == "numbers":
        return pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows)})
    if kind == "categories":
        return pd.DataFrame({"a": rng.choice(["x", "y", "z"], rows), "b": rng.choice(6, rows)})
    return pd.DataFrame({"age": rng.integers(18, 90, rows), "plan": rng.choice(["a", "b"], rows, p=[0.9, 0.1])})


@pytest.mark.parametrize("kind", ["numbers", "categories", "mixed"])
@pytest.mark.parametrize("rows", [200, 2000, 20_000])
def test_independent_rows_raise_no_alarm(kind: str, rows: int) -> None:
    """Even a population of few possible rows exceeds neither limit."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        probability = duplicate_probability(table(kind, rng, ROWS))
        window = table(kind, rng, rows)
        assert len(window.drop_duplicates()) >= min_distinct_rows(rows, probability)
        remembered = pd.concat([table(kind, rng, 2000), window])
        repeated_share = remembered.duplicated().to_numpy()[-rows:].mean()
        assert repeated_share <= max_repeated_share(probability, len(remembered))


@pytest.mark.parametrize("cycle", [1, 20, 171])
def test_a_cycle_of_few_rows_is_detected(cycle: int) -> None:
    """A client repeats 171 rows for 10,000 predictions."""
    probability = duplicate_probability(table("numbers", np.random.default_rng(0), 398))
    assert cycle < min_distinct_rows(10_000, probability)
    assert (10_000 - cycle) / 10_000 > max_repeated_share(probability, 8192)


def test_degenerate_tables_have_a_probability() -> None:
    """One row, equal rows, missing values and mixed types all have a probability."""
    assert duplicate_probability(pd.DataFrame({"a": [1.0]})) == 1
    assert duplicate_probability(pd.DataFrame({"a": [None] * 50, "b": [np.nan] * 50})) == 1
    mixed = pd.DataFrame({"a": [1, "x", None, True, 2.5] * 2, "b": pd.Categorical(list("abcde") * 2)})
    assert 0 < duplicate_probability(mixed) < 1


def test_repeated_rows_have_their_own_state() -> None:
    """With few rows the state is "not enough data"; otherwise it is "rows repeat", whatever the value."""
    assert drift_state(9.0, 0.1, 100, 1000, rows_repeat=True) == "not enough data"
    assert {drift_state(value, 0.1, 10_000, 1000, rows_repeat=True) for value in (0.0, 9.0)} == {"rows repeat"}
    assert min_distinct_rows(1000, 0.0) == 500
