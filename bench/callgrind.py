"""Count the instructions of a program of `bench.counted`, with valgrind's callgrind."""

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
    """Instructions cannot be counted on this machine. The message contains the reason."""


def valgrind_version() -> str:
    """Return the version of the installed valgrind.

    Raises:
        ValgrindError: valgrind is not installed.
    """
    if not shutil.which("valgrind") or not shutil.which("vgdb"):
        raise ValgrindError("valgrind is not installed (Debian: apt install valgrind)")
    output = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout
    return output.strip().removeprefix("valgrind-")


def program_environment(folder: Path) -> dict[str, str]:
    """Return the complete environment of a counted program: one thread per numeric library and a fixed hash seed.

    Bytecode is cached in `folder`, because compilation under callgrind would take longer than the counting.
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
    """Run a program without valgrind, so that its input files and its bytecode exist.

    Raises:
        ValgrindError: the program failed.
    """
    _run([sys.executable, "-m", f"bench.counted.{program}", str(folder)], program_environment(folder), program)


def count_instructions(program: str, folder: Path) -> int:
    """Count the instructions per prediction of a program. `run_natively` must have run in `folder` before.

    Raises:
        ValgrindError: the program failed, or callgrind did not write all of its dumps.
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
    """Return the instructions per prediction from the totals of all dumps, of which every second one is a phase."""
    _, (small, large) = pairwise(zip(PHASES, totals[1::2], strict=True))
    return round((large[1] - small[1]) / (large[0] - small[0]))


def _run(command: list[str], env: Mapping[str, str], program: str) -> None:
    process = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if process.returncode:
        last_line = (process.stderr.strip() or "no message").splitlines()[-1]
        raise ValgrindError(f"bench.counted.{program} exited with {process.returncode}: {last_line}")


def _read_total(dump: Path, program: str) -> int:
    try:
        lines = dump.read_text().splitlines()
    except FileNotFoundError:
        raise ValgrindError(
            f"callgrind has not written {dump.name} of bench.counted.{program}: it did not observe every call of {MARK}"
        ) from None
    return next(int(line.removeprefix("totals: ")) for line in reversed(lines) if line.startswith("totals: "))
