"""Options of a run, groups for pytest-xdist, databases of the prediction store, and the summary of skipped tests."""

import atexit
import gc
import os
import re
import ssl
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx import create_ssl_context
from hypothesis import settings

from tests.helpers.backends import RealStack, real_stack_of
from tests.helpers.postgres import NoPostgresError, Postgres, running_postgres
from tests.helpers.stack import has_loki, missing, missing_many, running_stack

# Marker, the option that enables its tests, and the skip reason without the option.
OPTIONAL = (
    ("stack", "--stack", "the real stack: ./dev test --stack (the first build takes 25 minutes)"),
    (
        "many",
        "--many",
        "a Kubernetes API server, Kafka or OpenSearch: ./dev test --stack --many (first: ./dev stack build --many)",
    ),
    ("extended", "--all", "the extended tests: ./dev test --all"),
)
NO_LOKI = "Loki, which is optional (AGPL-3.0), for LogQL and what Loki stores: ./dev stack build --with loki"
NOT_RUN_LINES = 5
ALL_SLOW = re.compile(r"^pytestmark = .*pytest\.mark\.slow\b", re.MULTILINE)


# ./dev fuzz: new examples in each round, 500 for each test that does not set max_examples. Every other run uses
# Hypothesis' profile "ci", which generates the same examples each time (pyproject.toml).
settings.register_profile("fuzz", settings.get_profile("ci"), derandomize=False, database=None, max_examples=500)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that enable further tests."""
    parser.addoption(
        "--all", action="store_true", help="also the extended tests: more faults, PostgreSQL, builds from source"
    )
    parser.addoption("--stack", action="store_true", help="also what needs the real stack (./dev stack build)")
    parser.addoption(
        "--many",
        action="store_true",
        help="also what needs a Kubernetes API server, Kafka or OpenSearch (./dev stack build --many)",
    )
    parser.addoption("--outage", type=float, default=3.0, metavar="SECONDS", help="how long an outage lasts [3]")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files of slow tests in a run with `-m "not slow"`: imports are a tenth of its time."""
    if config.option.markexpr != "not slow" or not re.fullmatch(r"test_.*\.py", collection_path.name):
        return None
    return True if ALL_SLOW.search(collection_path.read_text(encoding="utf-8")) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Disable garbage collection while tests are collected, and exclude all objects that exist then from it.

    Modules and tests live until the process ends. Garbage collections would take a fifth of the time of the collection,
    and visit all these objects again and again in the tests.
    """
    gc.disable()
    try:
        if hasattr(session.config, "workerinput"):
            # First: with more modules loaded, this import is slower.
            import modeltrace.bundles.skops_io  # noqa: F401, PLC0415  not in the main process, which runs no test
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Assign tests to worker groups; skip tests that the options do not enable."""
    for item in items:
        if group := worker_group(item):
            item.add_marker(pytest.mark.xdist_group(group))
        for marker, option, reason in OPTIONAL:
            if item.get_closest_marker(marker) and not config.getoption(option):
                item.add_marker(pytest.mark.skip(reason=reason))
        if config.getoption("--stack") and item.get_closest_marker("loki") and not has_loki():
            item.add_marker(pytest.mark.skip(reason=NO_LOKI))
    # The files with the longest tests run first, so that no worker process gets a long file when the others are done.
    files = {name: {item.path for item in items if item.get_closest_marker(name)} for name in ("stack", "slow")}
    items.sort(key=lambda item: [item.path not in files[name] for name in ("stack", "slow")])


def worker_group(item: pytest.Item) -> str | None:
    """Return the xdist group of a test. One worker process runs all tests of a group.

    Tests that use the shared stack are one group, so a run starts it once. Tests with a class-, module- or
    package-scoped fixture are one group per file, so that the fixture is created once. Other tests have no group.
    """
    fixtures = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    if "real_stack" in fixtures or any(isinstance(value, str) and value == "real_stack" for value in parameters(item)):
        return "stack"
    scopes = {definition.scope for definitions in fixtures.values() for definition in definitions}
    return item.nodeid.partition("::")[0] if scopes & {"class", "module", "package"} else None


