"""Counts the instructions of a program of `bench.counted`, with valgrind's callgrind."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from bench.counted.phases import MARK, PHASES, VGDB_PREFIX

ROOT: Final = Path(__file__).parent.parent


class ValgrindError(Exception):
    """Nothing can be counted here; the message says why."""


def valgrind_version() -> str:
    """The version of valgrind on this machine.

    Raises:
        ValgrindError: there is none.
    """
    if not shutil.which("valgrind") or not shutil.which("vgdb"):
        raise ValgrindError("valgrind is not installed (Debian: apt install valgrind)")
    said = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout
    return said.strip().removeprefix("valgrind-")


def program_environment(folder: Path) -> dict[str, str]:
    """The variables of a counted program: only those set here, one thread per numeric library, a fixed hash seed.

    Modules are compiled once, into `folder`: to compile them under callgrind would take longer than to count.
    """
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def run_natively(program: str, folder: Path) -> None:
    """Run a program by itself: it leaves its files, and its modules compiled.

    Raises:
        ValgrindError: it failed.
    """
    _run([sys.executable, "-m", f"bench.counted.{program}", str(folder)], program_environment(folder), program)


def count_instructions(program: str, folder: Path) -> int:
    """Instructions per prediction of a program that has run natively in `folder` before.

    Raises:
        ValgrindError: it failed, or callgrind has not written what was expected.
    """
    prefix, output = folder / "vgdb", folder / f"{program}.callgrind"
    command = [
        "valgrind", "--tool=callgrind", "--instr-atstart=no", f"--dump-before={MARK}", f"--vgdb-prefix={prefix}",
        f"--callgrind-out-file={output}", f"--log-file={folder / program}.log",
        sys.executable, "-m", f"bench.counted.{program}", str(folder),
    ]  # fmt: skip
    _run(command, {**program_environment(folder), VGDB_PREFIX: str(prefix)}, program)
    return instructions_per_prediction(
        [_read_total(Path(f"{output}.{number}"), program) for number in range(1, 2 * len(PHASES) + 1)]
    )


def instructions_per_prediction(totals: list[int]) -> int:
    """Instructions per prediction, of what was counted before each mark; every second part is a phase."""
    _, (small, large) = pairwise(zip(PHASES, totals[1::2], strict=True))
    return round((large[1] - small[1]) / (large[0] - small[0]))


def _run(command: list[str], env: Mapping[str, str], program: str) -> None:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ValgrindError(f"bench.counted.{program} exited with {done.returncode}: {last}")


def _read_total(dump: Path, program: str) -> int:
    try:
        lines = dump.read_text().splitlines()
    except FileNotFoundError:
        raise ValgrindError(
            f"callgrind has not written {dump.name} of bench.counted.{program}: it did not meet every call of {MARK}"
        ) from None
    return next(int(line.removeprefix("totals: ")) for line in reversed(lines) if line.startswith("totals: "))
