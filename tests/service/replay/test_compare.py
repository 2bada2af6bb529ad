"""Outputs are compared exactly by label, and within a tolerance by confidence or value."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.inference.model import Label, ModelOutput
from modeltrace.replay.compare import TOLERANCE, compare

DOUBLE = TOLERANCE["float64"]
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
LABELS = st.text(max_size=5) | st.integers() | st.booleans() | NUMBERS
ANSWERS = st.builds(ModelOutput, LABELS, st.none() | st.floats(0, 1)) | st.builds(ModelOutput, value=NUMBERS)


@given(ANSWERS)
def test_an_output_is_equal_to_itself(answer: ModelOutput) -> None:
    """This holds for a classifier with and without probabilities, and for a regressor."""
    assert compare(0, "p", answer, answer, 0.0).outcome == "equal"


@given(ANSWERS, ANSWERS)
def test_the_comparison_is_symmetric(first: ModelOutput, second: ModelOutput) -> None:
    """Swapping the outputs changes only the sign of the difference."""
    forward, backward = compare(0, "p", first, second, DOUBLE), compare(0, "p", second, first, DOUBLE)

    assert forward.outcome == backward.outcome
    assert (forward.difference is None) == (backward.difference is None)
    assert forward.difference is None or forward.difference == -(backward.difference or 0.0)


@given(NUMBERS, st.floats(-3e-9, 3e-9))
def test_values_are_equal_within_the_tolerance(value: float, change: float) -> None:
    """The tolerance is absolute below 1 and relative above."""
    replayed = value + change * max(1.0, abs(value))
    result = compare(0, "p", ModelOutput(value=value), ModelOutput(value=replayed), DOUBLE)

    assert result.difference == replayed - value
    if abs(replayed - value) < 0.99 * DOUBLE * max(1.0, abs(value)):
        assert result.outcome == "equal"
    elif abs(replayed - value) > 1.01 * DOUBLE * max(1.0, abs(value), abs(replayed)):
        assert result.outcome == "different"


@pytest.mark.parametrize(
    ("recorded", "replayed"),
    [(1, True), (0, False), ("1", 1), ("a", "b"), (1, 2), ("", None)],
)
def test_labels_are_exact(recorded: Label, replayed: Label) -> None:
    """Labels of different types are different, even if Python compares them as equal."""
    assert compare(0, "p", ModelOutput(recorded, 0.9), ModelOutput(replayed, 0.9), DOUBLE).outcome == "different"


@pytest.mark.parametrize(
    ("recorded", "replayed"),
    [
        (ModelOutput("a", 0.5), ModelOutput("a")),
        (ModelOutput("a"), ModelOutput("a", 0.5)),
        (ModelOutput(value=1.0), ModelOutput("a", 1.0)),
        (ModelOutput("a", 0.5), ModelOutput("a", 0.5 + 1e-8)),
        (ModelOutput(value=1e9), ModelOutput(value=1e9 + 2)),
    ],
)
def test_a_missing_counterpart_or_a_larger_difference_is_different(
    recorded: ModelOutput, replayed: ModelOutput
) -> None:
    """A confidence is missing on one side, the tasks differ, or the difference exceeds the tolerance."""
    assert compare(0, "p", recorded, replayed, DOUBLE).outcome == "different"


def test_confidences_of_different_labels_have_no_difference() -> None:
    """They are confidences in different classes."""
    result = compare(0, "p", ModelOutput("a", 0.51), ModelOutput("b", 0.56), DOUBLE)

    assert (result.outcome, result.difference, result.label_changed) == ("different", None, True)


def test_an_integer_label_equals_the_same_float() -> None:
    """JSON does not distinguish integers from floats."""
    assert compare(0, "p", ModelOutput(1, 0.5), ModelOutput(1.0, 0.5), DOUBLE).outcome == "equal"
    assert math.isclose(DOUBLE, 1e-9)
