"""The way of a prediction, as ARCHITECTURE.md describes it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTION = "## The way of a prediction"
# The programs that count replace the OTLP client, so that they need no receiver.
REPLACED = {"otlp/client.py"}


def documented_modules() -> list[str]:
    """Return the modules in the table of the section."""
    section = (ROOT / "ARCHITECTURE.md").read_text().partition(f"\n{SECTION}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return re.findall(r"`([a-z_/]+\.py)`", "\n".join(rows))


@pytest.mark.slow
def test_the_page_lists_the_modules_that_a_prediction_passes(tmp_path: Path) -> None:
    """Each module whose functions run for a prediction is in the table once, and no other."""
    command = [sys.executable, "-m", "tests.helpers.prediction_path_program", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    passed = json.loads((tmp_path / "modules.json").read_text())

    assert sorted(documented_modules()) == sorted([*passed, *REPLACED])
