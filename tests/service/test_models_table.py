"""The table of docs/models.md agrees with what `pack` and the service do with each estimator."""

from pathlib import Path

import pytest

from tests.helpers.estimator_cases import cases
from tests.helpers.estimator_table import documented_lines, measure

CASES = cases()
LINES = documented_lines()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if case.quick else pytest.mark.extended) for name, case in CASES.items()],
)
@pytest.mark.slow
def test_a_line_equals_a_new_measurement(name: str, tmp_path: Path) -> None:
    """All cells except the time equal a new measurement: the outputs, their equality with the estimator, and ONNX."""
    line = measure(CASES[name], tmp_path).without_time()

    assert LINES[name].rsplit("|", 2)[0] == line


def test_the_table_has_a_line_for_each_estimator() -> None:
    """The lines are in the order of the cases, as the generator writes them."""
    assert list(LINES) == list(CASES)
