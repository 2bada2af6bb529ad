"""How often the drift check raises false alarms, and how many predictions it needs to detect drift.

False alarms: training data and windows are drawn with replacement from a population, which is a real or generated data
set. Their rows are independent, and nothing drifts. A window raises an alarm if the state of any statistic of any
feature, or of the model's outputs, is drift.

Power: columns of the windows are changed. The bench reports from which window size on half of the runs, and 95 % of the
runs, raise an alarm.

Alerts: a month of requests is evaluated as Prometheus does it. The bench counts the alerts that fire without drift.

Libraries: the same samples are checked by Evidently, NannyML and Alibi Detect with their defaults.

Dependence: windows are drawn whose rows depend on the rows before them. Nothing drifts, but such windows vary more.

Binning: compares KS of bins with KS of values, and PSI of 10 with 100 bins.
"""

import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from bench.command import make_parser, print_as
from bench.drift import alert_months, libraries, power
from bench.drift.binning import measure_binning
from bench.drift.dependence import measure_dependence
from bench.drift.false_alarms import TRAINING_SIZES, measure_false_alarms
from bench.drift.populations import GENERATED
from bench.drift.real_data import REAL, export_tables, needs_export
from bench.drift.render import print_result
from bench.drift.shifts import MIXED, SHIFTS, load_population
from bench.peers.environments import InstallError

POPULATIONS: Final = (*REAL, *GENERATED, MIXED)
FALSE_ALARMS: Final = "false alarms"
POWER: Final = "power"
ALERTS: Final = "alerts"
LIBRARIES: Final = "libraries"
LIBRARIES_POWER: Final = "libraries, power"
DEPENDENCE: Final = "dependence"
BINNING: Final = "binning"


class Task(NamedTuple):
    """A part of the bench that runs in its own process."""

    part: str
    name: str
    number: int = 0  # training rows, or predictions per hour

    @property
    def title(self) -> str:
        """The task in words."""
        return f"{self.part}: {self.name}" + (f", {self.number:,}" if self.number else "")


class Effort(NamedTuple):
    """How often each part is repeated."""

    windows: int
    runs: int
    months: int
    samples: int


FULL: Final = Effort(windows=1000, runs=200, months=20, samples=50)
QUICK: Final = Effort(windows=100, runs=50, months=4, samples=10)


def run_task(task: Task, effort: Effort, pythons: Mapping[str, Path], seed: int) -> dict[Any, Any]:
    """Run one task. Its random numbers do not depend on the other tasks."""
    warnings.filterwarnings("ignore", module="sklearn")  # constant columns, models that did not converge
    rng = np.random.default_rng([seed, *task.title.encode()])
    if task.part == BINNING:
        return measure_binning(rng)
    if task.part == DEPENDENCE:
        return measure_dependence(effort.runs, rng)
    if task.part == POWER:
        return power.measure_power(task.name, effort.runs, rng)
    if task.part in (LIBRARIES, LIBRARIES_POWER):
        compare = libraries.compare_false_alarms if task.part == LIBRARIES else libraries.compare_power
        return compare(task.name, task.number, effort.samples, pythons, rng)
    if task.part == ALERTS:
        return alert_months.measure_alerts(task.name, task.number, effort.months, rng)
    return measure_false_alarms(load_population(task.name, rng), task.number, effort.windows, rng)


def plan(parts: Sequence[str], populations: Sequence[str], training_sizes: Sequence[int]) -> list[Task]:
    """Return the tasks of the selected parts."""
    tasks = []
    if FALSE_ALARMS in parts:
        tasks += [Task(FALSE_ALARMS, name, rows) for name in populations for rows in training_sizes]
    if POWER in parts:
        tasks += [Task(POWER, name) for name in power.PARTS]
    if ALERTS in parts:
        tasks += [Task(ALERTS, name, rate) for name in alert_months.POPULATIONS for rate in alert_months.RATES]
    if LIBRARIES in parts:
        tasks += [Task(LIBRARIES, name, n) for name in libraries.POPULATIONS for n in libraries.TRAINING_ROWS]
        tasks += [Task(LIBRARIES_POWER, shift.name, power.TRAINING_ROWS) for shift in SHIFTS]
    if DEPENDENCE in parts:
        tasks.append(Task(DEPENDENCE, "numbers and texts"))
    if BINNING in parts:
        tasks.append(Task(BINNING, "breast-cancer"))
    return tasks


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parts = (FALSE_ALARMS, POWER, ALERTS, LIBRARIES, DEPENDENCE, BINNING)
    parser.add_argument("--part", action="append", choices=parts, help="measure this part only (repeatable)")
    parser.add_argument(
        "--data", action="append", choices=POPULATIONS, metavar="NAME",
        help=f"draw false alarms from this data set only (repeatable): {', '.join(POPULATIONS)}",
    )  # fmt: skip
    parser.add_argument(
        "--training-rows", action="append", type=int, metavar="N",
        help="rows of the training data for false alarms (repeatable)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a fraction of the windows, runs and months")
    parser.add_argument("--windows", type=int, help=f"undrifted windows of each size (default: {FULL.windows})")
    parser.add_argument("--runs", type=int, help=f"runs of each shift and window size (default: {FULL.runs})")
    parser.add_argument("--months", type=int, help=f"simulated months of each model (default: {FULL.months})")
    parser.add_argument("--samples", type=int, help=f"windows for other libraries (default: {FULL.samples})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    default = QUICK if options.quick else FULL
    effort = Effort(*(getattr(options, name) or getattr(default, name) for name in Effort._fields))
    training_sizes = options.training_rows or ((100, 2000) if options.quick else TRAINING_SIZES)
    selected = options.part or parts
    populations = list(options.data or POPULATIONS)
    not_measured = {}
    if FALSE_ALARMS in (selected) and needs_export(populations):
        try:
            export_tables(print_progress)
        except InstallError as error:
            not_measured = {name: str(error) for name in populations if needs_export([name])}
            populations = [name for name in populations if name not in not_measured]
            print_progress(f"{error}. Not measured: {', '.join(not_measured)}")
    pythons: dict[str, Path] = {}
    if LIBRARIES in selected:
        pythons, problems = libraries.install_libraries(print_progress)
        not_measured.update(problems)
    tasks = plan(selected, populations, training_sizes)
    started, results = time.monotonic(), {}
    with ProcessPoolExecutor(options.jobs) as pool:
        futures = {pool.submit(run_task, task, effort, pythons, options.seed): task for task in tasks}
        for number, future in enumerate(as_completed(futures), 1):
            task = futures[future]
            results[task] = future.result()
            print_progress(f"[{number}/{len(tasks)}, {time.monotonic() - started:.0f} s] {task.title}")
    by_name: dict[str, dict[str, Any]] = {part: {} for part in (*parts, LIBRARIES_POWER)}
    for task in tasks:
        if task.number:
            by_name[task.part].setdefault(task.name, {})[task.number] = results[task]
        else:
            by_name[task.part][task.name] = results[task]
    seconds = round(time.monotonic() - started)
    result = {**effort._asdict(), **by_name, "not measured": not_measured, "seconds": seconds}
    print_as(result, print_result, as_json=options.json)


def print_progress(line: str) -> None:
    """Print a progress message to stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
