"""A row against the feature schema."""

import math
from collections.abc import Mapping

import numpy as np

from service.errors import Violation
from service.inference.schema import Feature, Schema

SHOWN = 64
SHOWN_UNKNOWN = 10
# float32's largest: scikit-learn's trees compute in float32 and refuse what it cannot hold.
LARGEST = float(np.finfo(np.float32).max)
LARGEST_INTEGER = float(2**63 - 1024)  # the largest double that is an int64


def validate_row(row: Mapping[str, object], schema: Schema) -> list[Violation]:
    """Find every way in which a row breaks the schema; empty when it does not.

    `bool` is not a number, an integral float is an integer, and a number must be finite: JSON has no NaN, and an
    integer too large for a float would become infinite. Messages name the feature and what was expected, never the
    value, which may be private.
    """
    violations = [
        violation for feature in schema.features if (violation := _check(feature, row.get(feature.name))) is not None
    ]
    if not row.keys() <= schema.name_set:
        violations += _unknown(sorted(row.keys() - schema.name_set))
    return violations


def _unknown(names: list[str]) -> list[Violation]:
    """A violation for each of the first few: how many there are is up to the caller."""
    return [
        Violation(name[:SHOWN], "unknown", f"{name[:SHOWN]}: the model has no such feature (GET /model lists them)")
        for name in names[:SHOWN_UNKNOWN]
    ]


def _check(feature: Feature, value: object) -> Violation | None:
    if value is None:
        if feature.nullable:
            return None
        return Violation(feature.name, "missing", f"{feature.name}: missing, and the model has never seen it missing")
    kind = type(value)
    if feature.type == "category":
        return _check_category(feature, value)
    if feature.type == "boolean":
        return None if kind is bool else _wrong_type(feature, "true or false", value)
    if kind is not float and kind is not int:
        return _wrong_type(feature, f"{'an' if feature.type == 'integer' else 'a'} {feature.type}", value)
    return _check_number(feature, value)  # type: ignore[arg-type]  # a float or an int, by the line above


def _check_number(feature: Feature, value: float) -> Violation | None:
    try:
        number = float(value)
    except OverflowError:
        return Violation(feature.name, "range", f"{feature.name}: the number is too large")
    if not math.isfinite(number):
        return Violation(feature.name, "type", f"{feature.name}: expected a finite number")
    if abs(number) > (LARGEST_INTEGER if feature.type == "integer" else LARGEST):
        return Violation(feature.name, "range", f"{feature.name}: the number is too large")
    if feature.type == "integer" and not number.is_integer():
        return Violation(feature.name, "type", f"{feature.name}: expected an integer, got a fraction")
    if feature.valid_range and not feature.valid_range[0] <= number <= feature.valid_range[1]:
        low, high = feature.valid_range
        return Violation(feature.name, "range", f"{feature.name}: outside the valid range {low:g} to {high:g}")
    return None


def _check_category(feature: Feature, value: object) -> Violation | None:
    if not isinstance(value, str):
        return _wrong_type(feature, "a string", value)
    if feature.enforce_categories and value not in (feature.categories or ()):
        return Violation(feature.name, "category", f"{feature.name}: not one of the known categories")
    return None


def _wrong_type(feature: Feature, expected: str, value: object) -> Violation:
    got = {str: "a string", bool: "a boolean", float: "a number", int: "a number", list: "an array"}
    return Violation(
        feature.name, "type", f"{feature.name}: expected {expected}, got {got.get(type(value), 'an object')}"
    )
