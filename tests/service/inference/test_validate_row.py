"""Validation of rows against the feature schema, and their conversion to a matrix."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import InvalidFeaturesError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.schema import Feature, Schema
from modeltrace.inference.validate import RowValidator, validate_row
from tests.helpers.schemas import REFERENCE, SCHEMA, VALID_ROW
from tests.helpers.strategies import json_values, valid_rows


def reasons(**changes: Any) -> list[tuple[str, str]]:
    """Return the violations of a valid row with changes; `...` removes a feature."""
    row = {name: value for name, value in {**VALID_ROW, **changes}.items() if value is not ...}
    return [(violation.feature, violation.reason) for violation in validate_row(row, SCHEMA)]


@given(valid_rows)
def test_a_valid_row_has_no_violation(row: dict[str, object]) -> None:
    """A row with valid types, ranges and categories has no violation."""
    assert validate_row(row, SCHEMA) == []


@given(valid_rows)
def test_a_valid_row_becomes_a_matrix(row: dict[str, object]) -> None:
    """A valid row has one value per feature, in a frame and in an array."""
    for as_frame in (True, False):
        assert to_matrix([RowValidator(SCHEMA).validate(row)], SCHEMA, as_frame=as_frame).shape == (
            1,
            len(SCHEMA.features),
        )


@given(st.dictionaries(st.sampled_from([*SCHEMA.names, "surprise", ""]), json_values))
def test_any_json_object_is_validated(row: dict[str, object]) -> None:
    """Any object is valid and becomes a matrix, or has violations of known reasons; nothing else is raised."""
    violations = validate_row(row, SCHEMA)

    assert {violation.reason for violation in violations} <= {"missing", "type", "range", "category", "unknown"}
    if not violations:
        assert to_matrix([RowValidator(SCHEMA).validate(row)], SCHEMA, as_frame=True).shape == (1, len(SCHEMA.features))


NUMBERS = Schema(features=tuple(Feature(name=name, type="number", reference=REFERENCE) for name in ("a", "b")))
numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), json_values)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["a", "b", "surprise"]), numbers))
def test_the_fast_path_agrees_with_the_full_validation(row: dict[str, object]) -> None:
    """The fast path for numbers accepts rows without a violation only, and keeps every value."""
    violations = validate_row(row, NUMBERS)

    if violations:
        with pytest.raises(InvalidFeaturesError) as raised:
            RowValidator(NUMBERS).validate(row)
        assert list(raised.value.violations) == violations
    else:
        assert [repr(value) for value in RowValidator(NUMBERS).validate(row)] == [repr(row["a"]), repr(row["b"])]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": ...}, [("size", "missing")]),
        ({"size": None}, [("size", "missing")]),
        ({"weight": ...}, []),
        ({"weight": None}, []),
        ({"size": "3.5"}, [("size", "type")]),
        ({"size": True}, [("size", "type")]),
        ({"size": [3.5]}, [("size", "type")]),
        ({"size": {}}, [("size", "type")]),
        ({"size": math.nan}, [("size", "type")]),
        ({"size": math.inf}, [("size", "type")]),
        ({"size": -0.001}, [("size", "range")]),
        ({"size": 10}, []),
        ({"size": 10.001}, [("size", "range")]),
        ({"weight": 10**400}, [("weight", "range")]),
        ({"weight": 1e39}, [("weight", "range")]),
        ({"rooms": 4.0}, []),
        ({"rooms": 4.5}, [("rooms", "type")]),
        ({"rooms": "4"}, [("rooms", "type")]),
        ({"rooms": False}, [("rooms", "type")]),
        ({"rooms": 2**63}, [("rooms", "range")]),
        ({"rooms": 1e30}, [("rooms", "range")]),
        ({"rooms": -(10**400)}, [("rooms", "range")]),
        ({"garden": 1}, [("garden", "type")]),
        ({"garden": "true"}, [("garden", "type")]),
        ({"city": "anything"}, []),
        ({"city": 1}, [("city", "type")]),
        ({"heating": "coal"}, [("heating", "category")]),
        ({"heating": None}, []),
        ({"surprise": 1}, [("surprise", "unknown")]),
        ({"size": "x", "garden": 0, "surprise": 1}, [("size", "type"), ("garden", "type"), ("surprise", "unknown")]),
    ],
)
def test_every_violation_is_found(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Every violation of a row is found, with the feature and a fixed reason."""
    assert reasons(**changes) == expected


def test_a_message_does_not_contain_the_value() -> None:
    """The message says what was expected, because the value may be private."""
    (violation,) = validate_row({**VALID_ROW, "size": "my secret"}, SCHEMA)

    assert "secret" not in violation.message
    assert "size: expected a number, got a string" in violation.message


def test_a_long_unknown_name_is_truncated() -> None:
    """An unknown name of a megabyte is not returned in full."""
    (violation,) = validate_row({**VALID_ROW, "x" * 1_000_000: 1}, SCHEMA)

    assert len(violation.feature) + len(violation.message) < 300


def test_reported_unknown_names_are_limited() -> None:
    """The client cannot cause an unlimited number of violations."""
    violations = validate_row({**VALID_ROW, **{f"x{index}": 1 for index in range(1000)}}, SCHEMA)

    assert 0 < len(violations) <= 20


def test_missing_values_become_nan() -> None:
    """In an array of numbers, a missing value is NaN and a boolean is 0 or 1."""
    numeric = Schema(features=(SCHEMA.features[1], SCHEMA.features[3]))

    matrix = to_matrix([(None, True), (2, False)], numeric, as_frame=False)

    np.testing.assert_array_equal(matrix, [[np.nan, 1.0], [2.0, 0.0]])


def test_a_frame_has_the_dtypes_of_the_training_data() -> None:
    """Columns have the names and dtypes of the training data."""
    rows = [RowValidator(SCHEMA).validate(row) for row in (VALID_ROW, {**VALID_ROW, "weight": None, "heating": None})]
    matrix = to_matrix(rows, SCHEMA, as_frame=True)

    assert list(map(str, matrix.dtypes)) == ["float64", "float64", "int64", "bool", "object", "object"]
    assert list(matrix.columns) == list(SCHEMA.names)


def test_duplicate_feature_names_are_rejected() -> None:
    """Feature names are unique."""
    with pytest.raises(ValueError, match="must be unique"):
        Schema(features=(SCHEMA.features[0], SCHEMA.features[0]))


@pytest.mark.parametrize("privacy", ["mask", "", None])
def test_an_unknown_privacy_rule_is_rejected(privacy: Any) -> None:
    """A feature with a rule that this version does not know is never served without a rule."""
    with pytest.raises(ValueError, match="privacy"):
        Feature(name="x", type="number", privacy=privacy, reference=REFERENCE)
