"""The drift detector gives the same levels as river's DDM after each prediction."""

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


def river_levels(errors: NDArray[np.int64], limits: DriftLimits) -> list[int]:
    """Return the level after each prediction by river's detector."""
    detector = DDM(*limits[:3])
    levels = []
    error_count = 0
    for error in errors.tolist():
        error_count = error if detector.drift_detected else error_count + error
        detector.warm_start = limits.warm_start if error_count >= limits.min_errors else len(errors)
        detector.update(bool(error))
        levels.append(DRIFT if detector.drift_detected else WARNING if detector.warning_detected else STABLE)
    return levels


def stream(segments: list[tuple[int, float]], seed: int) -> NDArray[np.int64]:
    """Return errors with each rate in turn."""
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(length) < rate).astype(np.int64) for length, rate in segments])


# With a threshold of one deviation both sides are equal where p + s is lowest, so rounding would decide.
WARNINGS = st.floats(1.5, 3)
RATES = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@settings(deadline=None, max_examples=300)
@given(
    segments=st.lists(st.tuples(st.integers(0, 700), RATES), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
    limits=st.builds(DriftLimits, st.integers(1, 400), WARNINGS, st.floats(3, 5), st.integers(0, 60)),
)
def test_levels_equal_those_of_river(segments: list[tuple[int, float]], seed: int, limits: DriftLimits) -> None:
    """This holds for any error rates, limits and number of drifts."""
    errors = stream(segments, seed)

    assert detect_drift(errors, limits).levels.tolist() == river_levels(errors, limits)


@settings(deadline=None, max_examples=300)
@given(errors=st.lists(st.integers(0, 1), max_size=200), warm_start=st.integers(1, 40))
def test_levels_equal_those_of_river_for_any_errors(errors: list[int], warm_start: int) -> None:
    """This includes very short streams, only errors, and no errors."""
    limits = DriftLimits(warm_start)

    assert detect_drift(np.array(errors, dtype=np.int64), limits).levels.tolist() == river_levels(
        np.array(errors), limits
    )


@pytest.mark.parametrize("length", [FIRST_BLOCK - 1, FIRST_BLOCK, FIRST_BLOCK + 1, 8 * FIRST_BLOCK + 3])
def test_drifts_are_detected_in_each_block(length: int) -> None:
    """The stream has a drift after the first block; its length is near multiples of the block size."""
    errors = stream([(length, 0.1), (length, 0.5)], seed=length)

    result = detect_drift(errors)

    assert result.levels.tolist() == river_levels(errors, DEFAULT_LIMITS)
    assert result.drift_indices
    assert result.drift_indices[0] >= FIRST_BLOCK - 1


def test_the_error_rate_counts_from_the_last_reset() -> None:
    """Predictions before a drift do not count."""
    errors = stream([(2000, 0.05), (500, 0.9)], seed=1)
    result = detect_drift(errors)
    last = result.drift_indices[-1]

    assert result.error_rates[-1] == errors[last + 1 :].mean()
    assert result.error_rates[result.drift_indices[0]] == errors[: result.drift_indices[0] + 1].mean()


def test_an_empty_stream_has_no_levels() -> None:
    """There is one level per prediction."""
    assert detect_drift(np.array([], dtype=np.int64)).levels.tolist() == []
