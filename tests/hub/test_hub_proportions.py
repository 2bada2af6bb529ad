"""Comparing shares: intervals, the exact test and the correction, against scipy and published results."""

import random

import pytest
from scipy import stats

from modeltrace_hub.queries.proportions import adjust_holm, fisher_greater, newcombe_interval, wilson_interval

# Newcombe 1998, table II: the counts of examples (a), (d), (e) and (g), and the limits of method 10.
PUBLISHED = [
    ((56, 70, 48, 80), (0.0524, 0.3339)),
    ((9, 10, 3, 10), (0.1705, 0.8090)),
    ((6, 7, 2, 7), (0.0582, 0.8062)),
    ((5, 56, 0, 29), (-0.0381, 0.1926)),
]


def tables(count: int) -> list[tuple[int, int, int, int]]:
    """Return random counts and sizes of two samples, among them empty and full ones."""
    chance = random.Random(5)  # noqa: S311  the same counts every time
    sizes = (1, 2, 7, 40, 500, 4000)
    result = []
    for _ in range(count):
        size, other_size = chance.choice(sizes), chance.choice(sizes)
        result.append((chance.randint(0, size), size, chance.randint(0, other_size), other_size))
    return result


@pytest.mark.parametrize(("counts", "limits"), PUBLISHED)
def test_newcombe_interval_is_the_published_one(counts: tuple[int, int, int, int], limits: tuple[float, float]) -> None:
    """The limits of the paper's examples are equal to all printed digits."""
    assert newcombe_interval(*counts) == pytest.approx(limits, abs=5e-5)


def test_intervals_agree_with_scipy() -> None:
    """Wilson's limits are those of scipy; Newcombe's contain the difference and are combined from them."""
    for count, size, other_count, other_size in tables(200):
        expected = stats.binomtest(count, size).proportion_ci(0.95, method="wilson")
        assert wilson_interval(count, size) == pytest.approx((expected.low, expected.high), abs=1e-9)
        low, high = newcombe_interval(count, size, other_count, other_size)
        difference = count / size - other_count / other_size
        assert low - 1e-12 <= difference <= high + 1e-12
        other = stats.binomtest(other_count, other_size).proportion_ci(0.95, method="wilson")
        distance = ((count / size - expected.low) ** 2 + (other.high - other_count / other_size) ** 2) ** 0.5
        assert difference - low == pytest.approx(distance, abs=1e-9)


def test_fisher_agrees_with_scipy() -> None:
    """The one-sided p-value is that of scipy, also for empty and full samples."""
    for count, size, other_count, other_size in [*tables(200), (4000, 4000, 0, 4000), (0, 7, 0, 40), (7, 7, 40, 40)]:
        table = [[count, size - count], [other_count, other_size - other_count]]
        expected = stats.fisher_exact(table, alternative="greater").pvalue
        assert fisher_greater(count, size, other_count, other_size) == pytest.approx(expected, rel=1e-7, abs=1e-12)


def test_holm_is_the_step_down_correction() -> None:
    """Corrected p-values are those of Holm's definition, in the order of the input."""
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0]
    assert adjust_holm([]) == []
