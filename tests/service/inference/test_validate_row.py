"""What a row must be to be put to the model."""

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
    """Which features are refused for what when a good row is changed; `...` takes a feature out."""
    row = {name: value for name, value in {**VALID_ROW, **changes}.items() if value is not ...}
    return [(violation.feature, violation.reason) for violation in validate_row(row, SCHEMA)]


@given(valid_rows)
def test_a_row_by_the_schema_is_accepted(row: dict[str, object]) -> None:
    """Whatever has the types, the ranges and the categories has no violation."""
    assert validate_row(row, SCHEMA) == []


@given(valid_rows)
def test_what_is_accepted_becomes_a_matrix(row: dict[str, object]) -> None:
    """An accepted row has one value a feature, in a frame and in an array."""
    for as_frame in (True, False):
        assert to_matrix([RowValidator(SCHEMA).validate(row)], SCHEMA, as_frame=as_frame).shape == (
            1,
            len(SCHEMA.features),
        )


@given(st.dictionaries(st.sampled_from([*SCHEMA.names, "surprise", ""]), json_values))
def test_any_json_object_is_judged(row: dict[str, object]) -> None:
    """Whatever arrives is accepted with a matrix to show for it, or refused for a fixed reason; nothing raises."""
    violations = validate_row(row, SCHEMA)

    assert {violation.reason for violation in violations} <= {"missing", "type", "range", "category", "unknown"}
    if not violations:
        assert to_matrix([RowValidator(SCHEMA).validate(row)], SCHEMA, as_frame=True).shape == (1, len(SCHEMA.features))


NUMBERS = Schema(features=tuple(Feature(name=name, type="number", reference=REFERENCE) for name in ("a", "b")))
numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), json_values)


@given(st.dictionaries(st.sampled_from(["a", "b", "surprise"]), numbers))
def test_a_glance_judges_as_the_careful_look_does(row: dict[str, object]) -> None:
    """The short way for rows of numbers accepts what has no violation, refuses all else, and keeps every value."""
    violations = validate_row(row, NUMBERS)

    if violations:
        with pytest.raises(InvalidFeaturesError) as refused:
            RowValidator(NUMBERS).validate(row)
        assert list(refused.value.violations) == violations
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
def test_what_breaks_the_schema_is_named(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Every violation of a row is found, with the feature and a fixed reason."""
    assert reasons(**changes) == expected


def test_a_message_never_repeats_the_value() -> None:
    """A value may be private; the message says what was expected instead."""
    (violation,) = validate_row({**VALID_ROW, "size": "my secret"}, SCHEMA)

    assert "secret" not in violation.message
    assert "size: expected a number, got a string" in violation.message


def test_a_long_unknown_name_is_cut() -> None:
    """An unknown name of a megabyte does not come back as one."""
    (violation,) = validate_row({**VALID_ROW, "x" * 1_000_000: 1}, SCHEMA)

    assert len(violation.feature) + len(violation.message) < 300


def test_a_thousand_unknown_names_are_reported_in_part() -> None:
    """The number of violations is bounded by the schema, not by the caller."""
    violations = validate_row({**VALID_ROW, **{f"x{index}": 1 for index in range(1000)}}, SCHEMA)

    assert 0 < len(violations) <= 20


def test_missing_values_become_nan() -> None:
    """In an array of numbers a missing value is NaN, a boolean 0 or 1."""
    numeric = Schema(features=(SCHEMA.features[1], SCHEMA.features[3]))

    matrix = to_matrix([(None, True), (2, False)], numeric, as_frame=False)

    np.testing.assert_array_equal(matrix, [[np.nan, 1.0], [2.0, 0.0]])


def test_a_frame_has_the_dtypes_of_training() -> None:
    """Columns are named and typed like the training data."""
    rows = [RowValidator(SCHEMA).validate(row) for row in (VALID_ROW, {**VALID_ROW, "weight": None, "heating": None})]
    matrix = to_matrix(rows, SCHEMA, as_frame=True)

    assert list(map(str, matrix.dtypes)) == ["float64", "float64", "int64", "bool", "object", "object"]
    assert list(matrix.columns) == list(SCHEMA.names)


def test_a_schema_with_a_name_twice_is_refused() -> None:
    """Names are unique."""
    with pytest.raises(ValueError, match="same name"):
        Schema(features=(SCHEMA.features[0], SCHEMA.features[0]))


@pytest.mark.parametrize("privacy", ["mask", "", None])
def test_a_treatment_that_is_not_known_is_refused(privacy: Any) -> None:
    """A feature that asks to be treated in a way that this version does not know is not served as if it had not."""
    with pytest.raises(ValueError, match="privacy"):
        Feature(name="x", type="number", privacy=privacy, reference=REFERENCE)
