"""What a model answered before it was served, and how sure it was of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bundles.output_reference import (
    MAX_BINARY_THRESHOLD,
    MIN_HELD_OUT_ROWS,
    build_output_reference,
    confidence_threshold,
)
from modeltrace.inference.model import ModelOutput

CLASSES = ("a", "b")
confidences = st.lists(st.floats(0.5, 1), min_size=1, max_size=300)


def sure(values: list[float]) -> list[ModelOutput]:
    """Answers of so much confidence."""
    return [ModelOutput("a", value) for value in values]


@given(confidences, confidences)
def test_clearly_fewer_than_five_in_a_hundred_lie_below_the_threshold(seen: list[float], unseen: list[float]) -> None:
    """Of two classes, where nothing falls below 0.5: of held-out rows if there are many, else of the training data."""
    threshold = confidence_threshold(sure(seen), sure(unseen), CLASSES)
    judged = unseen if len(unseen) >= 100 else seen

    assert threshold is not None
    assert 0.5 - 1e-4 <= threshold <= MAX_BINARY_THRESHOLD
    assert sum(value < threshold for value in judged) <= 0.02 * len(judged)


@pytest.mark.parametrize(
    ("answers", "classes", "expected"),
    [
        (sure([0.4, 0.9]), ("a", "b", "c"), 0.5),
        ([ModelOutput("a")], CLASSES, None),
        ([ModelOutput(value=1.0)], None, None),
        (sure([1.0]), ("a",), None),
    ],
)
def test_the_threshold_of_other_models(
    answers: list[ModelOutput], classes: tuple[str, ...] | None, expected: float | None
) -> None:
    """From three classes up a half; none without probabilities, of a regressor, or where there is nothing to choose."""
    assert confidence_threshold(answers, [], classes) == expected


def test_every_class_has_a_share() -> None:
    """One that was never answered, too, and one that is no class (an outlier's)."""
    answers = [ModelOutput("b"), ModelOutput("b"), ModelOutput("outlier"), ModelOutput("b")]

    assert build_output_reference(answers, [], CLASSES).shares == {"a": 0, "b": 0.75, "outlier": 0.25}


def test_values_fall_between_their_deciles() -> None:
    """Of a regressor: bins without `missing` and `other`, which an answer cannot be."""
    answers = build_output_reference([ModelOutput(value=float(n)) for n in range(1000)], [], None)

    assert list(answers.shares) == [f"{index:02d}" for index in range(10)]
    assert list(answers.shares.values()) == [pytest.approx(0.1)] * 10
    assert answers.mean == pytest.approx(499.5)


@pytest.mark.parametrize(("number", "expected"), [(MIN_HELD_OUT_ROWS - 1, "training"), (MIN_HELD_OUT_ROWS, "held_out")])
def test_enough_held_out_rows_are_the_better_reference(number: int, expected: str) -> None:
    """An overfitted model answers its training data as nothing else."""
    assert build_output_reference([ModelOutput("a")], [ModelOutput("b")] * number, CLASSES).source == expected
