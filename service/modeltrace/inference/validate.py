"""Validate rows against the feature schema. `modeltrace.inference.schema.Reason` lists the reasons of violations."""

import math
from collections.abc import Iterable, Mapping, MutableMapping
from operator import itemgetter

import numpy as np

from modeltrace.errors import InvalidFeaturesError, Violation
from modeltrace.inference.schema import Feature, Reason, Schema

# The values of a row in the order of the schema, as they were sent; None for a missing value.
Values = tuple[object, ...]
# The number of rows by violation: feature ("" for an unknown feature), reason, whether it is allowed.
ViolationCounts = MutableMapping[tuple[str, str, bool], int]

MAX_NAME_LENGTH = 64
MAX_UNKNOWN_FEATURES = 10
# The largest float32: scikit-learn's trees compute in float32 and reject larger numbers.
MAX_FLOAT = float(np.finfo(np.float32).max)
MAX_INTEGER = float(2**63 - 1024)  # the largest double that is an int64
NOT_A_ROW = Violation("", "type", "a row must be an object of feature names and values")
_NUMBERS = ({float}, {float, int}, {int})


class RowValidator:
    """Validates rows of one schema. Rows of plain numbers take a fast path that checks all values at once."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        names = schema.names
        getter = itemgetter(*names)
        self._values = getter if len(names) > 1 else lambda row: (getter(row),)
        # The fast path checks the type and the size of numbers, and nothing else.
        self._has_fast_path = all(feature.type == "number" and not feature.valid_range for feature in schema.features)

    def validate(self, row: object, counts: ViolationCounts | None = None) -> Values:
        """Return the values of a row; a value of a wrong type that the schema allows becomes a missing value.

        Each distinct violation of the row, allowed or not, is added to `counts` once.

        Raises:
            InvalidFeaturesError: the row is not a mapping, or has a violation that the schema does not allow.
        """
        if not isinstance(row, Mapping):
            _count([NOT_A_ROW], counts)
            raise InvalidFeaturesError([NOT_A_ROW])
        if self._has_fast_path and len(row) == len(self._schema.names):
            try:
                values: Values = self._values(row)
                # The types exclude bool; the comparisons are false for NaN and infinity.
                if set(map(type, values)) in _NUMBERS and min(values) >= -MAX_FLOAT and max(values) <= MAX_FLOAT:  # type: ignore[type-var, operator]  # numbers
                    return values
            except KeyError:
                pass
        violations = validate_row(row, self._schema)
        if not violations:
            return tuple(map(row.get, self._schema.names))
        _count(violations, counts)
        if rejected := [violation for violation in violations if not violation.allowed]:
            raise InvalidFeaturesError(rejected)
        wrong_type = {violation.feature for violation in violations if violation.reason == "type"}
        return tuple(None if name in wrong_type else row.get(name) for name in self._schema.names)

    def validate_many(
        self, rows: Iterable[object], counts: ViolationCounts | None = None
    ) -> list[Values | InvalidFeaturesError]:
        """Return the values of each row, in order; for an invalid row, the error."""
        return [self._validate_or_error(row, counts) for row in rows]

    def _validate_or_error(self, row: object, counts: ViolationCounts | None) -> Values | InvalidFeaturesError:
        try:
            return self.validate(row, counts)
        except InvalidFeaturesError as error:
            return error


def _count(violations: Iterable[Violation], counts: ViolationCounts | None) -> None:
    if counts is None:
        return
    distinct = {("" if v.reason == "unknown" else v.feature, v.reason, v.allowed): None for v in violations}
    for key in distinct:
        counts[key] = counts.get(key, 0) + 1


def validate_row(row: Mapping[str, object], schema: Schema) -> list[Violation]:
    """Return all violations of a row, allowed or not; an empty list for a valid row.

    `bool` is not a number, and a float without a fraction is an integer. A number must be finite: JSON has no NaN, and
    an integer too large for a float would become infinite. A number that no model can represent is never allowed.
    Messages contain the feature and what is expected, never the value, which may be private.
    """
    violations = [
        violation for feature in schema.features if (violation := _check(feature, row.get(feature.name))) is not None
    ]
    if not row.keys() <= schema.name_set:
        violations += _unknown_features(sorted(row.keys() - schema.name_set), allowed=schema.on_unknown == "count")
    return violations


def _unknown_features(names: list[str], *, allowed: bool) -> list[Violation]:
    """Return a violation for each of the first names. The number is limited, since the client chooses the names."""
    message = "the model has no such feature (GET /model lists them)"
    shortened = [
        name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"
        for name in names[:MAX_UNKNOWN_FEATURES]
    ]
    return [Violation(name, "unknown", f"{name}: {message}", allowed) for name in shortened]


def _check(feature: Feature, value: object) -> Violation | None:
    if value is None:
        if feature.nullable:
            return None
        return _violation(feature, "missing", "missing, and the model does not accept a missing value")
    kind = feature.level_kind or feature.type
    violation = None
    if kind == "text":
        violation = _check_text(feature, value)
    elif feature.is_time:
        violation = _check_time(feature, value)
    elif kind == "boolean":
        if type(value) is not bool:
            violation = _wrong_type(feature, "true or false", value)
    elif type(value) is float or type(value) is int:
        violation = _check_number(feature, value)
    else:
        violation = _wrong_type(feature, f"{'an' if kind == 'integer' else 'a'} {kind}", value)
    if violation is None and feature.enforce_categories and feature.type == "category":
        return (
            None if value in feature.level_codes else _violation(feature, "category", "not one of the known categories")
        )
    return violation


def _check_text(feature: Feature, value: object) -> Violation | None:
    if not isinstance(value, str):
        return _wrong_type(feature, "a string", value)
    if len(value) > feature.max_text_length:
        limit = f"{feature.max_text_length:,} characters"
        return Violation(feature.name, "length", f"{feature.name}: longer than {limit}, the limit for this text")
    return None


def _check_time(feature: Feature, value: object) -> Violation | None:
    column = feature.time_column
    if not isinstance(value, str):
        return _wrong_type(feature, column.expected, value)
    try:
        seconds = column.to_seconds(value)
    except ValueError:
        return _violation(feature, "type", f"expected {column.expected}")
    return _check_range(feature, seconds, feature.valid_range) if feature.valid_range else None


def _check_number(feature: Feature, value: float) -> Violation | None:
    try:
        number = float(value)
    except OverflowError:
        return Violation(feature.name, "range", f"{feature.name}: the number is too large")
    if not math.isfinite(number):
        return _violation(feature, "type", "expected a finite number")
    integer = feature.type == "integer" or feature.level_kind == "integer"
    if abs(number) > (MAX_INTEGER if integer else MAX_FLOAT):
        return Violation(feature.name, "range", f"{feature.name}: the number is too large")
    if integer and not number.is_integer():
        return _violation(feature, "type", "expected an integer, got a fraction")
    return _check_range(feature, number, feature.valid_range) if feature.valid_range else None


def _check_range(feature: Feature, number: float, bounds: tuple[float, float]) -> Violation | None:
    if bounds[0] <= number <= bounds[1]:
        return None
    return _violation(feature, "range", f"outside the valid range {feature.range_text(bounds)}")


def _wrong_type(feature: Feature, expected: str, value: object) -> Violation:
    got = {str: "a string", bool: "a boolean", float: "a number", int: "a number", list: "an array"}
    return _violation(feature, "type", f"expected {expected}, got {got.get(type(value), 'an object')}")


def _violation(feature: Feature, reason: Reason, message: str) -> Violation:
    action = getattr(feature.on_violation, reason)
    return Violation(feature.name, reason, f"{feature.name}: {message}", allowed=action == "count")
