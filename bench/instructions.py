"""Instructions per prediction, which do not depend on the speed and the load of the machine.

Two programs run under callgrind, a tool of valgrind. `service` answers predictions, from the ASGI call to the frame
for the sidecar. `sidecar` reads these frames and writes OTLP, log lines and rows of the prediction store. The counts
are compared with bench/instructions.json. A difference of more than 3 % in either direction is an error, so that the
file stays correct. `--update` writes the new counts to the file.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.baseline import (
    Entry,
    Platform,
    current_platform,
    find_instructions,
    installed_libraries,
    read_entries,
    replace_entry,
    write_entries,
)
from bench.callgrind import ValgrindError, count_instructions, run_natively, valgrind_version
from bench.command import make_parser, print_as

PROGRAMS: Final = ("service", "sidecar")
TOLERANCE: Final = 0.03
UPDATE: Final = "./dev bench instructions --update"


def count_all(console: Console) -> dict[str, int]:
    """Count the instructions of both programs. This takes about 30 s of CPU time.

    Raises:
        ValgrindError: instructions cannot be counted on this machine.
    """
    with tempfile.TemporaryDirectory(prefix="modeltrace-") as name:
        folder = Path(name)
        for program in PROGRAMS:
            run_natively(program, folder)
        counts = {}
        for program in PROGRAMS:
            console.print(f"[dim]counting: {program}[/dim]")
            counts[program] = count_instructions(program, folder)
        return counts


def find_differences(counted: dict[str, int], expected: dict[str, int]) -> list[str]:
    """Return a message for each count that differs from the committed one by more than the tolerance."""
    messages = []
    for program, number in counted.items():
        change = number - expected[program]
        if abs(change) <= TOLERANCE * expected[program]:
            continue
        share, direction = f"{abs(change) / expected[program]:.1%}", "more" if change > 0 else "fewer"
        action = "Make it cheaper, or record it if the cost is justified" if change > 0 else "Record the improvement"
        messages.append(
            f"{program}: {number:,} instructions per prediction, {share} {direction} than the committed "
            f"{expected[program]:,}. {action}: {UPDATE}"
        )
    return messages


def summarise(counted: dict[str, int], expected: dict[str, int] | None) -> dict[str, Any]:
    """Return counts, committed counts and ratios. `ratio` is the largest one, or `None` without committed counts."""
    ratios = {name: round(number / expected[name], 4) for name, number in counted.items()} if expected else {}
    return {
        "ratio": max(ratios.values(), default=None),
        "instructions": counted,
        "committed": expected,
        "ratios": ratios,
        "differences": find_differences(counted, expected) if expected else [],
    }


def no_baseline_message(platform: Platform, libraries: dict[str, str]) -> str:
    """Return the message that no committed count exists for this platform and these libraries."""
    versions = ", ".join(f"{name} {number}" for name, number in libraries.items())
    return f"no committed count for {platform} with {versions}; {UPDATE} records one"


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    table = Table("program", "instructions per prediction", "committed", "ratio")
    for program, number in result["instructions"].items():
        expected = result["committed"][program] if result["committed"] else None
        table.add_row(
            program, f"{number:,}", f"{expected:,}" if expected else "", str(result["ratios"].get(program, ""))
        )
    Console().print(table)


def main() -> None:
    """Parse the arguments, run the bench and print the result. Exit with 1 if counts differ."""
    parser = make_parser(__doc__)
    parser.add_argument("--update", action="store_true", help="record the counts in bench/instructions.json")
    arguments = parser.parse_args()
    console = Console(stderr=True, soft_wrap=True)
    try:
        here, libraries = current_platform(valgrind_version()), installed_libraries()
        counted = count_all(console)
    except ValgrindError as error:
        sys.exit(f"bench instructions: {error}")
    entries = read_entries()
    result = summarise(counted, find_instructions(entries, here, libraries))
    print_as(result, print_result, as_json=arguments.json)
    if arguments.update:
        write_entries(replace_entry(entries, Entry(here, libraries, counted)))
        console.print(f"recorded for {here}")
    elif result["committed"] is None:
        console.print(no_baseline_message(here, libraries))
    elif result["differences"]:
        sys.exit("\n".join(result["differences"]))


if __name__ == "__main__":
    main()
