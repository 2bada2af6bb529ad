"""The instructions bench: its counts, and its messages about counts that differ from the committed ones."""

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
from bench.counted.model import build_model
from bench.counted.phases import NEVER
from bench.instructions import count_all, find_differences, no_baseline_message, summarise
from modeltrace.inference.pipeline import Pipeline
from modeltrace.inference.prediction_ids import PredictionIdSigner

LOCK = Path(__file__).parents[2] / "requirements.lock"
HERE = Platform("cpython 3.11.7 (GCC 12.2.0)", "x86_64", "glibc 2.36", "3.19.0")
LIBRARY = {"numpy": "2.0.0"}
COMMITTED = {"service": 1_000_000, "sidecar": 500_000}


@pytest.mark.slow
@pytest.mark.extended
def test_instructions_per_prediction_match_the_committed_counts() -> None:
    """The counts of both programs differ by at most 3 % from the committed ones."""
    try:
        here, libraries = current_platform(valgrind_version()), installed_libraries()
    except ValgrindError as error:
        pytest.skip(str(error))
    expected = find_instructions(read_entries(), here, libraries)
    if expected is None:
        pytest.skip(no_baseline_message(here, libraries))

    messages = find_differences(count_all(Console(quiet=True)), expected)

    assert not messages, "\n".join(messages)


def test_the_counted_model_predicts_on_the_event_loop() -> None:
    """Its latency is known, because it predicts its own example. Otherwise each count would include a thread."""
    pipeline = Pipeline(build_model(), PredictionIdSigner(b"a key for counting only"))

    assert pipeline.measure_latency() < NEVER


def test_committed_counts_are_for_the_locked_library_versions() -> None:
    """A new version of a library needs new counts, because otherwise no count would be compared any more."""
    locked = set(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))

    assert read_entries()
    for entry in read_entries():
        assert set(entry.libraries) == set(LIBRARIES)
        assert set(entry.libraries.items()) <= locked, "./dev bench instructions --update records new counts"


@pytest.mark.parametrize("change", [-0.03, -0.02, 0.0, 0.02, 0.03])
def test_a_difference_of_up_to_3_percent_is_accepted(change: float) -> None:
    """There is no message in either direction."""
    counted = {program: round(number * (1 + change)) for program, number in COMMITTED.items()}

    assert find_differences(counted, COMMITTED) == []


def test_a_higher_count_is_an_error_with_instructions() -> None:
    """The message names only the program with the higher count, and both counts."""
    (message,) = find_differences({**COMMITTED, "service": 1_031_000}, COMMITTED)

    assert message.startswith("service: 1,031,000 instructions per prediction, 3.1% more than the committed 1,000,000.")
    assert message.endswith("./dev bench instructions --update")


def test_a_lower_count_is_an_error() -> None:
    """A lower count is an error, because a later increase of the same size would not be detected otherwise."""
    (message,) = find_differences({**COMMITTED, "sidecar": 480_000}, COMMITTED)

    assert "sidecar: 480,000 instructions per prediction, 4.0% fewer" in message
    assert message.endswith("Record the improvement: ./dev bench instructions --update")


def test_the_main_ratio_is_the_largest() -> None:
    """A lower count of one program does not hide a higher count of the other."""
    result = summarise({"service": 900_000, "sidecar": 550_000}, COMMITTED)

    assert result["ratio"] == 1.1
    assert len(result["differences"]) == 2


def test_without_committed_counts_there_is_no_difference() -> None:
    """The counts are shown, and the message names the platform and the command that records them."""
    result = summarise(COMMITTED, find_instructions([], HERE, LIBRARY))

    assert (result["ratio"], result["instructions"], result["differences"]) == (None, COMMITTED, [])
    assert no_baseline_message(HERE, LIBRARY) == (
        "no committed count for cpython 3.11.7 (GCC 12.2.0), x86_64, glibc 2.36, valgrind 3.19.0 with numpy 2.0.0; "
        "./dev bench instructions --update records one"
    )


def test_counts_apply_to_exactly_one_platform_and_library_combination() -> None:
    """Counts of another valgrind or another version of a library are not used."""
    entries = [Entry(HERE, LIBRARY, COMMITTED)]

    assert find_instructions(entries, HERE, LIBRARY) == COMMITTED
    assert find_instructions(entries, HERE._replace(valgrind="3.24.0"), LIBRARY) is None
    assert find_instructions(entries, HERE, {"numpy": "2.1.0"}) is None


def test_new_counts_replace_those_of_the_same_platform(tmp_path: Path) -> None:
    """Counts of another platform stay; counts of other library versions are removed."""
    other_platform, previous = (
        Entry(HERE._replace(machine="aarch64"), LIBRARY, COMMITTED),
        Entry(HERE, {"numpy": "1.0.0"}, COMMITTED),
    )
    new = Entry(HERE, LIBRARY, {"service": 1, "sidecar": 2})
    file = tmp_path / "instructions.json"

    write_entries(replace_entry([previous, other_platform], new), file)

    assert read_entries(file) == [other_platform, new]
    assert json.loads(file.read_text())[1]["platform"] == HERE._asdict()


def test_constant_costs_are_not_part_of_the_count() -> None:
    """Every second total is a phase, of 64, 64 and 320 predictions; the first phase is a warm-up."""
    assert instructions_per_prediction([999, 90_000, 888, 64 * 100 + 7_000, 777, 320 * 100 + 7_000]) == 100
