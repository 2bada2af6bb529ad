"""When rows repeat: against what the training data makes likely."""

import numpy as np
import pandas as pd
import pytest

from modeltrace.bundles.repeated_rows import duplicate_probability
from modeltrace.monitoring.drift import drift_state, max_repeated_share, min_distinct_rows

ROWS = 500


def table(kind: str, rng: np.random.Generator, rows: int) -> pd.DataFrame:
    """Independent rows of a population."""
    if kind == "numbers":
        return pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows)})
    if kind == "categories":
        return pd.DataFrame({"a": rng.choice(["x", "y", "z"], rows), "b": rng.choice(6, rows)})
    return pd.DataFrame({"age": rng.integers(18, 90, rows), "plan": rng.choice(["a", "b"], rows, p=[0.9, 0.1])})


@pytest.mark.parametrize("kind", ["numbers", "categories", "mixed"])
@pytest.mark.parametrize("rows", [200, 2000, 20_000])
def test_independent_rows_never_repeat_too_much(kind: str, rows: int) -> None:
    """However few possible rows the population has: neither distinct rows nor the last ones give an alarm."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        chance = duplicate_probability(table(kind, rng, ROWS))
        window = table(kind, rng, rows)
        assert len(window.drop_duplicates()) >= min_distinct_rows(rows, chance)
        remembered = pd.concat([table(kind, rng, 2000), window])
        again = remembered.duplicated().to_numpy()[-rows:].mean()
        assert again <= max_repeated_share(chance, len(remembered))


@pytest.mark.parametrize("cycle", [1, 20, 171])
def test_a_cycle_of_few_rows_is_found(cycle: int) -> None:
    """A client that sends 171 rows again and again, for 10,000 predictions."""
    chance = duplicate_probability(table("numbers", np.random.default_rng(0), 398))
    assert cycle < min_distinct_rows(10_000, chance)
    assert (10_000 - cycle) / 10_000 > max_repeated_share(chance, 8192)


def test_degenerate_tables_have_a_chance_too() -> None:
    """One row, equal rows, missing values, texts beside numbers: always a probability."""
    assert duplicate_probability(pd.DataFrame({"a": [1.0]})) == 1
    assert duplicate_probability(pd.DataFrame({"a": [None] * 50, "b": [np.nan] * 50})) == 1
    odd = pd.DataFrame({"a": [1, "x", None, True, 2.5] * 2, "b": pd.Categorical(list("abcde") * 2)})
    assert 0 < duplicate_probability(odd) < 1


def test_states_of_rows_that_repeat() -> None:
    """Few rows are few first; of many that repeat nothing is said, whatever the value."""
    assert drift_state(9.0, 0.1, 100, rows_repeat=True) == "not enough data"
    assert {drift_state(value, 0.1, 10_000, rows_repeat=True) for value in (0.0, 9.0)} == {"rows repeat"}
    assert min_distinct_rows(1000, 0.0) == 500
