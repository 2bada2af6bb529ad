"""Without the extra `arrow`, everything but Arrow, Parquet and batch scoring works, and messages name the extra."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
INSTALL = "pip install 'modeltrace[arrow]'"

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError(f"No module named {name}", name=name)

sys.meta_path.insert(0, Blocked())
"""

pytestmark = pytest.mark.slow


def run(code: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run code in a process in which an import of pyarrow raises ModuleNotFoundError."""
    command = [sys.executable, "-W", "ignore", "-c", BLOCK + code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_bundle_with_held_out_rows_is_packed_and_read(tmp_path: Path) -> None:
    """Test rows are JSON Lines with the values that requests have; other uses of pyarrow say how to install it."""
    done = run("import runpy; runpy.run_module('tests.helpers.without_pyarrow_program', run_name='__main__')", tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)

    assert "traffic.jsonl" in result["files"]
    assert "traffic.parquet" not in result["files"]
    assert (result["labels"], result["predictions"], result["accepts_arrow"]) == (True, True, False)
    assert result["row"] == {"city": "Ulm", "start": "2024-04-09T01:00:00", "size": None}
    kinds = {
        "body": "UnsupportedContentTypeError: application/vnd.apache.arrow.stream needs pyarrow",
        "table": "RowSourceError: ",
        "training": "PackError: ",
        "export": "ExportError: the formats csv and parquet need pyarrow",
        "client": "ModeltraceError: arrow=True needs pyarrow",
    }
    for name, kind in kinds.items():
        assert result[name].startswith(kind), result[name]
        assert INSTALL in result[name]
    assert result["pyarrow"] == []


@pytest.mark.parametrize("arguments", [["score", "rows.csv", "--out", "out.csv", "--bundle", "m"], ["report", "alibi"]])
def test_commands_that_need_pyarrow_say_so(arguments: list[str]) -> None:
    """One line on stderr, and exit code 1."""
    done = run("from modeltrace.cli.main import main; main()", *arguments)

    assert done.returncode == 1, done.stderr
    assert done.stderr.strip() == f"modeltrace: this command needs pyarrow: {INSTALL}"


def test_the_other_processes_start() -> None:
    """The service, its sidecar, the hub and the commands do not import pyarrow, and a SQL query of the hub needs it."""
    commands = ", ".join(
        f"modeltrace.cli.{name}" for name in ("audit", "doctor", "evaluate", "pack", "serve", "traffic")
    )
    done = run(
        f"import {commands}, modeltrace.app, modeltrace.sidecar.run, modeltrace_hub.app; "
        "from modeltrace_hub.sql_query.runner import SqlRunner; from modeltrace_hub.store import Store; "
        "sys.meta_path.pop(0); sys.modules['pyarrow'] = None; "
        "SqlRunner(Store(None, max_bytes=1 << 24)).run('SELECT 1')"
    )

    assert done.returncode == 1
    assert f"InvalidQueryError: SQL queries need pyarrow, which is not installed: {INSTALL}" in done.stderr
