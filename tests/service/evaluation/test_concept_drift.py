"""The drift detector gives the same changes as river's public ADWIN."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from river.drift import ADWIN

from modeltrace.evaluation.concept_drift import DRIFT, PARAMETERS, STABLE, Change, detect_drift

Errors = NDArray[np.float64]


def river_changes(errors: Errors) -> list[Change]:
    """Return the changes that river detects, with a new detector after each."""
    detector, start = ADWIN(), 0
    changes = []
    for index, error in enumerate(errors.tolist()):
        detector.update(error)
        if detector.drift_detected:
            changes.append(Change(index, detector.estimation > errors[start : index + 1].mean()))
            detector, start = ADWIN(), index + 1
    return changes


def stream(segments: list[tuple[int, float]], seed: int) -> Errors:
    """Return errors (1) and correct predictions (0) with each rate in turn."""
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(length) < rate).astype(float) for length, rate in segments])


RATES = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@settings(deadline=None, max_examples=200)
@given(
    segments=st.lists(st.tuples(st.integers(0, 700), RATES), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_changes_equal_those_of_river(segments: list[tuple[int, float]], seed: int) -> None:
    """This holds for any error rates and any number of changes."""
    errors = stream(segments, seed)

    assert list(detect_drift(errors).changes) == river_changes(errors)


@settings(deadline=None, max_examples=100)
@given(errors=st.lists(st.floats(0, 1), max_size=300))
def test_changes_of_fractions_equal_those_of_river(errors: list[float]) -> None:
    """The errors of a regressor are any numbers from 0 to 1."""
    assert list(detect_drift(np.array(errors)).changes) == river_changes(np.array(errors))


def test_the_parameters_are_rivers_defaults() -> None:
    """The detector has no parameters of its own."""
    public = ADWIN()

    assert {name: getattr(public, name) for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize(("before", "after", "expected"), [(0.05, 0.4, DRIFT), (0.4, 0.05, STABLE), (0.2, 0.2, STABLE)])
def test_only_an_increase_is_drift(before: float, after: float, expected: int) -> None:
    """A decrease is a change, but not a drift."""
    result = detect_drift(stream([(3000, before), (3000, after)], seed=1))

    assert result.level == expected
    assert bool(result.changes) == (before != after)
    assert bool(result.drift_indices) == (expected == DRIFT)


def test_a_drift_is_reported_until_the_end_of_the_errors() -> None:
    """The error rate rises to 60 % and then falls to 40 %, which is still more than the 5 % before."""
    result = detect_drift(stream([(5000, 0.05), (300, 0.6), (17_500, 0.4)], seed=2))

    assert result.level == DRIFT
    assert 5000 <= result.drift_indices[0] < 5100
    assert result.mean_error == pytest.approx(0.4, abs=0.02)


def test_the_mean_error_counts_from_the_last_change() -> None:
    """Predictions before the change do not count."""
    errors = stream([(2000, 0.05), (500, 0.9)], seed=1)
    result = detect_drift(errors)

    assert result.mean_error == errors[result.changes[-1].index + 1 :].mean()


def test_the_mean_error_of_a_change_at_the_last_label_is_that_of_the_window() -> None:
    """No later errors exist."""
    errors = stream([(2000, 0.05), (500, 0.9)], seed=1)
    until_change = errors[: detect_drift(errors).changes[0].index + 1]
    detector = ADWIN()
    for error in until_change.tolist():
        detector.update(error)

    result = detect_drift(until_change)

    assert result.changes[-1].index == len(until_change) - 1
    assert result.mean_error == detector.estimation


def test_no_errors_have_no_drift() -> None:
    """There is no mean either."""
    result = detect_drift(np.array([]))

    assert (result.labels, result.level, result.mean_error) == (0, STABLE, None)
