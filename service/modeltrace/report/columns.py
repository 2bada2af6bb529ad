"""Rows as columns that any library reads alike: numbers as floats, everything else as text; what is missing is null."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import pyarrow as pa

from modeltrace.bundles.manifest import Manifest
from modeltrace.inference.schema import Feature

Kind = Literal["number", "category"]

NUMERIC: Final = ("number", "integer")
# Categories that are kept apart; the rest counts together, as no test and no chart says anything of so many.
MOST_CATEGORIES: Final = 100
RARE: Final = "(all others)"


@dataclass(frozen=True, slots=True)
class Row:
    """One row to compare: inputs, what the model answered, what was true."""

    inputs: Mapping[str, object]
    answer: object = None
    confidence: float | None = None
    truth: object = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns a table has.

    `features` and `answers` say what kind each is. Names of ours that a feature has already get an underscore.
    `hashed` are features that privacy has stored as hashes. `positive` is the second of two classes, `score` the column
    of its probability.
    """

    task: str
    features: Mapping[str, Kind]
    prediction: str
    confidence: str
    target: str
    classes: tuple[object, ...] = ()
    score: str | None = None
    positive: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    hashed: tuple[str, ...] = ()

    @property
    def answers(self) -> dict[str, Kind]:
        """The columns of answers and true labels."""
        if self.task == "regressor":
            return {self.prediction: "number", self.target: "number"}
        kinds: dict[str, Kind] = {self.prediction: "category", self.confidence: "number", self.target: "category"}
        return kinds if self.score is None else {**kinds, self.score: "number"}


def layout_of(manifest: Manifest, *, scored: bool = True) -> Layout:
    """The columns that a bundle's model gives a table; `scored`: one for the probability of the second class of two."""
    left_out = {one.name: "its privacy is drop" for one in manifest.features if one.privacy == "drop"}
    features = {one.name: kind_of(one) for one in manifest.features if one.name not in left_out}
    taken = {one.name for one in manifest.features}
    prediction, confidence, target = (free(name, taken) for name in ("prediction", "confidence", "true label"))
    classes = tuple(manifest.classes or ())
    hashed = tuple(one.name for one in manifest.features if one.privacy == "hash")
    layout = Layout(manifest.task, features, prediction, confidence, target, classes, left_out=left_out, hashed=hashed)
    if not scored or len(classes) != 2:
        return layout
    positive = text(classes[1])
    return replace(layout, score=free(f"probability of {positive}", taken), positive=positive)


def kind_of(feature: Feature) -> Kind:
    """How a feature is compared: what privacy has hashed or put into bins is a category."""
    return "number" if feature.type in NUMERIC and feature.privacy == "plain" else "category"


def free(name: str, taken: Iterable[str]) -> str:
    """The name, with an underscore or more if it is taken."""
    while name in taken:
        name += "_"
    return name


def text(value: object) -> str:
    """A category or a label as text that every file takes."""
    said = value if isinstance(value, str) else json.dumps(value)
    return said.encode("utf-8", "replace").decode()


def number(value: object) -> float | None:
    """A finite number as such, anything else as missing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def category(value: object) -> str | None:
    """A category as text, what is missing as such."""
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else text(value)


def table(rows: Sequence[Row], layout: Layout, wanted: Iterable[str]) -> pa.Table:
    """The rows with these columns of the layout; a number that is none is missing."""
    classes = {one: one for one in layout.classes}  # a file may say 1.0 where the class is 1
    columns: dict[str, list[object]] = {name: [row.inputs.get(name) for row in rows] for name in layout.features}
    columns |= {
        layout.prediction: [row.answer for row in rows],
        layout.confidence: [row.confidence for row in rows],
        layout.target: [classes.get(row.truth, row.truth) for row in rows],
    }
    if layout.score is not None:
        columns[layout.score] = [score(row.answer, row.confidence, layout.classes[1]) for row in rows]
    kinds: dict[str, Kind] = {**layout.features, **layout.answers}
    made = {name: _column(columns[name], kinds[name]) for name in wanted}
    return pa.table(list(made.values()), names=list(made))


def score(answer: object, confidence: float | None, positive: object) -> float | None:
    """The probability of one of two classes, from that of the answered one."""
    if confidence is None:
        return None
    return confidence if answer == positive else 1 - confidence


def _column(values: Sequence[object], kind: Kind) -> pa.Array:
    if kind == "number":
        return pa.array([number(value) for value in values], pa.float64())
    return pa.array([category(value) for value in values], pa.string())


def merge_rare(tables: Sequence[pa.Table], names: Iterable[str]) -> tuple[list[pa.Table], dict[str, int]]:
    """Count the rarest categories of columns together, the same ones in all tables; how many there were in each."""
    merged: dict[str, int] = {}
    made = list(tables)
    for name in names:
        counts = Counter(value for one in made for value in one.column(name).to_pylist() if value is not None)
        if len(counts) <= MOST_CATEGORIES:
            continue
        merged[name] = len(counts)
        kept = {value for value, _ in counts.most_common(MOST_CATEGORIES - 1)}
        for place, one in enumerate(made):
            values = [v if v is None or v in kept else RARE for v in one.column(name).to_pylist()]
            index = one.schema.get_field_index(name)
            made[place] = one.set_column(index, name, pa.array(values, pa.string()))
    return made, merged
