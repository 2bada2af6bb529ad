"""Which backends a run is put to."""

import pytest

from tests.helpers.stack import missing


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say in the last lines what was not tested."""
    if not config.getoption("--stack"):
        terminalreporter.write_line(
            "NOT TESTED: the real Collector, Jaeger, Prometheus, Loki and what is deployed with them. "
            "./dev test --stack does (a first build takes about 25 minutes).",
            yellow=True,
            bold=True,
        )
