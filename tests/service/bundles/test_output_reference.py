"""The reference distribution of a model's outputs, and its confidence threshold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bundles.output_reference import (
    MAX_BINARY_THRESHOLD,
    build_output_reference,
    confidence_threshold,
)
from modeltrace.inference.model import ModelOutput

CLASSES = ("a", "b")
confidences = st.lists(st.floats(0.5, 1), min_size=1, max_size=300)


def outputs_with(values: list[float]) -> list[ModelOutput]:
    """Return outputs with these confidences."""
    return [ModelOutput("a", value) for value in values]


@given(confidences)
def test_at_most_2_percent_are_below_the_threshold_of_two_classes(values: list[float]) -> None:
    """It is their 2 % quantile, at most `MAX_BINARY_THRESHOLD`."""
    threshold = confidence_threshold(outputs_with(values), CLASSES)

    assert threshold is not None
    assert 0.5 - 1e-4 <= threshold <= MAX_BINARY_THRESHOLD
    assert sum(value < threshold for value in values) <= 0.02 * len(values)


@pytest.mark.parametrize(
    ("outputs", "classes", "expected"),
    [
        (outputs_with([0.4, 0.9]), ("a", "b", "c"), 0.5),
        ([ModelOutput("a")], CLASSES, None),
        ([ModelOutput(value=1.0)], None, None),
        (outputs_with([1.0]), ("a",), None),
    ],
)
def test_the_threshold_of_other_models(
    outputs: list[ModelOutput], classes: tuple[str, ...] | None, expected: float | None
) -> None:
    """It is 0.5 from three classes up; regressors, one class and missing probabilities have none."""
    assert confidence_threshold(outputs, classes) == expected


def test_every_class_has_a_share() -> None:
    """So has a class that is never predicted, and a label that is not a class (an outlier)."""
    outputs = [ModelOutput("b"), ModelOutput("b"), ModelOutput("outlier"), ModelOutput("b")]

    assert build_output_reference(outputs, CLASSES).shares == {"a": 0, "b": 0.75, "outlier": 0.25}


def test_values_are_counted_between_deciles() -> None:
    """A regressor has no bins `missing` and `other`, because an output cannot be one of them."""
    outputs = build_output_reference([ModelOutput(value=float(n)) for n in range(1, 1001)], None)

    assert list(outputs.shares) == [f"{index:02d}" for index in range(12)]
    assert list(outputs.shares.values()) == [0.0, *[pytest.approx(0.1)] * 10, 0.0]
    assert outputs.mean == pytest.approx(500.5)
