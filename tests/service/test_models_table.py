"""The table of docs/models.md says what `pack`, the service and the estimator do."""

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
def test_a_line_is_what_is_measured(name: str, tmp_path: Path) -> None:
    """Everything but the time: the answer, its equality with the estimator's predictions, and ONNX."""
    line = measure(CASES[name], tmp_path).without_time()

    assert LINES[name].rsplit("|", 2)[0] == line


def test_the_table_has_a_line_for_each_estimator() -> None:
    """The page is not edited by hand, in the order of the cases."""
    assert list(LINES) == list(CASES)
