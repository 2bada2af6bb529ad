"""The bench of large stores: the command reads both sources, and the sources are filled once."""

from pathlib import Path

import pytest

from bench.large_evaluation import fill_parquet, fill_postgres, measure, print_result
from tests.helpers.postgres import Postgres

pytestmark = pytest.mark.slow


def test_both_sources_are_filled_once_and_measured(
    postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Parquet files have the columns that the command reads."""
    url, folder = postgres.url(postgres.create_database()), tmp_path / "lake"
    for _ in range(2):
        fill_postgres(url, 1000)
        fill_parquet(folder, 1000)
    sources = {"Parquet files": measure(["--from", str(folder)], "none"), "PostgreSQL": measure([], url)}
    print_result({"sources": sources, "load_average": (0.0, 0.0, 0.0)})

    assert [cost["predictions"] for cost in sources.values()] == [1000, 1000]
    assert all(cost["cpu_seconds"] > 0 for cost in sources.values())
    assert "Parquet files" in capsys.readouterr().out
