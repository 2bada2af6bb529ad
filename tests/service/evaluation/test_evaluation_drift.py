"""Concept drift is found where river finds it, prediction by prediction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from river.drift.binary import DDM

from modeltrace.evaluation.concept_drift import (
    DEFAULT_LIMITS,
    DRIFT,
    FIRST_BLOCK,
    STABLE,
    WARNING,
    DriftLimits,
    detect_drift,
)


def rivers(errors: NDArray[np.int64], limits: DriftLimits) -> list[int]:
    """The level after each prediction, as river says it."""
    detector = DDM(*limits[:3])
    levels = []
    seen = 0
    for error in errors.tolist():
        seen = error if detector.drift_detected else seen + error
        detector.warm_start = limits.warm_start if seen >= limits.min_errors else len(errors)
        detector.update(bool(error))
        levels.append(DRIFT if detector.drift_detected else WARNING if detector.warning_detected else STABLE)
    return levels


def stream(pieces: list[tuple[int, float]], seed: int) -> NDArray[np.int64]:
    """Errors at one rate after the other."""
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(length) < rate).astype(np.int64) for length, rate in pieces])


# One deviation would be decided by how the last digit is rounded: where p + s is lowest, both sides are the same.
WARNINGS = st.floats(1.5, 3)
RATES = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@settings(deadline=None, max_examples=300)
@given(
    pieces=st.lists(st.tuples(st.integers(0, 700), RATES), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
    limits=st.builds(DriftLimits, st.integers(1, 400), WARNINGS, st.floats(3, 5), st.integers(0, 60)),
)
def test_levels_are_rivers(pieces: list[tuple[int, float]], seed: int, limits: DriftLimits) -> None:
    """At every prediction, whatever the rates, the limits and the number of drifts."""
    errors = stream(pieces, seed)

    assert detect_drift(errors, limits).levels.tolist() == rivers(errors, limits)


@settings(deadline=None, max_examples=300)
@given(errors=st.lists(st.integers(0, 1), max_size=200), warm_start=st.integers(1, 40))
def test_levels_are_rivers_for_any_errors(errors: list[int], warm_start: int) -> None:
    """Streams that no rate would give, too: the shortest, all wrong, all right."""
    limits = DriftLimits(warm_start)

    assert detect_drift(np.array(errors, dtype=np.int64), limits).levels.tolist() == rivers(np.array(errors), limits)


@pytest.mark.parametrize("length", [FIRST_BLOCK - 1, FIRST_BLOCK, FIRST_BLOCK + 1, 8 * FIRST_BLOCK + 3])
def test_a_long_stream_is_looked_at_whole(length: int) -> None:
    """However the looks fall, with a drift behind the first of them and without one."""
    errors = stream([(length, 0.1), (length, 0.5)], seed=length)

    found = detect_drift(errors)

    assert found.levels.tolist() == rivers(errors, DEFAULT_LIMITS)
    assert found.drift_indices
    assert found.drift_indices[0] >= FIRST_BLOCK - 1


def test_the_rate_of_errors_counts_from_the_last_start() -> None:
    """What was before a drift has no part in it."""
    errors = stream([(2000, 0.05), (500, 0.9)], seed=1)
    found = detect_drift(errors)
    last = found.drift_indices[-1]

    assert found.error_rates[-1] == errors[last + 1 :].mean()
    assert found.error_rates[found.drift_indices[0]] == errors[: found.drift_indices[0] + 1].mean()


def test_nothing_is_found_in_nothing() -> None:
    """No predictions, no levels."""
    assert detect_drift(np.array([], dtype=np.int64)).levels.tolist() == []
