"""The evaluation bench: both ways compute the same metrics."""

from pathlib import Path

from rich.console import Console

from bench.evaluation import run


def test_database_and_scikit_learn_compute_the_same_accuracy(tmp_path: Path) -> None:
    """Half of the predictions have a true label, and half of these labels differ from the prediction."""
    result = run(str(tmp_path / "predictions.db"), 2000, Console(quiet=True))

    in_database, with_sklearn = result["database"]["accuracy"], result["scikit-learn"]["accuracy"]
    assert abs(in_database - with_sklearn) < 1e-12
    assert 0.4 < in_database < 0.6
    assert (result["rows"], result["store"]) == (2000, "SQLite")
