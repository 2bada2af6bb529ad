"""Convert rows to columns of floats and text, with null for missing values. All libraries read these the same way."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import pyarrow as pa

from modeltrace.bundles.manifest import Manifest
from modeltrace.errors import ModeltraceError
from modeltrace.inference.schema import Feature
from modeltrace.inference.tasks import LABELLED_TASKS, TASK_NAMES

ColumnKind = Literal["number", "category"]

NUMERIC: Final = ("number", "integer")
# Maximum number of categories of a column. The rarest ones are merged, because tests and charts need few categories.
MAX_CATEGORIES: Final = 100
OTHER_CATEGORIES: Final = "(all others)"


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A row of the comparison."""

    inputs: Mapping[str, object]
    prediction: object = None
    confidence: float | None = None
    true_label: object = None


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """The columns of a table. A column name that is also a feature name gets an underscore appended."""

    task: str  # `classifier` or `regressor`
    features: Mapping[str, ColumnKind]  # the kind of each feature
    prediction: str  # the column of predicted labels or values
    confidence: str  # the column of confidences
    target: str  # the column of true labels
    classes: tuple[object, ...] = ()
    score: str | None = None  # the column of the probability of the second of two classes
    positive: str | None = None  # the second of two classes
    excluded: Mapping[str, str] = field(default_factory=dict)  # features without a column, with the reason
    hashed: tuple[str, ...] = ()  # features whose values are stored as hashes

    @property
    def outputs(self) -> dict[str, ColumnKind]:
        """The columns of outputs and true labels."""
        if self.task == "regressor":
            return {self.prediction: "number", self.target: "number"}
        kinds: dict[str, ColumnKind] = {self.prediction: "category", self.confidence: "number", self.target: "category"}
        return kinds if self.score is None else {**kinds, self.score: "number"}


def build_layout(manifest: Manifest, *, with_score: bool = True) -> ColumnLayout:
    """Return the columns for a bundle's model.

    `with_score` says whether a model with two classes gets a column for the probability of the second one.

    Raises:
        ModeltraceError: the model predicts neither one label nor one value that may be wrong.
    """
    if manifest.task not in LABELLED_TASKS:
        raise ModeltraceError(
            f"{manifest.name} is {TASK_NAMES[manifest.task]}: reports need one label or one value for each row"
        )
    excluded = {feature.name: "its privacy is drop" for feature in manifest.features if feature.privacy == "drop"}
    features = {feature.name: column_kind(feature) for feature in manifest.features if feature.name not in excluded}
    taken = {feature.name for feature in manifest.features}
    prediction, confidence, target = (unused_name(name, taken) for name in ("prediction", "confidence", "true label"))
    classes = tuple(manifest.classes or ())
    hashed = tuple(feature.name for feature in manifest.features if feature.privacy == "hash")
    layout = ColumnLayout(
        manifest.task, features, prediction, confidence, target, classes, excluded=excluded, hashed=hashed
    )
    if not with_score or len(classes) != 2 or manifest.task != "classifier":
        return layout
    positive = to_text(classes[1])
    return replace(layout, score=unused_name(f"probability of {positive}", taken), positive=positive)


def column_kind(feature: Feature) -> ColumnKind:
    """Return the kind of a feature's column; hashed or bucketed values are categories."""
    return "number" if feature.type in NUMERIC and feature.privacy == "plain" else "category"


def unused_name(name: str, taken: Iterable[str]) -> str:
    """Append underscores to a name until it is not taken."""
    while name in taken:
        name += "_"
    return name


def to_text(value: object) -> str:
    """Convert a category or label to valid UTF-8 text."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode()


def to_number(value: object) -> float | None:
    """Convert a finite number to a float, and any other value to `None`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def to_category(value: object) -> str | None:
    """Convert a category to text, and a missing value to `None`."""
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else to_text(value)


def build_table(rows: Sequence[ComparedRow], layout: ColumnLayout, names: Iterable[str]) -> pa.Table:
    """Return a table with the named columns of the layout."""
    classes = {label: label for label in layout.classes}  # a file may have 1.0 for the class 1
    columns: dict[str, list[object]] = {name: [row.inputs.get(name) for row in rows] for name in layout.features}
    columns |= {
        layout.prediction: [row.prediction for row in rows],
        layout.confidence: [row.confidence for row in rows],
        layout.target: [classes.get(row.true_label, row.true_label) for row in rows],
    }
    if layout.score is not None:
        columns[layout.score] = [
            positive_probability(row.prediction, row.confidence, layout.classes[1]) for row in rows
        ]
    kinds: dict[str, ColumnKind] = {**layout.features, **layout.outputs}
    return pa.table({name: _to_array(columns[name], kinds[name]) for name in names})


def positive_probability(prediction: object, confidence: float | None, positive: object) -> float | None:
    """Return the probability of the positive one of two classes, from the confidence in the predicted class."""
    if confidence is None:
        return None
    return confidence if prediction == positive else 1 - confidence


def _to_array(values: Sequence[object], kind: ColumnKind) -> pa.Array:
    if kind == "number":
        return pa.array([to_number(value) for value in values], pa.float64())
    return pa.array([to_category(value) for value in values], pa.string())


def merge_rare(tables: Sequence[pa.Table], names: Iterable[str]) -> tuple[list[pa.Table], dict[str, int]]:
    """Merge the rarest categories of the named columns. The same categories are merged in all tables.

    Returns:
        The tables, and for each changed column its number of categories before.
    """
    merged: dict[str, int] = {}
    results = list(tables)
    for name in names:
        counts = Counter(value for table in results for value in table.column(name).to_pylist() if value is not None)
        if len(counts) <= MAX_CATEGORIES:
            continue
        merged[name] = len(counts)
        frequent = {value for value, _ in counts.most_common(MAX_CATEGORIES - 1)}
        for index, table in enumerate(results):
            values = [v if v is None or v in frequent else OTHER_CATEGORIES for v in table.column(name).to_pylist()]
            position = table.schema.get_field_index(name)
            results[index] = table.set_column(position, name, pa.array(values, pa.string()))
    return results, merged
