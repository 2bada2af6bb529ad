"""Which backends a run is put to, and the databases that the prediction store is put to."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.postgres import NoPostgresError, Postgres, running_postgres
from tests.helpers.stack import missing

NO_POSTGRES = "needs PostgreSQL"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--stack`: the real stack, too; `--outage`: how long a part of it is away."""
    parser.addoption("--stack", action="store_true", help="also run what needs the real stack (./dev stack build)")
    parser.addoption("--outage", type=float, default=8.0, metavar="SECONDS", help="how long an outage lasts [8]")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs the real stack unless the run asks for it, and refuse a run that asks in vain."""
    if config.getoption("--stack"):
        if absent := missing():
            raise pytest.UsageError(f"--stack, but not built: {', '.join(absent)}. First: ./dev stack build")
        return
    skip = pytest.mark.skip(reason="needs the real stack: ./dev test --stack")
    for item in items:
        if item.get_closest_marker("stack"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of the run's own."""
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(running_postgres())
        except NoPostgresError as error:
            pytest.skip(f"{NO_POSTGRES}: {error}")
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store may be that is not there yet, in each database in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "store" / "predictions.db")
    cluster: Postgres = request.getfixturevalue("postgres")
    return cluster.url(cluster.new())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say in the last lines what was not tested."""
    if not config.getoption("--stack"):
        terminalreporter.write_line(
            "NOT TESTED: the real Collector, Jaeger, Prometheus, Loki and what is deployed with them. "
            "./dev test --stack does (a first build takes about 25 minutes).",
            yellow=True,
            bold=True,
        )
    if any(NO_POSTGRES in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(
            "NOT TESTED: the prediction store in PostgreSQL (Debian: apt install postgresql).",
            yellow=True,
            bold=True,
        )
