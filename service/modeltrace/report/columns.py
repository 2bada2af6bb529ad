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

ColumnKind = Literal["number", "category"]

NUMERIC: Final = ("number", "integer")
# Categories that are kept apart; the rest counts together, as no test and no chart says anything of so many.
MAX_CATEGORIES: Final = 100
OTHER_CATEGORIES: Final = "(all others)"


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One row to compare: inputs, what the model answered, what was true."""

    inputs: Mapping[str, object]
    prediction: object = None
    confidence: float | None = None
    true_label: object = None


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """Which columns a table has.

    `features` and `answers` say what kind each is. Names of ours that a feature has already get an underscore.
    `hashed` are features that privacy has stored as hashes. `positive` is the second of two classes, `score` the column
    of its probability.
    """

    task: str
    features: Mapping[str, ColumnKind]
    prediction: str
    confidence: str
    target: str
    classes: tuple[object, ...] = ()
    score: str | None = None
    positive: str | None = None
    excluded: Mapping[str, str] = field(default_factory=dict)
    hashed: tuple[str, ...] = ()

    @property
    def outputs(self) -> dict[str, ColumnKind]:
        """The columns of answers and true labels."""
        if self.task == "regressor":
            return {self.prediction: "number", self.target: "number"}
        kinds: dict[str, ColumnKind] = {self.prediction: "category", self.confidence: "number", self.target: "category"}
        return kinds if self.score is None else {**kinds, self.score: "number"}


def build_layout(manifest: Manifest, *, with_score: bool = True) -> ColumnLayout:
    """The columns that a bundle's model gives a table; `scored`: one for the probability of the second class of two."""
    left_out = {one.name: "its privacy is drop" for one in manifest.features if one.privacy == "drop"}
    features = {one.name: column_kind(one) for one in manifest.features if one.name not in left_out}
    taken = {one.name for one in manifest.features}
    prediction, confidence, target = (unused_name(name, taken) for name in ("prediction", "confidence", "true label"))
    classes = tuple(manifest.classes or ())
    hashed = tuple(one.name for one in manifest.features if one.privacy == "hash")
    layout = ColumnLayout(
        manifest.task, features, prediction, confidence, target, classes, excluded=left_out, hashed=hashed
    )
    if not with_score or len(classes) != 2:
        return layout
    positive = to_text(classes[1])
    return replace(layout, score=unused_name(f"probability of {positive}", taken), positive=positive)


def column_kind(feature: Feature) -> ColumnKind:
    """How a feature is compared: what privacy has hashed or put into bins is a category."""
    return "number" if feature.type in NUMERIC and feature.privacy == "plain" else "category"


def unused_name(name: str, taken: Iterable[str]) -> str:
    """The name, with an underscore or more if it is taken."""
    while name in taken:
        name += "_"
    return name


def to_text(value: object) -> str:
    """A category or a label as text that every file takes."""
    said = value if isinstance(value, str) else json.dumps(value)
    return said.encode("utf-8", "replace").decode()


def to_number(value: object) -> float | None:
    """A finite number as such, anything else as missing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def to_category(value: object) -> str | None:
    """A category as text, what is missing as such."""
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else to_text(value)


def build_table(rows: Sequence[ComparedRow], layout: ColumnLayout, names: Iterable[str]) -> pa.Table:
    """The rows with these columns of the layout; a number that is none is missing."""
    classes = {one: one for one in layout.classes}  # a file may say 1.0 where the class is 1
    values: dict[str, list[object]] = {name: [row.inputs.get(name) for row in rows] for name in layout.features}
    values |= {
        layout.prediction: [row.prediction for row in rows],
        layout.confidence: [row.confidence for row in rows],
        layout.target: [classes.get(row.true_label, row.true_label) for row in rows],
    }
    if layout.score is not None:
        values[layout.score] = [positive_probability(row.prediction, row.confidence, layout.classes[1]) for row in rows]
    kinds: dict[str, ColumnKind] = {**layout.features, **layout.outputs}
    made = {name: _to_array(values[name], kinds[name]) for name in names}
    return pa.table(list(made.values()), names=list(made))


def positive_probability(prediction: object, confidence: float | None, positive: object) -> float | None:
    """The probability of one of two classes, from that of the answered one."""
    if confidence is None:
        return None
    return confidence if prediction == positive else 1 - confidence


def _to_array(values: Sequence[object], kind: ColumnKind) -> pa.Array:
    if kind == "number":
        return pa.array([to_number(value) for value in values], pa.float64())
    return pa.array([to_category(value) for value in values], pa.string())


def merge_rare(tables: Sequence[pa.Table], names: Iterable[str]) -> tuple[list[pa.Table], dict[str, int]]:
    """Count the rarest categories of columns together, the same ones in all tables; how many there were in each."""
    merged: dict[str, int] = {}
    made = list(tables)
    for name in names:
        counts = Counter(value for one in made for value in one.column(name).to_pylist() if value is not None)
        if len(counts) <= MAX_CATEGORIES:
            continue
        merged[name] = len(counts)
        kept = {value for value, _ in counts.most_common(MAX_CATEGORIES - 1)}
        for place, one in enumerate(made):
            values = [v if v is None or v in kept else OTHER_CATEGORIES for v in one.column(name).to_pylist()]
            index = one.schema.get_field_index(name)
            made[place] = one.set_column(index, name, pa.array(values, pa.string()))
    return made, merged
