"""Shifts of a population, each with the number of predictions that must suffice to detect it."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.drift.populations import GENERATED, ROWS, Population, Rng
from bench.drift.real_data import REAL, load_real

Change = Callable[[pd.DataFrame, str, Rng], "pd.Series"]


class Shift(NamedTuple):
    """A change of columns.

    Attributes:
        name: the name in the tables.
        columns: the columns of the mixed population that it can change. One is changed, in turns.
        change: returns the changed values of a column.
        goal: the number of predictions after which 95 % of the runs must detect it; `None` without a goal.
        together: the number of columns that are changed at once.
        numeric: whether it can change every numeric column.
    """

    name: str
    columns: tuple[str, ...]
    change: Change
    goal: int | None = None
    together: int = 1
    numeric: bool = True

    def apply(self, rows: pd.DataFrame, columns: tuple[str, ...], turn: int, rng: Rng) -> pd.DataFrame:
        """Return the rows with changed columns. `turn` selects the columns."""
        changed = [columns[(turn + offset) % len(columns)] for offset in range(self.together)]
        return rows.assign(**{name: self.change(rows, name, rng) for name in changed})


MIXED: Final = "mixed"
NUMERIC_COLUMNS: Final = ("normal", "skewed", "amount", "age", "ratio", "partial")


def mixed_population(rng: Rng) -> Population:
    """Return ten columns: six numeric ones, a category, two booleans of 1 % and 5 %, a number that is often missing."""
    columns = {
        "normal": rng.normal(size=ROWS),
        "skewed": rng.gamma(2, 3, ROWS),
        "amount": rng.lognormal(3, 0.8, ROWS),
        "age": rng.normal(45, 15, ROWS).round(),
        "ratio": rng.beta(2, 5, ROWS),
        "partial": pd.Series(rng.normal(100, 15, ROWS)).mask(rng.random(ROWS) < 0.05),
        "kind": rng.choice(["a", "b", "c", "d", "e"], ROWS, p=[0.5, 0.2, 0.15, 0.1, 0.05]),
        "rare_flag": rng.random(ROWS) < 0.01,
        "flag": rng.random(ROWS) < 0.05,
        "often_missing": pd.Series(rng.normal(size=ROWS)).mask(rng.random(ROWS) < 0.3),
    }
    return Population(MIXED, pd.DataFrame(columns))


def load_population(name: str, rng: Rng) -> Population:
    """Return the real or generated population of this name."""
    if name in REAL:
        return load_real(name)
    return mixed_population(rng) if name == MIXED else GENERATED[name](rng)


def _add_deviations(number: float) -> Change:
    return lambda rows, name, _: rows[name] + number * rows[name].std()


def _spread(rows: pd.DataFrame, name: str, rng: Rng) -> "pd.Series":  # noqa: ARG001  the signature of a change
    wider: pd.Series = rows[name].mean() + (rows[name] - rows[name].mean()) * np.sqrt(1.5)
    return wider


def _replace(share: float, value: object) -> Change:
    """Replace a share of the values at random positions."""

    def change(rows: pd.DataFrame, name: str, rng: Rng) -> "pd.Series":
        return rows[name].mask(_choose(np.ones(len(rows), dtype=bool), share * len(rows), rng), value)

    return change


def _raise_share(share: float) -> Change:
    def change(rows: pd.DataFrame, name: str, rng: Rng) -> "pd.Series":
        false = ~rows[name].to_numpy(dtype=bool)
        return rows[name] | _choose(false, share * len(rows) - rows[name].sum(), rng)

    return change


def _fill(rows: pd.DataFrame, name: str, rng: Rng) -> "pd.Series":
    drawn = rows[name].dropna().sample(len(rows), replace=True, random_state=rng).set_axis(rows.index)
    filled: pd.Series = rows[name].fillna(drawn)
    return filled


def _choose(eligible: NDArray[np.bool_], number: float, rng: Rng) -> NDArray[np.bool_]:
    """Choose a number of eligible rows at random."""
    chosen = np.zeros_like(eligible)
    chosen[rng.choice(np.flatnonzero(eligible), round(number), replace=False)] = True
    return chosen


def _rename(rows: pd.DataFrame, name: str, rng: Rng) -> "pd.Series":  # noqa: ARG001  the signature of a change
    return "new" + rows[name]


# A shift of the population "rare categories", which has a column of 5,000 equal levels.
ALL_NEW: Final = Shift("all of 5,000 levels are new", ("equal_levels",), _rename, numeric=False)
SHIFTS: Final = (
    Shift("mean + 0.25 deviations", NUMERIC_COLUMNS, _add_deviations(0.25), goal=1000),
    Shift("mean + 1 deviation", NUMERIC_COLUMNS, _add_deviations(1.0), goal=200),
    Shift("variance + 50 %", NUMERIC_COLUMNS, _spread, goal=1000),
    Shift("5 % zeros", ("skewed", "amount", "age", "ratio", "partial"), _replace(0.05, 0.0), goal=2000),
    Shift("six features + 0.15 deviations", NUMERIC_COLUMNS, _add_deviations(0.15), goal=2000, together=6),
    Shift("new category, 1 %", ("kind",), _replace(0.01, "new"), goal=5000, numeric=False),
    Shift("boolean 1 % to 5 %", ("rare_flag",), _raise_share(0.05), goal=2000, numeric=False),
    Shift("boolean 5 % to 12 %", ("flag",), _raise_share(0.12), numeric=False),
    Shift("missing 30 % to 0", ("often_missing",), _fill, numeric=False),
)
