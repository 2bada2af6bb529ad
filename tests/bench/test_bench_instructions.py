"""What bench/instructions.py counts, and what it says of a count that differs from the committed one."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.baseline import (
    LIBRARIES,
    Entry,
    Platform,
    current_platform,
    find_instructions,
    installed_libraries,
    read_entries,
    replace_entry,
    write_entries,
)
from bench.callgrind import ValgrindError, instructions_per_prediction, valgrind_version
from bench.instructions import count_all, find_differences, no_baseline_message, summarise

LOCK = Path(__file__).parents[2] / "requirements.lock"
HERE = Platform("cpython 3.11.7 (GCC 12.2.0)", "x86_64", "glibc 2.36", "3.19.0")
LIBRARY = {"numpy": "2.0.0"}
COMMITTED = {"service": 1_000_000, "sidecar": 500_000}


@pytest.mark.slow
@pytest.mark.extended
def test_a_prediction_costs_what_is_committed() -> None:
    """Both programs take the committed number of instructions per prediction, within 3 %."""
    try:
        here, libraries = current_platform(valgrind_version()), installed_libraries()
    except ValgrindError as error:
        pytest.skip(str(error))
    expected = find_instructions(read_entries(), here, libraries)
    if expected is None:
        pytest.skip(no_baseline_message(here, libraries))

    found = find_differences(count_all(Console(quiet=True)), expected)

    assert not found, "\n".join(found)


def test_the_committed_counts_are_of_the_locked_libraries() -> None:
    """Whoever locks other versions records new counts: else nothing would be compared any more."""
    locked = set(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))

    assert read_entries()
    for entry in read_entries():
        assert set(entry.libraries) == set(LIBRARIES)
        assert set(entry.libraries.items()) <= locked, "./dev bench instructions --update records new counts"


@pytest.mark.parametrize("change", [-0.03, -0.02, 0.0, 0.02, 0.03])
def test_a_small_difference_is_none(change: float) -> None:
    """Up to 3 % in either direction nothing is said."""
    counted = {program: round(number * (1 + change)) for program, number in COMMITTED.items()}

    assert find_differences(counted, COMMITTED) == []


def test_an_extra_cost_is_an_error_that_says_what_to_do() -> None:
    """Only the program that has become dearer is named, with both counts."""
    (said,) = find_differences({**COMMITTED, "service": 1_031_000}, COMMITTED)

    assert said.startswith("service: 1,031,000 instructions per prediction, 3.1% more than the committed 1,000,000.")
    assert said.endswith("./dev bench instructions --update")


def test_an_improvement_is_to_be_recorded() -> None:
    """A count that has fallen is an error, too: a later loss of the same size would go unnoticed."""
    (said,) = find_differences({**COMMITTED, "sidecar": 480_000}, COMMITTED)

    assert "sidecar: 480,000 instructions per prediction, 4.0% fewer" in said
    assert said.endswith("Record the improvement: ./dev bench instructions --update")


def test_the_main_ratio_is_the_largest() -> None:
    """A program that has become cheaper does not hide one that has become dearer."""
    result = summarise({"service": 900_000, "sidecar": 550_000}, COMMITTED)

    assert result["ratio"] == 1.1
    assert len(result["differences"]) == 2


def test_without_a_committed_count_there_is_no_difference() -> None:
    """The counts are shown all the same, and the message names the combination and the way to record it."""
    result = summarise(COMMITTED, find_instructions([], HERE, LIBRARY))

    assert (result["ratio"], result["instructions"], result["differences"]) == (None, COMMITTED, [])
    assert no_baseline_message(HERE, LIBRARY) == (
        "no committed figure for cpython 3.11.7 (GCC 12.2.0), x86_64, glibc 2.36, valgrind 3.19.0 with numpy 2.0.0; "
        "./dev bench instructions --update records one"
    )


def test_counts_are_found_for_the_very_combination() -> None:
    """Another valgrind or another version of a library has other counts."""
    entries = [Entry(HERE, LIBRARY, COMMITTED)]

    assert find_instructions(entries, HERE, LIBRARY) == COMMITTED
    assert find_instructions(entries, HERE._replace(valgrind="3.24.0"), LIBRARY) is None
    assert find_instructions(entries, HERE, {"numpy": "2.1.0"}) is None


def test_new_counts_replace_those_of_the_same_platform_alone(tmp_path: Path) -> None:
    """What was recorded on another platform stays; for other libraries it is out of date."""
    other, before = (
        Entry(HERE._replace(machine="aarch64"), LIBRARY, COMMITTED),
        Entry(HERE, {"numpy": "1.0.0"}, COMMITTED),
    )
    new = Entry(HERE, LIBRARY, {"service": 1, "sidecar": 2})
    file = tmp_path / "instructions.json"

    write_entries(replace_entry([before, other], new), file)

    assert read_entries(file) == [other, new]
    assert json.loads(file.read_text())[1]["platform"] == HERE._asdict()


def test_what_is_the_same_for_any_number_of_predictions_does_not_count() -> None:
    """Of six parts every second is a phase, of 64, 64 and 320 predictions; the first of them only warms up."""
    assert instructions_per_prediction([999, 90_000, 888, 64 * 100 + 7_000, 777, 320 * 100 + 7_000]) == 100
