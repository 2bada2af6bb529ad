"""The bench of partitions: all steps run on small stores, and both have the same predictions."""

import pytest

from bench.store_partitions import print_result, run
from tests.helpers.postgres import Postgres

pytestmark = pytest.mark.slow


def test_every_step_is_measured(postgres: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    """The databases of the bench are deleted."""
    result = run(postgres.url("postgres"), 800)
    print_result(result)

    assert [set(seconds) for seconds in result["seconds"].values()] == [
        {"insert", "evaluate a week in PostgreSQL", "evaluate a week from a copy", "delete a day"}
    ] * 2
    assert (result["inserted"], result["predictions"]) == (40, 707)
    assert "40 rows inserted" in capsys.readouterr().out
    assert not postgres.query("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'bench%'")
