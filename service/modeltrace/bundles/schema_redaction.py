"""What a bundle may say of features that are private: no value of the training data stands in `model.json`."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.errors import PackError
from modeltrace.inference.schema import MISSING, OTHER, Feature, PrivacyRule, Schema, Value

# Stands for a category in examples: a name that occurs would be a value.
PLACEHOLDER_TEXT = "example"
# A span that is a smaller share than this of the values is that of rounding.
MIN_RELATIVE_SPAN = 1e-9


def redact_schema(schema: Schema, training: pd.DataFrame, rules: Mapping[str, PrivacyRule]) -> Schema:
    """The schema as it may be written down.

    Raises:
        PackError: a rule names no feature, or the model cannot do without the names of its categories.
    """
    if unknown := set(rules) - set(schema.names):
        raise PackError(f"--privacy names {min(unknown)}, which is no feature")
    return Schema(
        features=tuple(
            _redact_feature(feature, training[feature.name], rules.get(feature.name, "plain"))
            for feature in schema.features
        ),
        on_unknown=schema.on_unknown,
    )


def _redact_feature(feature: Feature, column: "pd.Series", rule: PrivacyRule) -> Feature:
    if rule == "plain":
        return feature
    changes = (
        _redact_numbers(feature, column) if feature.reference.edges is not None else _redact_categories(feature, rule)
    )
    return Feature.model_validate({**feature.model_dump(), **changes, "privacy": rule})


def _redact_numbers(feature: Feature, column: "pd.Series") -> dict[str, object]:
    """Neither the lowest nor the highest value, nor the mean, and bounds of bins that are no values themselves."""
    values = column.dropna().to_numpy(dtype=np.float64)
    rounded = _round_edges(np.array(feature.reference.edges))
    # A bound that is not below the largest value leaves a bin that nothing falls into; one there must be.
    edges = rounded[rounded < values.max()] if (rounded < values.max()).any() else rounded[:1]
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    shares = {f"{index:02d}": count / len(column) for index, count in enumerate(counts.tolist())}
    missing = (len(column) - len(values)) / len(column)
    return {
        "training_range": None,
        "example": _placeholder_number(feature, float(rounded[len(rounded) // 2])),
        "reference": {
            "n": len(column),
            "edges": tuple(edges.tolist()),
            "shares": {**shares, MISSING: missing, OTHER: 0.0},
        },
    }


def _round_edges(edges: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """To about a hundredth of what they span, so that they still part the values as they did; equal ones merged."""
    size = float(np.abs(edges).max()) or 1.0
    span = float(edges[-1] - edges[0])
    if span < size * MIN_RELATIVE_SPAN:  # hardly any: then of the value itself
        span = size
    return np.unique(np.round(edges, min(2 - math.ceil(math.log10(span)), 300)))  # beyond, powers of ten are infinite


def _placeholder_number(feature: Feature, middle: float) -> Value:
    low, high = feature.valid_range or (middle, middle)
    if feature.type == "integer":
        return int(min(max(round(middle), math.ceil(low)), math.floor(high)))
    return min(max(middle, low), high)


def _redact_categories(feature: Feature, rule: PrivacyRule) -> dict[str, object]:
    """Of categories the frequent ones, if the rule is to tell just them; otherwise none."""
    named = feature.enforce_categories or feature.dtype == "category"
    if rule == "bucket":
        frequent = tuple(name for name in feature.categories or () if name in feature.reference.shares)
        return {} if named or feature.type == "boolean" else {"categories": frequent}
    if named:
        raise PackError(
            f"--privacy {feature.name}={rule}: its categories would stand in model.json, because "
            + ("they are enforced" if feature.enforce_categories else "the model needs its column as categories")
            + f"; pack without that, or with --privacy {feature.name}=bucket"
        )
    missing = feature.reference.shares[MISSING]
    changes: dict[str, object] = {
        "reference": {"n": feature.reference.n, "shares": {MISSING: missing, OTHER: 1 - missing}}
    }
    return changes if feature.type == "boolean" else {**changes, "categories": None, "example": PLACEHOLDER_TEXT}
