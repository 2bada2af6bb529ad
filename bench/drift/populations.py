"""Populations from which training data and windows are drawn. Their rows are independent, and nothing drifts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.inference.tasks import Task

# The number of rows of a generated population.
ROWS: Final = 20_000
Rng = np.random.Generator


def _unchanged(rows: pd.DataFrame) -> pd.DataFrame:
    return rows


@dataclass(frozen=True)
class Population:
    """Rows from which training data and windows are drawn with replacement.

    Attributes:
        name: the name in the tables.
        rows: one column per feature.
        unique: a generator for each column whose values never repeat. Training data and windows get new values.
        send: how a client changes the rows before it sends them, for example by rounding.
        target: the labels of a model, if the drift of its outputs is checked, too.
        estimator: makes the estimator that is fitted on each training sample.
        unseen: whether windows have only rows that the training data does not have. A model that memorises its training
            rows has other outputs for them.
    """

    name: str
    rows: pd.DataFrame
    unique: Mapping[str, Callable[[Rng, int], Any]] = field(default_factory=dict)
    send: Callable[[pd.DataFrame], pd.DataFrame] = _unchanged
    target: NDArray[Any] | None = None
    estimator: Callable[[], Any] | None = None
    task: Task = "classifier"
    unseen: bool = False

    def draw_training(self, rng: Rng, n: int) -> tuple[pd.DataFrame, NDArray[np.intp]]:
        """Draw `n` training rows. Return them with their positions in the population."""
        drawn = rng.integers(len(self.rows), size=n)
        return self._renew(self.rows.iloc[drawn].reset_index(drop=True), rng), drawn

    def sent_rows(self, rng: Rng) -> pd.DataFrame:
        """Return all rows of the population as a client sends them."""
        return self.send(self._renew(self.rows, rng))

    def _renew(self, rows: pd.DataFrame, rng: Rng) -> pd.DataFrame:
        return rows.assign(**{name: values(rng, len(rows)) for name, values in self.unique.items()})


def _heavy_tails(rng: Rng) -> Population:
    spikes = rng.normal(size=ROWS) + 1000 * (rng.random(ROWS) < 0.002)
    columns = {
        "lognormal_1": rng.lognormal(0, 1, ROWS),
        "lognormal_2": rng.lognormal(0, 2, ROWS),
        "pareto": rng.pareto(1.2, ROWS),
        "student_t": rng.standard_t(2, ROWS),
        "rare_spikes": spikes,
        "celsius": rng.normal(1, 8, ROWS),
        "normal": rng.normal(size=ROWS),
    }
    return Population("heavy tails", pd.DataFrame(columns))


def _random_texts(rng: Rng, n: int) -> list[str]:
    return [f"{high:016x}{low:016x}" for high, low in rng.integers(0, 2**62, size=(n, 2)).tolist()]


def _random_numbers(rng: Rng, n: int) -> NDArray[np.int64]:
    return rng.integers(10**8, 10**9, n)


def _identifiers(rng: Rng) -> Population:
    unique: dict[str, Callable[[Rng, int], Any]] = {"request": _random_texts, "number": _random_numbers}
    columns = {
        **{name: values(rng, ROWS) for name, values in unique.items()},
        "customer": [f"c{number}" for number in rng.integers(5000, size=ROWS)],
        "amount": rng.lognormal(3, 0.8, ROWS),
        "hour": rng.integers(24, size=ROWS),
        "age": rng.normal(45, 15, ROWS).round(),
    }
    return Population("identifiers", pd.DataFrame(columns), unique)


def _rare_categories(rng: Rng) -> Population:
    columns = {
        "zipf": [f"word{number}" for number in rng.zipf(1.3, ROWS)],
        "equal_levels": [f"level{number}" for number in rng.integers(5000, size=ROWS)],
        "geometric": [f"g{number}" for number in rng.geometric(0.15, ROWS)],
        "rare_value": np.where(rng.random(ROWS) < 0.003, "rare", "usual"),
        "one_percent": rng.random(ROWS) < 0.01,
        "coded": pd.Categorical(rng.poisson(2, ROWS), categories=range(20)),
        "country": rng.choice(["de", "fr", "it", "es", "pl"], ROWS, p=[0.6, 0.2, 0.1, 0.07, 0.03]),
    }
    return Population("rare categories", pd.DataFrame(columns))


def _ties(rng: Rng) -> Population:
    columns = {
        "rounded": rng.normal(0, 0.3, ROWS).round(1),
        "count": rng.poisson(1.0, ROWS),
        "rare_count": rng.poisson(0.05, ROWS),
        "zero_inflated": np.where(rng.random(ROWS) < 0.7, 0.0, rng.exponential(5, ROWS)),
        "step_of_five": 5.0 * rng.binomial(20, 0.3, ROWS),
        "rating": rng.choice([1, 2, 3, 4, 5], ROWS, p=[0.05, 0.05, 0.15, 0.25, 0.5]),
        "two_values": rng.choice([0.0, 1.0], ROWS, p=[0.97, 0.03]),
        "price": np.round(rng.lognormal(2, 0.5, ROWS)) - 0.01,
    }
    return Population("ties", pd.DataFrame(columns))


def _as_decimals(rows: pd.DataFrame) -> pd.DataFrame:
    """Convert each float32 number to the shortest decimal number, as a client does that prints it."""
    return rows.astype(str).astype(np.float64)


def _float32(rng: Rng) -> Population:
    columns = {
        "tenths": rng.normal(5, 1, ROWS).round(1),
        "hundredths": rng.exponential(0.05, ROWS).round(2),
        "grid": rng.integers(1, 12, ROWS) / 10,
        "temperature": rng.normal(20.7, 4, ROWS).round(1),
        "continuous": rng.normal(size=ROWS),
    }
    return Population("float32", pd.DataFrame(columns).astype(np.float32), send=_as_decimals)


def _round_to_digits(rows: pd.DataFrame, digits: int = 6) -> pd.DataFrame:
    return rows.map(lambda value: float(f"{value:.{digits}g}"))


def _rounding_client(rng: Rng) -> Population:
    columns = {
        "thirds": rng.integers(0, 30, ROWS) / 3,
        "sevenths": rng.binomial(14, 0.4, ROWS) / 7,
        "percent": rng.integers(0, 11, ROWS) * 0.1,
        "celsius": (rng.integers(30, 100, ROWS) - 32) * 5 / 9,
        "continuous": rng.normal(size=ROWS),
    }
    return Population("rounding client", pd.DataFrame(columns), send=_round_to_digits)


def _constants(rng: Rng) -> Population:
    columns = {
        "zero": np.zeros(ROWS),
        "third": np.full(ROWS, 1 / 3),
        "integer": np.full(ROWS, 7),
        "text": np.full(ROWS, "only"),
        "boolean": np.ones(ROWS, dtype=bool),
        "nearly": np.where(rng.random(ROWS) < 0.002, 1.0, 0.0),
        "constant_or_missing": np.where(rng.random(ROWS) < 0.2, np.nan, 4.0),
        "normal": rng.normal(size=ROWS),
    }
    return Population("constants", pd.DataFrame(columns))


def _missing_values(rng: Rng) -> Population:
    def with_missing(values: Any, share: float) -> "pd.Series":  # noqa: ANN401  any column
        return pd.Series(values).mask(rng.random(ROWS) < share)

    columns = {
        "a_third": with_missing(rng.normal(size=ROWS), 0.3),
        "nearly_all": with_missing(rng.lognormal(0, 1, ROWS), 0.95),
        "rarely": with_missing(rng.gamma(2, 2, ROWS), 0.004),
        "integers": with_missing(rng.poisson(4, ROWS).astype(float), 0.1),
        "text": with_missing(rng.choice(["a", "b", "c", "d"], ROWS, p=[0.7, 0.2, 0.08, 0.02]), 0.2),
        "boolean": with_missing((rng.random(ROWS) < 0.3).astype(object), 0.5),
        "complete": rng.normal(size=ROWS),
    }
    return Population("missing values", pd.DataFrame(columns))


def _many_features(rng: Rng) -> Population:
    return Population(
        "60 features", pd.DataFrame(rng.normal(size=(ROWS, 60)), columns=[f"f{i:02d}" for i in range(60)])
    )


def _overfitted_forest(rng: Rng) -> Population:
    """Return three classes that the features hardly separate. A forest memorises its training rows."""
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415  slow to import

    rows = rng.normal(size=(ROWS, 8))
    target = np.argmax(rows[:, :3] + rng.normal(0, 2, size=(ROWS, 3)), axis=1)
    table = pd.DataFrame(rows, columns=[f"f{index}" for index in range(8)])
    return Population(
        "overfitted forest",
        table,
        target=target,
        estimator=lambda: RandomForestClassifier(20, random_state=0),
        unseen=True,
    )


GENERATED: Final[Mapping[str, Callable[[Rng], Population]]] = {
    "heavy tails": _heavy_tails,
    "identifiers": _identifiers,
    "rare categories": _rare_categories,
    "ties": _ties,
    "float32": _float32,
    "rounding client": _rounding_client,
    "constants": _constants,
    "missing values": _missing_values,
    "60 features": _many_features,
    "overfitted forest": _overfitted_forest,
}
