"""How many independent rows the rows of a window are worth."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import lfilter

from modeltrace.bundles.column_schema import describe_column
from modeltrace.inference.schema import Feature, Schema
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.monitoring.dependence import bin_variance, count_processes, estimate_independent_share
from modeltrace.telemetry.metrics.row_dependence import sum_differences

TRAINING_ROWS, ROWS = 2000, 20_000


def _share(
    feature: Feature, values: Sequence[float | str | None], process_of_row: "NDArray[np.intp] | None" = None
) -> float:
    """Return the independent share of a sequence of values, which may be distributed to several processes."""
    bins = FeatureBins(Schema(features=(feature,)))
    rows = [(value,) for value in values]
    numbers = bins.digitize(rows, bins.numeric_values(rows))
    counts = np.bincount(numbers[:, 0], minlength=len(bins.bin_names)).tolist()
    processes = [numbers]
    if process_of_row is not None:
        processes = [numbers[process_of_row == process] for process in np.unique(process_of_row)]
    difference = sum(float(sum_differences(bins.scores, of_process)[0]) for of_process in processes)
    pairs = [len(of_process) - 1 for of_process in processes]
    variance = bin_variance(feature.reference, counts)
    return estimate_independent_share(difference, sum(pairs), variance, count_processes(pairs))


def _number() -> Feature:
    return describe_column(pd.Series(np.random.default_rng(0).normal(size=TRAINING_ROWS), name="x"))


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8, 0.95])
def test_an_autoregressive_sequence_is_worth_its_effective_sample_size(correlation: float) -> None:
    """For a mean, n rows are worth n (1 - r) / (1 + r) rows. Bins lose a part of a high correlation."""
    rng, values = np.random.default_rng(1), [0.0]
    for noise in rng.normal(scale=(1 - correlation**2) ** 0.5, size=ROWS):
        values.append(correlation * values[-1] + float(noise))

    expected = (1 - correlation) / (1 + correlation)
    assert 0.9 * expected < _share(_number(), [*values]) < 1.5 * expected


def _autoregressive(correlation: float) -> list[float]:
    noise = np.random.default_rng(5).normal(scale=(1 - correlation**2) ** 0.5, size=ROWS)
    values: list[float] = lfilter([1.0], [1.0, -correlation], noise).tolist()
    return values


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8, 0.95])
def test_the_number_of_processes_does_not_change_what_rows_are_worth(processes: int, correlation: float) -> None:
    """A load balancer distributes the same rows at random, with unequal shares."""
    values, weights = _autoregressive(correlation), np.arange(processes) + 2.0
    distributed = np.random.default_rng(6).choice(processes, p=weights / weights.sum(), size=ROWS)

    assert _share(_number(), values, distributed) == pytest.approx(_share(_number(), values), rel=0.15)


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("correlation", [0.8, 0.95])
def test_rows_that_processes_get_in_turn_are_worth_nearly_the_same(processes: int, correlation: float) -> None:
    """The correlation of a process is then r^P, which is a little less than for a random distribution."""
    values = _autoregressive(correlation)

    ratio = _share(_number(), values, np.arange(ROWS) % processes) / _share(_number(), values)
    assert 0.85 < ratio < 1.35


def test_a_process_without_requests_does_not_count() -> None:
    """A client with one connection stays with one process: the number of the others does not matter."""
    assert count_processes([500, 0, 0]) == 1
    assert count_processes([100, 100]) == 2
    assert count_processes([999, 1]) == pytest.approx(1, abs=0.01)
    assert count_processes([]) == 1


@pytest.mark.parametrize("stay", [0.0, 0.3, 0.9])
def test_categories_that_stay_are_worth_fewer_rows(stay: float) -> None:
    """Each value is kept with a probability, which is the correlation; otherwise it is drawn anew."""
    rng = np.random.default_rng(2)
    drawn = rng.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1], size=ROWS).tolist()
    feature = describe_column(pd.Series(drawn[:TRAINING_ROWS], name="x"))
    values = drawn[:1]
    for new, number in zip(drawn[1:], rng.random(ROWS), strict=False):
        values.append(values[-1] if number < stay else new)

    assert _share(feature, [*values]) == pytest.approx((1 - stay) / (1 + stay), rel=0.1)


@given(st.integers(0, 2**32 - 1), st.integers(200, 2000))
def test_independent_rows_are_rarely_reported_as_dependent(seed: int, n: int) -> None:
    """Fixed examples: each is below three standard errors, or slightly above."""
    values = np.random.default_rng(seed).normal(size=n).tolist()
    assert _share(_number(), values) > (1 - 4.5 / n**0.5) / (1 + 4.5 / n**0.5)


def test_values_that_do_not_vary_are_independent() -> None:
    """No correlation can be computed for them, nor without pairs."""
    feature = _number()
    assert _share(feature, [0.1] * 300) == 1.0
    assert bin_variance(feature.reference, [0] * len(feature.reference.shares)) == 0.0
    assert estimate_independent_share(0.0, 0, 1.0) == 1.0


def test_a_sequence_with_one_change_is_worth_few_rows() -> None:
    """Half of the values of a sorted window differ from the other half, but only one pair differs."""
    assert _share(_number(), [-1.0] * 5000 + [1.0] * 5000) < 0.001
    assert estimate_independent_share(0.0, 10_000, 1.0) == pytest.approx(1 / 1999)
