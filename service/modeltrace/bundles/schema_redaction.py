"""Redact private features in a schema, so that `model.json` contains no value of their training data."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.bin_names import MISSING, OTHER, UNSEEN
from modeltrace.bundles.reference_distribution import numeric_shares
from modeltrace.bundles.time_columns import to_seconds
from modeltrace.errors import PackError
from modeltrace.inference.schema import Feature, PrivacyRule, Schema, Value

# The example of a redacted text feature. A category of the training data would disclose a value.
PLACEHOLDER_TEXT = "example"
# Minimum span of bin edges relative to their size. A smaller span is an effect of floating-point rounding.
MIN_RELATIVE_SPAN = 1e-9


def redact_schema(schema: Schema, training: pd.DataFrame, rules: Mapping[str, PrivacyRule]) -> Schema:
    """Return the schema that may be stored in the bundle.

    Raises:
        PackError: a rule names an unknown feature, or the model needs the names of a private feature's categories.
    """
    if unknown := set(rules) - set(schema.names):
        raise PackError(f"--privacy {min(unknown)}: the model has no feature of that name")
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
    """Remove minimum, maximum and mean. Round the bin edges, which otherwise are close to values of the data.

    The outermost edges disclose minimum and maximum. They are removed, except those of a constant feature.
    """
    values = to_seconds(column) if feature.is_time else column.dropna().to_numpy(dtype=np.float64)
    edges = np.array(feature.reference.edges)
    rounded = _round_edges(edges[1:-1] if len(edges) > 2 else edges)
    # An edge at or above the largest value would create an empty bin. At least one edge is required.
    edges = rounded[rounded < values.max()] if (rounded < values.max()).any() else rounded[:1]
    return {
        "training_range": None,
        "example": _placeholder_number(feature, float(rounded[len(rounded) // 2])),
        "reference": {
            "n": len(column),
            "edges": tuple(edges.tolist()),
            "shares": numeric_shares(values, edges, n=len(column)),
        },
    }


def _round_edges(edges: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Round edges to about a hundredth of their span, and merge equal edges. This hardly changes the bins."""
    size = float(np.abs(edges).max()) or 1.0
    span = float(edges[-1] - edges[0])
    if span < size * MIN_RELATIVE_SPAN:
        span = size
    return np.unique(np.round(edges, min(2 - math.ceil(math.log10(span)), 300)))  # a power of ten above 308 is infinite


def _placeholder_number(feature: Feature, middle: float) -> Value:
    low, high = feature.valid_range or (middle, middle)
    if feature.is_time:
        return feature.time_column.to_text(round(min(max(round(middle), low), high) * 1e6))
    if feature.type == "integer":
        return int(min(max(round(middle), math.ceil(low)), math.floor(high)))
    return min(max(middle, low), high)


def _redact_categories(feature: Feature, rule: PrivacyRule) -> dict[str, object]:
    """Keep the frequent categories if the rule is `bucket`; otherwise remove all."""
    needs_names = feature.enforce_categories or feature.dtype == "category"
    if rule == "bucket":
        frequent = tuple(name for name in feature.categories or () if name in feature.reference.shares)
        if needs_names or feature.type == "boolean":
            return {}
        # Without the other categories, a rare value cannot be distinguished from an unseen one.
        shares = dict(feature.reference.shares)
        shares[OTHER] += shares.pop(UNSEEN)
        return {"categories": frequent, "reference": {**feature.reference.model_dump(), "shares": shares}}
    if needs_names:
        raise PackError(
            f"--privacy {feature.name}={rule}: model.json has to contain the categories of this feature, because "
            + ("they are enforced" if feature.enforce_categories else "its column has the dtype category")
            + f". Change that, or pack with --privacy {feature.name}=bucket"
        )
    missing = feature.reference.shares[MISSING]
    changes: dict[str, object] = {
        "reference": {"n": feature.reference.n, "shares": {MISSING: missing, OTHER: 1 - missing}}
    }
    return changes if feature.type == "boolean" else {**changes, "categories": None, "example": PLACEHOLDER_TEXT}
