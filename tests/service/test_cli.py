"""The command line finds its commands, and lists them without importing them."""

import inspect
import json
import subprocess
import sys
from collections.abc import Mapping
from pkgutil import resolve_name

import pytest
import typer
from typer.testing import CliRunner

from modeltrace.cli.main import AUDIT_COMMANDS, COMMANDS, REPORT_COMMANDS, app

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


@pytest.mark.parametrize("group", TABLES)
def test_help_lists_each_command_with_the_first_line_of_its_docstring(group: str) -> None:
    """The table of a group says of each command what the command says of itself."""
    table: Mapping[str, tuple[str, str]] = TABLES[group]
    documented = {
        name: (inspect.getdoc(resolve_name(target)) or "").partition("\n")[0] for name, (target, _) in table.items()
    }

    assert {name: summary for name, (_, summary) in table.items()} == documented


@pytest.mark.parametrize(
    "command", [[*filter(None, [group]), name] for group, table in TABLES.items() for name in table]
)
def test_the_help_of_a_command_is_its_own(command: list[str]) -> None:
    """`modeltrace COMMAND --help` prints the usage, the docstring and the options of the command that is imported."""
    table = TABLES[command[0] if len(command) > 1 else ""]
    alone = typer.Typer(add_completion=False)
    alone.command()(resolve_name(table[command[-1]][0]))

    printed = CliRunner().invoke(app, [*command, "--help"])
    expected = CliRunner().invoke(alone, ["--help"])

    assert printed.exit_code == expected.exit_code == 0
    usage, rest = printed.output.lstrip().split("\n", 1)
    assert f"{' '.join(command)} [OPTIONS]" in usage
    assert rest == expected.output.lstrip().split("\n", 1)[1]


def test_a_wrong_option_is_refused_by_the_command() -> None:
    """An error names the whole command, as that of a command that was there from the start."""
    result = CliRunner().invoke(app, ["audit", "prune", "--nonsense"])

    assert result.exit_code == 2
    assert "audit prune [OPTIONS]" in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["audit", "--help"], ["report", "--help"]])
def test_help_imports_no_command(arguments: list[str]) -> None:
    """Help of a group needs neither a module of a command nor any package that only commands need."""
    program = (
        "import json, sys\n"
        "from modeltrace.cli.main import main\n"
        f"sys.argv = ['modeltrace', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules: list[str] = json.loads(ended.stderr)

    assert {name.partition(".")[0] for name in modules} & HEAVY == set()
    assert [name for name in modules if name.startswith("modeltrace.")] == [
        "modeltrace.cli",
        "modeltrace.cli.main",
        "modeltrace.errors",
        "modeltrace.imports",
    ]
