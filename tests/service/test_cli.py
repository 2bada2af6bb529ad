"""The command line lists its commands without importing them, and imports them to run them."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pkgutil import resolve_name

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from modeltrace.cli.main import AUDIT_COMMANDS, COMMANDS, REPORT_COMMANDS, app
from tests.helpers.hubs import HubPorts
from tests.helpers.processes import run, running

TABLES = {"": COMMANDS, "audit": AUDIT_COMMANDS, "report": REPORT_COMMANDS}
HEAVY = {
    "duckdb",
    "fastapi",
    "httpx",
    "numpy",
    "opentelemetry",
    "pandas",
    "psycopg",
    "pyarrow",
    "scipy",
    "skops",
    "sklearn",
    "sqlalchemy",
}


def function_of(group: str, command: str) -> Callable[..., None]:
    """Return the function of a command. At the top level, `group` is empty or the command itself."""
    function: Callable[..., None] = resolve_name(f"modeltrace.cli.{group or command}:{command}")
    return function


@pytest.mark.parametrize("group", TABLES)
def test_help_lists_each_command_with_the_first_line_of_its_docstring(group: str) -> None:
    """The summary of each command is the first line of its docstring."""
    documented = {name: (inspect.getdoc(function_of(group, name)) or "").partition("\n")[0] for name in TABLES[group]}

    assert TABLES[group] == documented


@pytest.mark.parametrize(
    "command", [[*filter(None, [group]), name] for group, table in TABLES.items() for name in table]
)
def test_help_of_a_command(command: list[str]) -> None:
    """`modeltrace COMMAND --help` prints the usage, the docstring and the options of the command that is imported."""
    standalone = typer.Typer(add_completion=False)
    standalone.command()(function_of(command[0], command[-1]))

    printed = CliRunner().invoke(app, [*command, "--help"])
    expected = CliRunner().invoke(standalone, ["--help"])

    assert printed.exit_code == expected.exit_code == 0
    usage, rest = printed.output.lstrip().split("\n", 1)
    assert f"{' '.join(command)} [OPTIONS]" in usage
    assert rest == expected.output.lstrip().split("\n", 1)[1]


@pytest.mark.parametrize(
    ("group", "command"), [(group, command) for group, table in TABLES.items() for command in table]
)
def test_commands_have_one_word_for_the_model(group: str, command: str) -> None:
    """`--bundle SOURCE` is the model that a command uses, `--name` and `--version` are those of stored predictions."""
    standalone = typer.Typer(add_completion=False)
    standalone.command()(function_of(group, command))
    options = {name: option for option in get_command(standalone).params for name in option.opts}

    assert not options.keys() & {"--bundles", "--model", "--models", "--source", "--model-name", "--model-version"}
    assert "--bundle" not in options or options["--bundle"].metavar == "SOURCE"
    assert "bundle" not in options or options["bundle"].metavar == "[SOURCE]"


def test_version() -> None:
    """`modeltrace --version` prints the version of the package."""
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.output) == (0, f"modeltrace {version('modeltrace')}\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("modeltrace sc", ["score"]),
        ("modeltrace audit e", ["erase", "export"]),
        ("modeltrace score --b", ["--bundle"]),
        ("modeltrace evaluate --v", ["--version"]),
        ("modeltrace audit export --for", ["--force", "--format"]),
    ],
)
def test_shell_completion(words: str, expected: list[str]) -> None:
    """The shell gets the commands and, although commands are imported when they run, their options."""
    env = {"_MODELTRACE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}

    result = CliRunner().invoke(app, [], prog_name="modeltrace", env=env)

    assert sorted(result.output.split()) == expected


def test_unknown_option_is_an_error() -> None:
    """The error names the whole command, as without lazy imports."""
    result = CliRunner().invoke(app, ["audit", "prune", "--nonsense"])

    assert result.exit_code == 2
    assert "audit prune [OPTIONS]" in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["audit", "--help"], ["report", "--help"]])
def test_help_of_a_group_imports_no_command(arguments: list[str]) -> None:
    """Help of a group imports neither modules of commands nor packages that only commands need."""
    program = (
        "import json, sys\n"
        "from modeltrace.cli.main import main\n"
        f"sys.argv = ['modeltrace', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules: list[str] = json.loads(process.stderr)

    assert {name.partition(".")[0] for name in modules} & HEAVY == set()
    assert [name for name in modules if name.startswith("modeltrace.")] == [
        "modeltrace.cli",
        "modeltrace.cli.main",
        "modeltrace.errors",
        "modeltrace.imports",
    ]


def test_hub_is_listed() -> None:
    """`modeltrace --help` lists the command `hub`."""
    assert re.search(r"\bhub\b .*modeltrace-hub", CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output)


@pytest.mark.slow
def test_hub_has_the_options_of_modeltrace_hub() -> None:
    """`modeltrace hub --help` is the help of `modeltrace-hub`, and exit codes are passed on."""
    by_service, by_hub = run(["modeltrace", "hub", "--help"]), run(["modeltrace_hub", "--help"])

    assert (by_service.returncode, by_service.stderr) == (0, "")
    assert by_service.stdout == by_hub.stdout
    assert run(["modeltrace", "hub", "--nonsense"]).returncode == 2


@pytest.mark.slow
def test_hub_is_started() -> None:
    """`modeltrace hub` starts the hub with its options, and SIGTERM stops it."""
    ports = HubPorts.reserve()
    with running(["modeltrace", "hub", "--memory", *ports.options]) as process:
        process.wait_for(f"{ports.page_url}/healthz")
        assert process.stop() == 0
