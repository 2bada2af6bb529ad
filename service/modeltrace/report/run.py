"""Run a program of `modeltrace.report.programs` in the virtual environment of its library."""

import json
import os
import subprocess
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

from modeltrace.errors import ModeltraceError

# Disable usage analytics, downloads from model hubs, and the use of GPUs.
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
# Variables that the program does not inherit. Settings may contain secrets, and PYTHON* variables change its imports.
_REMOVED_PREFIXES: Final = ("MODELTRACE_", "OTEL_", "PYTHON")
_MAX_MESSAGE: Final = 400


class ProgramError(ModeltraceError):
    """A library failed on its input."""


def run_program(python: Path, name: str, description: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run a program, and return the summary that it prints.

    Args:
        python: the Python interpreter of the library's virtual environment.
        name: the name of the module in `modeltrace.report.programs`.
        description: the input of the program, passed as a file in `folder`.
        folder: the program's home and working directory, which the caller deletes afterwards.

    Raises:
        ProgramError: the program failed; the message has the last line of its stderr.
    """
    argument = folder / "description.json"
    argument.write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")
    with as_file(files("modeltrace.report.programs") / f"{name}.py") as program:
        try:
            process = subprocess.run(  # noqa: S603  a program of this package
                [str(python), "-I", "-X", "utf8", str(program), str(argument)],
                env=_environment(folder), cwd=folder, capture_output=True, text=True, encoding="utf-8",
                errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            raise ProgramError(f"{python} cannot be started: {error.strerror or error}") from None
    if process.returncode:
        lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
        reason = lines[-1][:_MAX_MESSAGE] if lines else f"exit code {process.returncode}"
        raise ProgramError(f"{python} {name}: {reason}")
    summary: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return summary


def _environment(folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_REMOVED_PREFIXES)}
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    return {**inherited, **home, **LIBRARY_ENV}
