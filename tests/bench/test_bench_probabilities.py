"""The bench of probabilities: its figures."""

import pytest

from bench.probabilities import run


def test_figures_belong_together() -> None:
    """The cost and the ratio are those of the two times."""
    result = run(rounds=2)

    assert result["without_us"] > 1
    assert result["with_us"] > 1
    assert result["cost_us"] == pytest.approx(result["with_us"] - result["without_us"], abs=0.02)
    assert result["ratio"] == pytest.approx(result["with_us"] / result["without_us"], abs=0.001)
    assert result["rounds"] == 2
