"""What bench/evaluation.py measures: two ways to the same figures."""

from pathlib import Path

from rich.console import Console

from bench.evaluation import run


def test_both_ways_say_the_same(tmp_path: Path) -> None:
    """Half of the predictions have a label, half of these are wrong: what is compared is the same work."""
    result = run(str(tmp_path / "predictions.db"), 2000, Console(quiet=True))

    ours, theirs = result["in the database"]["accuracy"], result["with scikit-learn"]["accuracy"]
    assert abs(ours - theirs) < 1e-12
    assert 0.4 < ours < 0.6
    assert (result["rows"], result["store"]) == (2000, "SQLite")
