"""What a column of training data says about a feature: its type, its range, its distribution in bins."""

import numpy as np
import pandas as pd

from service.errors import PackError
from service.inference.schema import MISSING, OTHER, Feature, FeatureType, Reference, Value

BINS = 10
MOST_CATEGORIES = 20


def describe_column(
    column: "pd.Series", *, valid_range: tuple[float, float] | None = None, strict_categories: bool = False
) -> Feature:
    """Describe one training column.

    Raises:
        PackError: the column is neither numeric, boolean nor text.
    """
    kind = _type_of(column)
    present = column.dropna()
    if present.empty:
        raise PackError(f"column {column.name}: every value is missing, so nothing is known about it")
    if valid_range and kind not in ("number", "integer"):
        raise PackError(f"column {column.name} is a {kind}: a valid range belongs to a number")
    if kind in ("number", "integer"):
        values = present.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            raise PackError(f"column {column.name} holds infinite values")
        return Feature(
            name=str(column.name),
            type=kind,
            nullable=bool(column.isna().any()),
            valid_range=valid_range,
            training_range=(float(values.min()), float(values.max())),
            example=_median(values, kind),
            reference=number_reference(values, n=len(column)),
        )
    texts = present.astype(str) if kind == "category" else present.map({True: "true", False: "false"})
    return Feature(
        name=str(column.name),
        type=kind,
        nullable=bool(column.isna().any()),
        categories=tuple(sorted(texts.unique())) if kind == "category" else None,
        enforce_categories=strict_categories and kind == "category",
        example=str(texts.mode().iloc[0]) if kind == "category" else bool(present.mode().iloc[0]),
        reference=category_reference(texts, n=len(column)),
    )


def _type_of(column: "pd.Series") -> FeatureType:
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "integer"
    if pd.api.types.is_float_dtype(column):
        return "number"
    if isinstance(column.dtype, pd.CategoricalDtype) or all(isinstance(value, str) for value in column.dropna()):
        return "category"
    if all(isinstance(value, bool) for value in column.dropna()):
        return "boolean"
    raise PackError(
        f"column {column.name} ({column.dtype}) is neither numbers, booleans nor text; "
        "turn it into one of them before fitting"
    )


def _median(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", kind: FeatureType) -> Value:
    """A value that occurs, from the middle: an example that is plausible."""
    middle = float(np.sort(values)[len(values) // 2])
    return int(middle) if kind == "integer" else middle


def number_reference(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", *, n: int) -> Reference:
    """Bins at the deciles of the training values; `n` counts the missing ones, too.

    An edge equal to another, or to the maximum, would leave a bin that nothing can fall into: merged.
    """
    quantiles = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    edges = np.unique(quantiles[quantiles < values.max()])
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    shares = {f"{index:02d}": count / n for index, count in enumerate(counts.tolist())}
    return Reference(
        n=n,
        edges=tuple(edges.tolist()),
        shares={**shares, MISSING: (n - len(values)) / n, OTHER: 0.0},
        mean=float(values.mean()),
    )


def category_reference(texts: "pd.Series", *, n: int) -> Reference:
    """One bin for each of the most frequent values; what is rarer counts as `other`."""
    counts = texts.value_counts()
    top = counts.head(MOST_CATEGORIES)
    shares = {str(name): int(count) / n for name, count in top.items()}
    rest = int(counts.iloc[MOST_CATEGORIES:].sum())
    return Reference(n=n, shares={**shares, MISSING: (n - len(texts)) / n, OTHER: rest / n})
