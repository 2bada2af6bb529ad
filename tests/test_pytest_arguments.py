"""Any list of test files can be given to one call of pytest."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_files_of_several_folders_can_be_given_in_any_order() -> None:
    """Fixtures of a folder are found if files of its parent folder stand between files of the folder."""
    tests = (
        "tests/hub/test_hub_store.py::test_the_schema_version_identifies_the_schema",
        "tests/test_docs.py::test_every_port_of_the_stack_is_documented",
        "tests/hub/test_hub_resources.py::test_a_rejected_record_leaves_no_resource",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout
