"""Two answers are the same, or they differ, and by how much."""

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
def test_an_answer_is_equal_to_itself(answer: ModelOutput) -> None:
    """Of a classifier, with and without probabilities, and of a regressor."""
    assert compare(0, "p", answer, answer, 0.0).outcome == "equal"


@given(ANSWERS, ANSWERS)
def test_comparing_has_no_direction(one: ModelOutput, other: ModelOutput) -> None:
    """Only the sign of the difference turns."""
    there, back = compare(0, "p", one, other, DOUBLE), compare(0, "p", other, one, DOUBLE)

    assert there.outcome == back.outcome
    assert (there.difference is None) == (back.difference is None)
    assert there.difference is None or there.difference == -(back.difference or 0.0)


@given(NUMBERS, st.floats(-3e-9, 3e-9))
def test_values_are_equal_within_the_tolerance(value: float, change: float) -> None:
    """Absolutely below 1, relatively above."""
    now = value + change * max(1.0, abs(value))
    result = compare(0, "p", ModelOutput(value=value), ModelOutput(value=now), DOUBLE)

    assert result.difference == now - value
    if abs(now - value) < 0.99 * DOUBLE * max(1.0, abs(value)):
        assert result.outcome == "equal"
    elif abs(now - value) > 1.01 * DOUBLE * max(1.0, abs(value), abs(now)):
        assert result.outcome == "differs"


@pytest.mark.parametrize(
    ("recorded", "now"),
    [(1, True), (0, False), ("1", 1), ("a", "b"), (1, 2), ("", None)],
)
def test_labels_are_exact(recorded: Label, now: Label) -> None:
    """A class that is called otherwise is another one, whatever Python thinks of it."""
    assert compare(0, "p", ModelOutput(recorded, 0.9), ModelOutput(now, 0.9), DOUBLE).outcome == "differs"


@pytest.mark.parametrize(
    ("recorded", "now"),
    [
        (ModelOutput("a", 0.5), ModelOutput("a")),
        (ModelOutput("a"), ModelOutput("a", 0.5)),
        (ModelOutput(value=1.0), ModelOutput("a", 1.0)),
        (ModelOutput("a", 0.5), ModelOutput("a", 0.5 + 1e-8)),
        (ModelOutput(value=1e9), ModelOutput(value=1e9 + 2)),
    ],
)
def test_what_has_no_counterpart_or_lies_beyond_differs(recorded: ModelOutput, now: ModelOutput) -> None:
    """A confidence that is gone or came, a regressor in a classifier's place, more than rounding does."""
    assert compare(0, "p", recorded, now, DOUBLE).outcome == "differs"


def test_confidences_in_different_labels_have_no_difference() -> None:
    """They are not of the same thing."""
    result = compare(0, "p", ModelOutput("a", 0.51), ModelOutput("b", 0.56), DOUBLE)

    assert (result.outcome, result.difference, result.label_changed) == ("differs", None, True)


def test_a_label_of_one_and_one_as_a_float_are_one() -> None:
    """JSON has one kind of number."""
    assert compare(0, "p", ModelOutput(1, 0.5), ModelOutput(1.0, 0.5), DOUBLE).outcome == "equal"
    assert math.isclose(DOUBLE, 1e-9)
