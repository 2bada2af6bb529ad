"""Runs a program of `modeltrace.report.programs` in the environment of its library."""

import json
import os
import subprocess
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

from modeltrace.errors import ModeltraceError

# Nothing of these libraries calls home; none of them looks for a GPU or a model hub.
LIBRARY_ENV: Final = {
    "DO_NOT_TRACK": "1",
    "WHYLOGS_NO_ANALYTICS": "True",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "MPLBACKEND": "Agg",
}
# What the program is not told: our settings hold secrets, and these variables would change what it imports.
_REMOVED_PREFIXES: Final = ("MODELTRACE_", "OTEL_", "PYTHON")
_MAX_MESSAGE: Final = 400


class ProgramError(ModeltraceError):
    """A library failed on the data that it was given."""


def run_program(python: Path, name: str, description: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run one with its description; the summary that it prints.

    Args:
        python: of the library's environment.
        name: of the module in `modeltrace.report.programs`.
        description: what the program reads and where it writes; it goes through a file in `folder`.
        folder: the program's home as long as it runs: what its library leaves there goes with it.

    Raises:
        ProgramError: it failed; the message has the last line that it said.
    """
    said = folder / "description.json"
    said.write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")
    with as_file(files("modeltrace.report.programs") / f"{name}.py") as program:
        try:
            done = subprocess.run(  # noqa: S603  our own program
                [str(python), "-I", "-X", "utf8", str(program), str(said)],
                env=_environment(folder), cwd=folder, capture_output=True, text=True, encoding="utf-8",
                errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            raise ProgramError(f"{python} cannot be started: {error.strerror or error}") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ProgramError(f"{python} {name}: {lines[-1][:_MAX_MESSAGE] if lines else f'exit code {done.returncode}'}")
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_REMOVED_PREFIXES)}
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    return {**kept, **home, **LIBRARY_ENV}
