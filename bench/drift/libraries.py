"""False alarms and power of the defaults of Evidently, NannyML and Alibi Detect, on the same samples as Modeltrace."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from bench.drift.intervals import clustered_share
from bench.drift.populations import Population
from bench.drift.product import Monitor, request_rows
from bench.drift.shifts import MIXED, SHIFTS, load_population, mixed_population
from bench.peers.environments import InstallError, create_environment
from modeltrace.report.venvs import ALIBI, EVIDENTLY, VenvError, ensure_venv

PROGRAMS: Final = Path(__file__).with_name("programs")
MODELTRACE: Final = "Modeltrace"
POPULATIONS: Final = ("breast-cancer", "diabetes", "shuttle", "heavy tails", "identifiers", "rare categories", "ties",
                      "float32", "missing values", MIXED)  # fmt: skip
TRAINING_ROWS: Final = (400, 2000)
WINDOW_SIZES: Final = (200, 1000)
SHIFTED: Final = "shifts"
SHIFTED_SIZES: Final = (200, 500, 1000, 2000, 5000)
WINDOWS_PER_MODEL: Final = 5

Alarms = dict[str, dict[int, list[list[bool]]]]  # by library and window size, a list for each training sample


def install_libraries(on_progress: Callable[[str], None]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the Python of each library by the name of its program, and the error of each that cannot be installed."""
    requirements = [
        line for line in (PROGRAMS / "nannyml.in").read_text().splitlines() if line and not line.startswith("#")
    ]
    installers: dict[str, Callable[[], Path]] = {
        "evidently_drift": lambda: ensure_venv(EVIDENTLY, on_progress),
        "nannyml_drift": lambda: create_environment("nannyml", requirements, on_progress),
        "alibi_drift": lambda: ensure_venv(ALIBI, on_progress),
    }
    pythons, problems = {}, {}
    for name, install in installers.items():
        try:
            pythons[name] = install()
        except (InstallError, VenvError) as error:
            problems[name] = str(error)
            on_progress(str(error))
    return pythons, problems


def compare_false_alarms(
    name: str, training_rows: int, windows: int, pythons: Mapping[str, Path], rng: np.random.Generator
) -> dict[str, Any]:
    """Return the share of windows without drift that raise an alarm, by library and window size."""
    population = load_population(name, rng)

    def unchanged(rows: pd.DataFrame, _: int) -> pd.DataFrame:
        return rows

    return _compare(population, unchanged, training_rows, WINDOW_SIZES, windows, pythons, rng)


def compare_power(
    shift_name: str, training_rows: int, windows: int, pythons: Mapping[str, Path], rng: np.random.Generator
) -> dict[str, Any]:
    """Return the share of shifted windows that raise an alarm, by library and window size."""
    shift = next(shift for shift in SHIFTS if shift.name == shift_name)

    def apply(rows: pd.DataFrame, turn: int) -> pd.DataFrame:
        return shift.apply(rows, shift.columns, turn, rng)

    return _compare(mixed_population(rng), apply, training_rows, SHIFTED_SIZES, windows, pythons, rng)


def _compare(
    population: Population,
    change: Callable[[pd.DataFrame, int], pd.DataFrame],
    training_rows: int,
    sizes: Sequence[int],
    windows: int,
    pythons: Mapping[str, Path],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Draw samples, and return the share of windows that raise an alarm, by library and window size."""
    alarms: Alarms = {MODELTRACE: {size: [] for size in sizes}}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder)
        for turn in range(windows // WINDOWS_PER_MODEL):
            training, _ = population.draw_training(rng, training_rows)
            pool = change(population.sent_rows(rng), turn)
            monitor = Monitor(training)
            binned = monitor.bin(request_rows(pool))
            columns = _column_kinds(training)
            (job / "columns.json").write_text(json.dumps(columns))
            sample = job / f"{turn:03d}"
            sample.mkdir()
            _convert(training, columns).to_parquet(sample / "training.parquet")
            for size in sizes:
                drawn = rng.integers(len(pool), size=(WINDOWS_PER_MODEL, size))
                results = [monitor.check(monitor.count(binned, window)) for window in drawn]
                alarms[MODELTRACE][size].append(
                    [any(result.state == "drift" for _, result in window) for window in results]
                )
                rows = _convert(pool.iloc[drawn.ravel()].reset_index(drop=True), columns)
                rows.to_parquet(sample / f"windows-{size}.parquet")
        for program, python in pythons.items():
            for library, by_size in _run_program(program, python, job).items():
                alarms[library] = by_size
    return {
        library: {size: clustered_share(clusters)._asdict() for size, clusters in by_size.items()}
        for library, by_size in alarms.items()
    }


def _run_program(program: str, python: Path, job: Path) -> Alarms:
    process = subprocess.run(
        [python, PROGRAMS / f"{program}.py", job], capture_output=True, text=True, check=False, cwd=job
    )
    if process.returncode:
        raise RuntimeError(f"{program} failed: {process.stderr[-1000:]}")
    alarms: Alarms = {}
    for size, by_name in json.loads(process.stdout.splitlines()[-1]).items():
        for library, raised in by_name.items():
            clusters = [raised[start : start + WINDOWS_PER_MODEL] for start in range(0, len(raised), WINDOWS_PER_MODEL)]
            alarms.setdefault(library, {})[int(size)] = clusters
    return alarms


def _column_kinds(rows: pd.DataFrame) -> dict[str, str]:
    return {
        str(name): "number"
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        else "category"
        for name, column in rows.items()
    }


def _convert(rows: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Convert columns to floats and texts, which all libraries accept."""
    return pd.DataFrame(
        {
            name: rows[name].astype(np.float64)
            if kind == "number"
            else rows[name].astype(object).map(str, na_action="ignore").astype(object)
            for name, kind in columns.items()
        }
    )
