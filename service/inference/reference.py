"""What a column of training data says about a feature: its type, its range, its distribution in bins."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.errors import PackError
from service.inference.schema import MISSING, OTHER, Dtype, Feature, FeatureType, Reference, Value

BINS = 10
MOST_CATEGORIES = 20
# Categories that a schema names; of free text there would be no end.
MOST_KNOWN = 1000
NUMERIC = ("number", "integer")


def describe_column(
    column: "pd.Series", *, valid_range: tuple[float, float] | None = None, strict_categories: bool = False
) -> Feature:
    """Describe one training column.

    Raises:
        PackError: the column is neither numeric, boolean nor text, or the range or the strictness does not fit it.
    """
    kind = _type_of(column)
    present = column.dropna()
    if present.empty:
        raise PackError(f"column {column.name}: every value is missing, so nothing is known about it")
    if valid_range and kind not in NUMERIC:
        raise PackError(f"column {column.name} is a {kind}: a valid range belongs to a number")
    common = {"name": str(column.name), "type": kind, "nullable": len(present) < len(column)}
    if kind in NUMERIC:
        values = present.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            raise PackError(f"column {column.name} holds infinite values")
        return Feature(
            **common,
            dtype="int64" if kind == "integer" and not common["nullable"] else "float64",
            valid_range=valid_range,
            training_range=(float(values.min()), float(values.max())),
            example=_example(column.name, values, kind, valid_range),
            reference=number_reference(values, n=len(column)),
        )
    texts = present.astype(str) if kind == "category" else present.map({True: "true", False: "false"})
    frequent = texts.value_counts().index.astype(str)
    if strict_categories and kind == "category" and len(frequent) > MOST_KNOWN:
        raise PackError(
            f"column {column.name} has {len(frequent)} categories, too many to be strict about; leave that out"
        )
    return Feature(
        **common,
        dtype=_dtype(column),
        missing_as="none" if column.dtype == object and any(value is None for value in column) else "nan",
        categories=tuple(sorted(frequent[:MOST_KNOWN])) if kind == "category" else None,
        enforce_categories=strict_categories and kind == "category",
        example=frequent[0] if kind == "category" else frequent[0] == "true",
        reference=category_reference(texts, n=len(column)),
    )


def _type_of(column: "pd.Series") -> FeatureType:
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "integer"
    if pd.api.types.is_float_dtype(column):
        return "number"
    if all(isinstance(value, str) for value in column.dropna()):
        return "category"
    if all(isinstance(value, bool) for value in column.dropna()):
        return "boolean"
    raise PackError(
        f"column {column.name} ({column.dtype}) is neither numbers, booleans nor text; "
        "turn it into one of them before fitting"
    )


def _dtype(column: "pd.Series") -> Dtype:
    """The dtype that the estimator is given again: its own name where pandas has one for text and booleans."""
    names: tuple[Dtype, ...] = ("bool", "boolean", "str", "string", "category")
    return next((name for name in names if column.dtype == name), "object")


def _example(
    name: object, values: NDArray[np.float64], kind: FeatureType, valid_range: tuple[float, float] | None
) -> Value:
    """A value that occurs, from the middle of those that a request may send."""
    low, high = valid_range or (-np.inf, np.inf)
    valid = np.sort(values[(values >= low) & (values <= high)])
    if not len(valid):
        raise PackError(f"column {name}: no value of the training data lies in the valid range {low:g} to {high:g}")
    middle = float(valid[len(valid) // 2])
    return int(middle) if kind == "integer" else middle


def number_reference(values: NDArray[np.float64], *, n: int) -> Reference:
    """Bins at the deciles of the training values; `n` counts the missing ones, too.

    An edge equal to another, or to the maximum, would leave a bin that nothing can fall into: merged. What was always
    the same has a bin by itself, between what is less and what is more.
    """
    highest = values.max()
    quantiles = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    edges = np.unique(quantiles[quantiles < highest])
    if values.min() == highest:
        edges = np.array([np.nextafter(highest, -np.inf), highest])
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    shares = {f"{index:02d}": count / n for index, count in enumerate(counts.tolist())}
    return Reference(
        n=n,
        edges=tuple(edges.tolist()),
        shares={**shares, MISSING: (n - len(values)) / n, OTHER: 0.0},
        mean=float(values.mean()),
        deviation=float(values.std()),
    )


def category_reference(texts: "pd.Series", *, n: int) -> Reference:
    """One bin for each of the most frequent values; what is rarer counts as `other`.

    A category that is itself called `missing` or `other` counts in the bin of that name.
    """
    counts = {str(name): int(count) for name, count in texts.value_counts().items()}
    missing = n - len(texts) + counts.pop(MISSING, 0)
    other = counts.pop(OTHER, 0) + sum(list(counts.values())[MOST_CATEGORIES:])
    top = dict(list(counts.items())[:MOST_CATEGORIES])
    bins = {**top, MISSING: missing, OTHER: other}
    return Reference(n=n, shares={name: count / n for name, count in bins.items()})