def parameters(item: pytest.Item) -> list[object]:
    """Return the values of the parameters of a test."""
    return list(item.callspec.params.values()) if hasattr(item, "callspec") else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates, which property tests generate: pytest-xdist cannot send them to the main process."""
    report = yield
    report.sections = [(name, _escape_surrogates(content)) for name, content in report.sections]
    if report.longrepr is not None and _escape_surrogates(text := str(report.longrepr)) != text:
        report.longrepr = _escape_surrogates(text)
    return report


def _escape_surrogates(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Restore the process's umask after each test: commands that a test calls in this process set it."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session", autouse=True)
def _shared_tls_contexts() -> Iterator[None]:
    """Share TLS contexts between clients: each `httpx.Client` reads all CA certificates, which takes 20 ms."""
    contexts: dict[object, ssl.SSLContext] = {}

    def create(*arguments: Any, **options: Any) -> ssl.SSLContext:
        variables = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
        key = arguments, tuple(sorted(options.items())), variables
        if key not in contexts:
            contexts[key] = create_ssl_context(*arguments, **options)
        return contexts[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", create)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL cluster for the whole run."""
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(running_postgres())
        except NoPostgresError as error:
            pytest.skip(f"PostgreSQL: {error}")
        yield cluster


@pytest.fixture(scope="session")
def real_stack() -> Iterator[RealStack]:
    """The real stack on free ports, shared by all tests that neither change its configuration nor stop a component.

    Service names and trace IDs distinguish the telemetry of the tests.
    """
    with running_stack() as stack, httpx.Client(timeout=30) as client:
        yield real_stack_of(stack, client)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.extended)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a prediction store that does not exist yet, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "store" / "predictions.db")
    cluster: Postgres = request.getfixturevalue("postgres")
    return cluster.url(cluster.create_database())


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the most frequent skip reasons, one per line, and the number of all other skipped tests."""
    reasons = Counter(skip_reason(report) for report in terminalreporter.stats.get("skipped", []))
    shown = reasons.most_common(NOT_RUN_LINES if len(reasons) <= NOT_RUN_LINES else NOT_RUN_LINES - 1)
    for reason, number in shown:
        terminalreporter.write_line(f"NOT RUN: {number} tests, {reason}", yellow=True, bold=True)
    if rest := reasons.total() - sum(number for _, number in shown):
        terminalreporter.write_line(f"NOT RUN: {rest} more; ./dev test -rs lists them", yellow=True, bold=True)


def pytest_configure(config: pytest.Config) -> None:
    """Sort the paths, check once that all programs are built, and discard the stderr of worker processes at their exit.

    pytest 9.1 does not find the fixtures of a folder's conftest.py ("fixture not found") if a file of the parent folder
    is between two files of the folder in the list of paths.

    DuckDB's binding reports objects that exist at the exit of the interpreter as leaks.

    Raises:
        pytest.UsageError: an option needs programs that are not built.
    """
    config.args.sort()
    if hasattr(config, "workerinput"):
        atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
        return
    for option, absent, command in (
        ("--stack", missing, "./dev stack build"),
        ("--many", missing_many, "./dev stack build --many"),
    ):
        if config.getoption(option) and (names := absent()):
            raise pytest.UsageError(f"{option}, but not built: {', '.join(names)}. First: {command}")


def pytest_unconfigure() -> None:
    """Let the interpreter free all objects at its exit: DuckDB's binding reports those that it does not free as leaks.

    It frees neither frozen objects nor those that a callback of the garbage collector refers to, as Hypothesis's does.
    """
    gc.unfreeze()
    gc.callbacks.clear()


def skip_reason(report: pytest.TestReport) -> str:
    """Return the reason of a skipped test, from its marker or from `pytest.skip`."""
    assert isinstance(report.longrepr, tuple)
    return str(report.longrepr[2]).removeprefix("Skipped: ")
